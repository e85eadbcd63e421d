//! Who plays: the two programs of a run, and how they are brought together.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use testkit::FaultProxy;
use tokio::{process::Command, time::sleep};

use crate::{
    side::{Echoes, Held, Side},
    verdict::Failure,
};

/// A peer program, and how it is started.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    pub(crate) name: String,
    /// The program and its first arguments.
    pub(crate) command: Vec<PathBuf>,
}

impl Program {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut words = self.command.iter();
        let mut command = Command::new(words.next().map_or_else(PathBuf::new, PathBuf::clone));
        command.args(words).args(arguments);
        command
    }
}

/// Who acts: opens the streams, and what else a behaviour is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    /// evermux, or what is in its place.
    Us,
    /// The peer.
    It,
}

/// The two programs of a run, and their roles.
#[derive(Clone, Debug)]
pub(crate) struct Cast {
    /// evermux, or what is in its place in a control.
    pub(crate) ours: Program,
    pub(crate) peer: Program,
    /// Whether the peer dials, and so is the yamux client.
    pub(crate) peer_dials: bool,
    pub(crate) by: By,
    pub(crate) is_quick: bool,
    pub(crate) doing: Doing,
}

/// The last order that was given in a run, to be told when the run has no end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Doing(Arc<Mutex<String>>);

impl Doing {
    pub(crate) fn set(&self, order: String) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = order;
    }

    pub(crate) fn last(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What is not usual about a pair.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Options<'a> {
    /// Whether who does not open streams echoes what comes.
    pub(crate) serve: bool,
    /// Further arguments of evermux.
    pub(crate) ours: &'a [&'a str],
    /// A round trip that the connection is to have.
    pub(crate) round_trip: Option<Duration>,
}

/// Two programs that are connected.
pub(crate) struct Pair {
    pub(crate) us: Side,
    pub(crate) it: Side,
    by: By,
    _proxy: Option<FaultProxy>,
}

const ANYWHERE: &str = "127.0.0.1:0";

impl Cast {
    /// Whether evermux itself is in our place, and so its promises hold.
    pub(crate) fn is_evermux(&self) -> bool {
        self.ours.name == EVERMUX
    }

    /// Starts both programs, and waits until both have a session.
    pub(crate) async fn pair(&self, options: Options<'_>) -> Result<Pair, Failure> {
        let pair = self.start(options).await?;
        pair.us.up().await?;
        pair.it.up().await?;
        Ok(pair)
    }

    /// Starts both programs. What they are ordered to do begins when they have a session.
    pub(crate) async fn start(&self, options: Options<'_>) -> Result<Pair, Failure> {
        let ours = |place: &str, address: &str| {
            let mut arguments = vec![place, address];
            arguments.extend(self.is_evermux().then_some(options.ours).into_iter().flatten());
            arguments.extend((options.serve && self.by == By::It).then_some("--serve"));
            Side::start("we", self.ours.command(&arguments), self.doing.clone())
        };
        let peer = |place: &str, address: &str| {
            self.start_peer(place, address, if options.serve && self.by == By::Us { &["--serve"] } else { &[] })
        };
        let listener = if self.peer_dials { ours("--listen", ANYWHERE) } else { peer("--listen", ANYWHERE) }?;
        let address = listener.listening().await?;
        let (proxy, address) = behind(address, options.round_trip)?;
        let address = address.to_string();
        let dialler = if self.peer_dials { peer("--dial", &address) } else { ours("--dial", &address) }?;
        let (us, it) = if self.peer_dials { (listener, dialler) } else { (dialler, listener) };
        Ok(Pair { us, it, by: self.by, _proxy: proxy })
    }

    /// Starts the peer alone.
    pub(crate) fn start_peer(&self, place: &str, address: &str, more: &[&str]) -> Result<Side, Failure> {
        let mut arguments = vec![place, address];
        arguments.extend(more);
        Side::start("it", self.peer.command(&arguments), self.doing.clone())
    }

    /// Starts a manager of evermux in our place.
    pub(crate) fn start_manager(&self, arguments: &[&str]) -> Result<Side, Failure> {
        let word = |word: &PathBuf| if word.as_os_str() == EVERMUX { "manager".into() } else { word.clone() };
        let manager = Program { name: EVERMUX.into(), command: self.ours.command.iter().map(word).collect() };
        Side::start("we", manager.command(arguments), self.doing.clone())
    }

    /// evermux itself has not kept its word. Of another in its place nothing of the kind is asked.
    pub(crate) fn we_promise(&self, holds: bool, broken: impl FnOnce() -> String) -> Result<(), Failure> {
        if holds || !self.is_evermux() { Ok(()) } else { Err(Failure::ours(broken())) }
    }
}

/// The name of what is looked at.
pub(crate) const EVERMUX: &str = "evermux";

/// A link with so long a round trip before the address.
fn behind(address: SocketAddr, round_trip: Option<Duration>) -> Result<(Option<FaultProxy>, SocketAddr), Failure> {
    let Some(round_trip) = round_trip else { return Ok((None, address)) };
    let proxy = FaultProxy::start(address).map_err(|error| Failure::new(format!("the proxy: {error}")))?;
    proxy.delay(round_trip / 2);
    let address = proxy.addr();
    Ok((Some(proxy), address))
}

impl Pair {
    /// Who opens streams.
    pub(crate) fn opener(&self) -> &Side {
        if self.by == By::Us { &self.us } else { &self.it }
    }

    /// Who does not.
    pub(crate) fn acceptor(&self) -> &Side {
        if self.by == By::Us { &self.it } else { &self.us }
    }

    /// A stream, as our side has it and as the other has it.
    pub(crate) async fn stream(&self) -> Result<(Held<'_>, Held<'_>), Failure> {
        let opened = self.opener().open().await?;
        // Some libraries tell the other side with the first byte alone.
        opened.write(1).await?;
        let accepted = self.acceptor().accept().await?;
        accepted.read(1).await?;
        Ok(if self.by == By::Us { (opened, accepted) } else { (accepted, opened) })
    }

    /// Has the opener open streams that must be echoed.
    pub(crate) async fn echoes(
        &self,
        count: usize,
        at_once: usize,
        size: usize,
        within: Duration,
    ) -> Result<Echoes, Failure> {
        let order = format!("echo {count} {at_once} {size} {}", within.as_secs());
        let answer = self.opener().order(order).await?;
        Echoes::parse(&answer).ok_or_else(|| self.opener().failure(format!("echo: it answers `{answer}`")))
    }

    /// As [`echoes`](Self::echoes), and all must have come back.
    pub(crate) async fn all_echo(
        &self,
        count: usize,
        at_once: usize,
        size: usize,
        within: Duration,
    ) -> Result<(), Failure> {
        let Echoes { done, lost, first } = self.echoes(count, at_once, size, within).await?;
        if done == count && lost == 0 {
            return Ok(());
        }
        // The news of an end may be on its way.
        sleep(Duration::from_millis(100)).await;
        let ends = [("our", &self.us), ("its", &self.it)].map(|(whose, side)| {
            side.is_down().map(|why| format!("; {whose} session has ended: {why}")).unwrap_or_default()
        });
        Err(self.opener().failure(format!("echo: {lost} of {count} streams lost ({first}){}", ends.concat())))
    }
}
