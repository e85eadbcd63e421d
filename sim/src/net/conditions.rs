//! What faults do to the sockets of one host.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::history::Silence;
use crate::interpose::elapsed;
use crate::plan::Sockets;

/// What faults do to the sockets of one host. Clones speak of the same host.
///
/// A fault that several events cause at once lasts until the last of them is over: each begins it and ends it once.
#[derive(Clone, Debug, Default)]
pub struct Conditions(Arc<Mutex<State>>);

/// How a connection is cut, as both ends see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// A proxy on the way has closed it: end of file, whatever was on its way.
    Fin,
    /// It was reset.
    Reset,
}

#[derive(Debug, Default)]
struct State {
    /// Nothing listens.
    refuse: u32,
    /// `accept` fails.
    accept_errors: u32,
    /// Connections are accepted, and left alone.
    silent: u32,
    /// Reads of every socket wait.
    reading_stopped: u32,
    /// What is dialled is never answered, and what was open carries nothing any more.
    black_hole: u32,
    /// Inbound streams are not accepted.
    accepting_stopped: u32,
    /// Dialling fails for good, and whether it ever did.
    fatal: u32,
    has_been_fatal: bool,
    /// Dialling fails at once.
    dial_errors: u32,
    /// Names have no addresses.
    names_lost: u32,
    /// Names are not answered.
    names_slow: u32,
    /// The bytes a second that each socket writes, for each event that limits them.
    rates: Vec<u64>,
    /// The most that one read or write moves.
    chunk: usize,
    kind: Sockets,
    /// What is random in them.
    rng: Option<ChaCha8Rng>,
    next_socket: u64,
    sockets: BTreeMap<u64, Entry>,
    /// Who waits for a change.
    waiting: Vec<Waker>,
}

#[derive(Debug)]
struct Entry {
    /// The addresses of this end and of the other one.
    addresses: (SocketAddr, SocketAddr),
    silence: Silence,
    cut: Option<Cut>,
    /// Carries nothing any more; how much was written since.
    lost: Option<usize>,
    read: Option<Waker>,
    write: Option<Waker>,
}

/// What a write into a black hole takes before it waits forever, as a kernel's buffer would.
const SWALLOWED_MAX: usize = 256 << 10;

/// What may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Nothing listens.
    Refuse,
    /// `accept` fails.
    AcceptErrors,
    /// Connections are accepted, and left alone.
    Silent,
    /// Reads of every socket wait.
    ReadingStopped,
    /// What is dialled is never answered, and what was open carries nothing any more.
    BlackHole,
    /// Inbound streams are not accepted.
    AcceptingStopped,
    /// Dialling fails for good.
    Fatal,
    /// Dialling fails at once.
    DialErrors,
    /// Names have no addresses.
    NamesLost,
    /// Names are not answered.
    NamesSlow,
}

impl State {
    fn count(&mut self, condition: Condition) -> &mut u32 {
        match condition {
            Condition::Refuse => &mut self.refuse,
            Condition::AcceptErrors => &mut self.accept_errors,
            Condition::Silent => &mut self.silent,
            Condition::ReadingStopped => &mut self.reading_stopped,
            Condition::BlackHole => &mut self.black_hole,
            Condition::AcceptingStopped => &mut self.accepting_stopped,
            Condition::Fatal => &mut self.fatal,
            Condition::DialErrors => &mut self.dial_errors,
            Condition::NamesLost => &mut self.names_lost,
            Condition::NamesSlow => &mut self.names_slow,
        }
    }

    /// Takes everyone who has to look again.
    fn wakers(&mut self) -> Vec<Waker> {
        let mut wakers = std::mem::take(&mut self.waiting);
        for socket in self.sockets.values_mut() {
            wakers.extend(socket.read.take());
            wakers.extend(socket.write.take());
        }
        wakers
    }
}

impl Conditions {
    /// Conditions for sockets of this kind, in which one read or write moves at most `chunk` bytes; 0 is no limit.
    pub fn new(chunk: usize, sockets: Sockets, rng: ChaCha8Rng) -> Self {
        Self(Arc::new(Mutex::new(State { chunk, kind: sockets, rng: Some(rng), ..State::default() })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let wakers = {
            let mut state = self.state();
            change(&mut state);
            state.wakers()
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Begins a condition.
    pub fn begin(&self, condition: Condition) {
        self.change(|state| {
            *state.count(condition) += 1;
            state.has_been_fatal |= condition == Condition::Fatal;
            if condition == Condition::BlackHole {
                for socket in state.sockets.values_mut() {
                    socket.lost.get_or_insert(0);
                }
            }
        });
    }

    /// Ends a condition that was begun.
    pub fn end(&self, condition: Condition) {
        self.change(|state| *state.count(condition) -= 1);
    }

    /// Begins a condition, which lasts until what is returned is dropped.
    pub fn during(&self, condition: Condition) -> During {
        self.begin(condition);
        During { conditions: self.clone(), condition }
    }

    /// Limits what each socket writes, in bytes a second.
    pub fn slow_down(&self, rate: u64) {
        self.change(|state| state.rates.push(rate.max(1)));
    }

    /// Ends what [`slow_down`](Self::slow_down) began.
    pub fn speed_up(&self, rate: u64) {
        self.change(|state| {
            if let Some(at) = state.rates.iter().position(|other| *other == rate.max(1)) {
                state.rates.remove(at);
            }
        });
    }

    /// Cuts every connection of the host.
    pub fn cut(&self, cut: Cut) {
        self.change(|state| {
            for socket in state.sockets.values_mut() {
                socket.cut.get_or_insert(cut);
            }
        });
    }

    /// Cuts one connection of the host, counted around those that are open. Gives its addresses, of this end and of the
    /// other one.
    pub fn cut_one(&self, which: usize, cut: Cut) -> Option<(SocketAddr, SocketAddr)> {
        let mut addresses = None;
        self.change(|state| {
            let open = state.sockets.len().max(1);
            if let Some(socket) = state.sockets.values_mut().nth(which % open) {
                socket.cut.get_or_insert(cut);
                addresses = Some(socket.addresses);
            }
        });
        addresses
    }

    /// Cuts the connection of the host with these addresses, of this end and of the other one.
    pub fn cut_between(&self, addresses: (SocketAddr, SocketAddr), cut: Cut) {
        self.change(|state| {
            for socket in state.sockets.values_mut().filter(|socket| socket.addresses == addresses) {
                socket.cut.get_or_insert(cut);
            }
        });
    }

    /// Lets the connections of the host carry nothing any more. Gives their addresses, of this end and of the other one.
    pub fn forget(&self) -> Vec<(SocketAddr, SocketAddr)> {
        let mut addresses = Vec::new();
        self.change(|state| {
            for socket in state.sockets.values_mut() {
                socket.lost.get_or_insert(0);
                addresses.push(socket.addresses);
            }
        });
        addresses
    }

    /// Lets the connection of the host with these addresses, of this end and of the other one, carry nothing any more.
    pub fn forget_between(&self, addresses: (SocketAddr, SocketAddr)) {
        self.change(|state| {
            for socket in state.sockets.values_mut().filter(|socket| socket.addresses == addresses) {
                socket.lost.get_or_insert(0);
            }
        });
    }

    /// One of these, as the seed has it.
    pub(super) fn one_of(&self, errors: &[i32]) -> io::Error {
        let mut state = self.state();
        let index = state.rng.as_mut().map_or(0, |rng| rng.random_range(0..errors.len()));
        io::Error::from_raw_os_error(errors[index])
    }

    /// How many sockets are open.
    pub fn open_sockets(&self) -> usize {
        self.state().sockets.len()
    }

    /// Whether a condition holds.
    pub fn is(&self, condition: Condition) -> bool {
        *self.state().count(condition) > 0
    }

    /// Whether something has failed for good: who stood still is told of it later.
    pub fn has_been_fatal(&self) -> bool {
        self.state().has_been_fatal
    }

    /// Waits until a condition holds, or no longer does.
    pub fn poll_is(&self, condition: Condition, wanted: bool, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state();
        if (*state.count(condition) > 0) == wanted {
            return Poll::Ready(());
        }
        if !state.waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            state.waiting.push(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Waits until a condition holds, or no longer does.
    pub async fn until(&self, condition: Condition, wanted: bool) {
        std::future::poll_fn(|cx| self.poll_is(condition, wanted, cx)).await;
    }

    /// Whether a read finds what has arrived.
    pub(crate) fn lets_read(&self) -> bool {
        let state = self.state();
        state.reading_stopped == 0
            && state.black_hole == 0
            && state.sockets.values().all(|socket| socket.lost.is_none())
    }

    /// Whether a write finds the room that there is.
    pub(crate) fn lets_write(&self) -> bool {
        let state = self.state();
        state.rates.is_empty() && state.sockets.values().all(|socket| socket.lost.is_none())
    }

    /// The least of the rates that the sockets are limited to.
    pub(super) fn rate(&self) -> Option<u64> {
        self.state().rates.iter().min().copied()
    }

    pub(super) fn chunk(&self) -> usize {
        self.state().chunk
    }

    pub(super) fn sockets(&self) -> Sockets {
        self.state().kind
    }

    /// Whether a call says Pending for no reason.
    pub(super) fn is_spurious(&self) -> bool {
        let mut state = self.state();
        let percent = state.kind.spurious_percent;
        percent > 0 && state.rng.as_mut().is_some_and(|rng| rng.random_ratio(percent.min(90), 100))
    }

    /// What the socket with these addresses, of this end and of the other one, has carried lately.
    pub fn silence(&self, addresses: (SocketAddr, SocketAddr)) -> Option<Silence> {
        self.state().sockets.values().find(|socket| socket.addresses == addresses).map(|socket| socket.silence)
    }

    /// Counts a socket with these addresses until what is returned is dropped.
    pub(super) fn open(&self, addresses: (SocketAddr, SocketAddr)) -> Open {
        let mut state = self.state();
        let id = state.next_socket;
        state.next_socket += 1;
        let lost = (state.black_hole > 0).then_some(0);
        let silence = Silence::since(elapsed());
        state.sockets.insert(id, Entry { addresses, silence, cut: None, lost, read: None, write: None });
        Open { conditions: self.clone(), id }
    }
}

/// A condition that lasts until this is dropped.
#[derive(Debug)]
pub struct During {
    conditions: Conditions,
    condition: Condition,
}

impl Drop for During {
    fn drop(&mut self) {
        self.conditions.end(self.condition);
    }
}

/// An open socket of a host.
#[derive(Debug)]
pub(super) struct Open {
    conditions: Conditions,
    id: u64,
}

/// What becomes of a read or a write.
pub(super) enum Verdict {
    /// As the network has it.
    Goes,
    /// It waits for a change.
    Waits,
    /// It takes so many bytes, and drops them.
    Swallows(usize),
    /// It ends so.
    Ends(io::Result<()>),
}

impl Open {
    pub(super) fn conditions(&self) -> &Conditions {
        &self.conditions
    }

    pub(super) fn read(&self, cx: &Context<'_>) -> Verdict {
        let mut state = self.conditions.state();
        let stopped = state.reading_stopped > 0;
        let Some(entry) = state.sockets.get_mut(&self.id) else { return Verdict::Goes };
        entry.read = Some(cx.waker().clone());
        match (entry.cut, entry.lost) {
            (Some(Cut::Fin), _) => Verdict::Ends(Ok(())),
            (Some(Cut::Reset), _) => Verdict::Ends(Err(io::ErrorKind::ConnectionReset.into())),
            (None, Some(_)) => Verdict::Waits,
            (None, None) if stopped => Verdict::Waits,
            (None, None) => Verdict::Goes,
        }
    }

    pub(super) fn write(&self, bytes: usize, cx: &Context<'_>) -> Verdict {
        let mut state = self.conditions.state();
        let Some(entry) = state.sockets.get_mut(&self.id) else { return Verdict::Goes };
        entry.write = Some(cx.waker().clone());
        match (entry.cut, &mut entry.lost) {
            (Some(Cut::Fin), _) => Verdict::Ends(Err(io::ErrorKind::BrokenPipe.into())),
            (Some(Cut::Reset), _) => Verdict::Ends(Err(io::ErrorKind::ConnectionReset.into())),
            (None, Some(swallowed)) => match bytes.min(SWALLOWED_MAX - *swallowed) {
                0 if bytes > 0 => Verdict::Waits,
                bytes => {
                    *swallowed += bytes;
                    Verdict::Swallows(bytes)
                }
            },
            (None, None) => Verdict::Goes,
        }
    }

    /// Bytes were read.
    pub(super) fn has_read(&self) {
        self.note(|silence| silence.heard = elapsed());
    }

    /// A write has moved bytes; or it has not, because it waits or has failed.
    pub(super) fn has_written(&self, moved: bool) {
        self.note(|silence| {
            if !moved {
                silence.stalled.get_or_insert_with(elapsed);
            } else if silence.stalled.take().is_some() {
                silence.waited = elapsed();
            }
        });
    }

    fn note(&self, note: impl FnOnce(&mut Silence)) {
        if let Some(entry) = self.conditions.state().sockets.get_mut(&self.id) {
            note(&mut entry.silence);
        }
    }

    /// What shutting down meets: a black hole takes it.
    pub(super) fn is_lost(&self) -> bool {
        self.conditions.state().sockets.get(&self.id).is_some_and(|entry| entry.lost.is_some() || entry.cut.is_some())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.conditions.state().sockets.remove(&self.id);
    }
}
