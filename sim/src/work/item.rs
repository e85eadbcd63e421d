//! What a kind of work is, and one piece of it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use evermux::{MuxManager, MuxStream, OpenError, Session};
use rand_chacha::ChaCha8Rng;
use tokio::time::sleep;

use crate::counters::Counters;
use crate::plan::Side;
use crate::verdict::Violation;

/// A kind of work.
pub struct Work {
    /// What it is called in a plan.
    pub name: &'static str,
    /// What a caller does, in one sentence.
    pub about: &'static str,
    /// How many bytes one piece of it moves at most, one way, of a caller with so many.
    pub moves: fn(u64) -> u64,
    /// How long the pauses of both sides are in one piece of it, in milliseconds at most.
    pub pauses_ms: u64,
    /// Whether a peer can do its part that is not evermux.
    pub foreign: bool,
    /// Whether random plans have it.
    pub drawn: bool,
    /// Does one piece of it.
    pub run: for<'a> fn(&'a mut WorkItem) -> Doing<'a>,
}

/// What the frames of short messages come to, many at once.
pub(super) const LITTLE: u64 = 32 << 10;

/// A piece of work that is being done.
pub type Doing<'a> = Pin<Box<dyn Future<Output = Result<(), Failed>> + 'a>>;

/// One piece of work.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct WorkItem {
    /// The session that the caller was given.
    pub session: Session,
    /// The manager that gave it.
    pub manager: MuxManager,
    /// What is random in it.
    pub rng: ChaCha8Rng,
    /// How many bytes it moves.
    pub bytes: usize,
    /// How many streams the other side lets wait until it accepts them.
    pub backlog: usize,
    /// Whether the other side has room for all streams that a peer sends before it waits.
    pub has_room: bool,
    /// Whether nothing goes wrong in this run, so that nothing has an excuse.
    pub calm: bool,
    /// Whether the network loses nothing. Where it does, much takes very long.
    pub lossless: bool,
    /// Whether a session ends by itself after some hundred streams.
    pub is_limited: bool,
    /// How long all that callers move takes on its way.
    pub bulk: Duration,
    /// How long it takes there and back at least.
    pub path: Duration,
    /// How exact the times are.
    pub grain: Duration,
    /// Whether it went to another session.
    pub moved: Cell<bool>,
    /// Whether the caller has learnt that the session is gone.
    pub is_gone: Cell<bool>,
    /// On which side the session is.
    pub side: Side,
    /// The ids of the streams that were opened on the session.
    pub ids: StreamIds,
    /// Counts what is rare.
    pub counters: Counters,
}

/// The last ids of streams that were opened on one session.
pub type StreamIds = Rc<RefCell<BTreeSet<u32>>>;

/// How many are kept. A stream whose opener is told of it so much later would be taken for one that was opened before.
const IDS_KEPT: usize = 2_048;

/// Whether an id was not there before, as far as they are kept.
fn is_new(ids: &mut BTreeSet<u32>, id: u32) -> bool {
    let is_kept = ids.len() < IDS_KEPT || ids.first().is_some_and(|first| id > *first);
    let is_new = is_kept && ids.insert(id);
    if ids.len() > IDS_KEPT {
        ids.pop_first();
    }
    is_new
}

/// What is wrong with the id of a stream that was opened on this side: who dials has the odd ones.
pub fn wrong_id(id: u32, opened_by: Side) -> Option<Violation> {
    let is_right = id > 0 && id.is_multiple_of(2) == (opened_by == Side::Receiver);
    (!is_right).then(|| Violation::new("G16", format!("a stream has the id {id}, and was opened by the {opened_by:?}")))
}

/// By then a session that ends, or takes no more streams, has said so.
const TOLD_WITHIN: Duration = Duration::from_secs(1);

impl WorkItem {
    /// Whether the session lives and takes streams, after whoever ends it had time to say so.
    pub async fn goes_on(&self) -> bool {
        sleep(TOLD_WITHIN).await;
        if self.session.is_closed() {
            return false;
        }
        !matches!(self.session.open_stream().await, Err(OpenError::Draining | OpenError::Lost(_)))
    }

    /// Opens a stream, which the other side greets.
    ///
    /// # Errors
    ///
    /// As `Session::open_stream`. When it says that the session takes no more streams, the caller knows that it is gone.
    /// And where the stream is not one of its own.
    pub async fn open(&self) -> Result<MuxStream, Failed> {
        match self.session.open_stream().await {
            Ok(stream) => {
                if let Some(wrong) = wrong_id(stream.id(), self.side) {
                    return Err(wrong.into());
                }
                if stream.session_id() != self.session.id() || !is_new(&mut self.ids.borrow_mut(), stream.id()) {
                    return Err(Violation::new("G16", format!("{stream:?} was opened before, or elsewhere")).into());
                }
                Ok(stream)
            }
            Err(error) => {
                if matches!(error, OpenError::Draining | OpenError::Lost(_)) {
                    self.is_gone.set(true);
                }
                Err(io::Error::from(error).into())
            }
        }
    }
}

/// Why a piece of work is not done.
#[derive(Debug)]
pub enum Failed {
    /// It was interrupted: it may be done again, on the next session.
    Interrupted(io::Error),
    /// A guarantee was broken.
    Violation(Violation),
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Self::Interrupted(error)
    }
}

impl From<Violation> for Failed {
    fn from(broken: Violation) -> Self {
        Self::Violation(broken)
    }
}
