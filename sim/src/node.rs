//! The software of a host: a manager, what serves its streams, and the callers who work on it.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use evermux::{MuxManager, Session, Stopped};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tracing::info;

use crate::bounds;
use crate::history::{What, broken, note};
use crate::lossy::{self, Stack, Weather};
use crate::net::{Carrier, Condition, Conditions, Connector, Listener};
use crate::plan::{Caller, Plan, Side, Transport};
use crate::run::{Broken, Counters, rng};
use crate::work::{self, Failed, Piece, protocol};

/// The host that listens.
pub const RECEIVER: &str = "receiver";
/// The host that dials.
pub const ESTABLISHER: &str = "establisher";
/// The host of everybody else: a second receiver, a rival, strangers.
pub const OTHER: &str = "other";
/// The port that receivers listen on.
pub const PORT: u16 = 7233;

/// How soon a step follows the change that it shows: what was woken at the end of one step runs in the next.
const SETTLES_WITHIN: Duration = Duration::from_millis(20);

type Errand = Pin<Box<dyn Future<Output = ()>>>;

/// What the hosts of a run and the world around them share. All of them run on one thread.
pub struct Board {
    /// The seed of the run.
    pub seed: u64,
    /// What the run does.
    pub plan: Plan,
    /// The counters of the run.
    pub counters: Counters,
    target: Arc<Mutex<&'static str>>,
    /// Cancels what every caller is doing.
    pub cancel: watch::Sender<u64>,
    hosts: BTreeMap<&'static str, HostBoard>,
    end: watch::Sender<bool>,
    /// The callers that have been served by a piece of work begun after the last fault, and how long after it.
    served: RefCell<BTreeMap<usize, Duration>>,
    ended: RefCell<BTreeSet<&'static str>>,
    /// Pieces of work that are being done, by who does them, and since when.
    doing: RefCell<BTreeMap<Place, Duration>>,
    /// Callers who wait for a session.
    waiting: RefCell<BTreeSet<Place>>,
    /// Told of each piece of work that was done: when it was begun.
    pub(crate) done: RefCell<Vec<Duration>>,
    shutting_down: RefCell<BTreeSet<&'static str>>,
}

/// A caller on a host: a receiver's callers are on both receivers.
type Place = (&'static str, usize);

/// What is known of one host.
struct HostBoard {
    conditions: Conditions,
    restart: watch::Sender<u64>,
    manager: RefCell<Option<MuxManager>>,
    errands: RefCell<Vec<Errand>>,
    errand: Notify,
    weather: Weather,
    carrier: RefCell<Carrier>,
    starts: Cell<u64>,
    /// When a session was in the slot last.
    live_at: Cell<Option<Duration>>,
}

impl Board {
    /// The board of a run.
    pub fn new(seed: u64, plan: Plan, counters: Counters) -> Rc<Self> {
        let host = |name| {
            let board = HostBoard {
                conditions: Conditions::new(plan.network.chunk),
                restart: watch::Sender::new(0),
                manager: RefCell::default(),
                errands: RefCell::default(),
                errand: Notify::new(),
                weather: weather(plan.network.transport),
                carrier: RefCell::new(Carrier::Turmoil),
                starts: Cell::new(0),
                live_at: Cell::new(None),
            };
            (name, board)
        };
        Rc::new(Self {
            seed,
            hosts: [RECEIVER, ESTABLISHER, OTHER].into_iter().map(host).collect(),
            target: Arc::new(Mutex::new(RECEIVER)),
            cancel: watch::Sender::new(0),
            end: watch::Sender::new(false),
            served: RefCell::default(),
            ended: RefCell::default(),
            doing: RefCell::default(),
            waiting: RefCell::default(),
            done: RefCell::default(),
            shutting_down: RefCell::default(),
            plan,
            counters,
        })
    }

    fn host(&self, name: &str) -> &HostBoard {
        &self.hosts[name]
    }

    /// The host that the establisher's name for its peer stands for.
    pub fn target(&self) -> &'static str {
        *self.target.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the establisher's name for its peer stand for another host.
    pub fn move_to(&self, host: &'static str) {
        *self.target.lock().unwrap_or_else(PoisonError::into_inner) = host;
    }

    /// What faults do to the sockets of a host.
    pub fn conditions(&self, host: &str) -> &Conditions {
        &self.host(host).conditions
    }

    /// The TCP of a host that is up.
    pub fn carrier(&self, host: &str) -> Carrier {
        self.host(host).carrier.borrow().clone()
    }

    /// Dials the port that receivers listen on, from a host.
    pub fn connector(&self, host: &str, name: Arc<Mutex<&'static str>>, conditions: Conditions) -> Connector {
        let handshake = self.plan.network.handshake;
        Connector { carrier: self.carrier(host), name, port: PORT, conditions, handshake }
    }

    /// The manager that runs on a host.
    pub fn manager(&self, host: &str) -> Option<MuxManager> {
        self.host(host).manager.borrow().clone()
    }

    /// Lets the manager of a host shut down, and starts another one.
    pub fn restart(&self, host: &str) {
        self.host(host).restart.send_modify(|restarts| *restarts += 1);
    }

    /// Runs something on a host, if and when it is up.
    pub fn errand(&self, host: &str, errand: impl Future<Output = ()> + 'static) {
        self.host(host).errands.borrow_mut().push(Box::pin(errand));
        self.host(host).errand.notify_one();
    }

    /// Lets every manager shut down for good.
    pub fn end(&self) {
        self.end.send_replace(true);
    }

    /// Whether a host has shut down for good.
    pub fn has_ended(&self, host: &str) -> bool {
        self.ended.borrow().contains(host)
    }

    /// Whether somebody has something to lose.
    pub fn is_at_stake(&self) -> bool {
        !self.doing.borrow().is_empty() || !self.waiting.borrow().is_empty()
    }

    /// How many callers wait for a session, and how many work on one.
    pub fn busy(&self) -> (usize, usize) {
        (self.waiting.borrow().len(), self.doing.borrow().len())
    }

    /// The callers of the plan on a side.
    pub fn callers(&self, side: Side) -> impl Iterator<Item = (usize, &Caller)> {
        self.plan.callers.iter().enumerate().filter(move |(_, caller)| caller.side == side)
    }

    /// Whether every caller has been served after the last fault; how long after it the last one was.
    pub fn all_served(&self) -> Option<Duration> {
        let served = self.served.borrow();
        (served.len() == self.plan.callers.len()).then(|| served.values().copied().max().unwrap_or_default())
    }

    /// The callers that have not been served after the last fault.
    pub fn not_served(&self) -> Vec<usize> {
        let served = self.served.borrow();
        (0..self.plan.callers.len()).filter(|caller| !served.contains_key(caller)).collect()
    }

    /// Forgets what ran on a host that is gone.
    pub fn host_is_down(&self, host: &'static str) {
        self.host(host).manager.replace(None);
        self.shutting_down.borrow_mut().remove(host);
        self.doing.borrow_mut().retain(|(on, _), _| *on != host);
        self.waiting.borrow_mut().retain(|(on, _)| *on != host);
    }

    /// Notes that a host has a live session now.
    pub fn is_live(&self, host: &str) {
        self.host(host).live_at.set(Some(now()));
    }

    /// Whether no session of a host can be draining, because there has been none for so long.
    fn has_nothing_to_drain(&self, host: &str) -> bool {
        let drain = bounds::shutdown(&self.plan, Side::Receiver).max(bounds::shutdown(&self.plan, Side::Establisher));
        self.host(host).live_at.get().is_none_or(|live| live + drain < now())
    }

    /// Whether a manager of a host has been given a reason to stop.
    fn may_stop(&self, host: &str, stopped: &Stopped) -> bool {
        match stopped {
            Stopped::ShutDown => self.shutting_down.borrow().contains(host),
            Stopped::GaveUp(_) => self.conditions(host).is(Condition::Fatal),
            _ => false,
        }
    }

    /// Whether a host is the one of its side that sessions are made with.
    fn is_current(&self, node: Node) -> bool {
        node.side == Side::Establisher || self.target() == node.host
    }
}

/// What the network does to the segments of each host.
fn weather(transport: Transport) -> Weather {
    let Transport::Lossy { loss, duplication, reordering } = transport else { return Weather::default() };
    let share = |percent: u32| f64::from(percent.min(100)) / 100.0;
    Weather::new(lossy::Conditions {
        loss: share(loss),
        duplication: share(duplication),
        reordering: share(reordering),
        ..lossy::Conditions::default()
    })
}

/// What a host does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub host: &'static str,
    /// What its manager is.
    pub side: Side,
    /// Whether a manager runs on it, and callers; else it is there for errands alone.
    pub has_manager: bool,
}

impl Node {
    /// Runs the host until the run ends: a manager after the other, callers, and errands.
    pub async fn run(self, board: Rc<Board>) -> turmoil::Result {
        note(self.host, What::Up);
        self.start_carrier(&board).await?;
        let (managers, watched) = watch::channel(None);
        tokio::task::spawn_local(run_errands(Rc::clone(&board), self.host));
        let mut end = board.end.subscribe();
        if !self.has_manager {
            let _ = end.wait_for(|end| *end).await;
            board.ended.borrow_mut().insert(self.host);
            return Ok(());
        }
        for (index, spec) in board.callers(self.side) {
            let caller = Calling {
                index,
                spec: spec.clone(),
                node: self,
                board: Rc::clone(&board),
                managers: watched.clone(),
                rng: rng(board.seed, &format!("caller {index} on {}", self.host)),
            };
            tokio::task::spawn_local(caller.work());
        }
        let mut restart = board.host(self.host).restart.subscribe();
        restart.mark_unchanged();
        loop {
            let tasks = alive_tasks();
            let manager = self.start(&board).await?;
            note(self.host, What::Starts);
            board.host(self.host).manager.replace(Some(manager.clone()));
            tokio::task::spawn_local(serve(manager.clone(), Rc::clone(&board), self.host));
            managers.send_replace(Some(manager.clone()));
            board.shutting_down.borrow_mut().remove(self.host);
            let ends = tokio::select! {
                biased;
                _ = end.wait_for(|end| *end) => true,
                _ = restart.changed() => false,
                () = gives_up(&manager) => {
                    note(self.host, What::GaveUp);
                    board.shutting_down.borrow_mut().insert(self.host);
                    false
                }
            };
            self.shut_down(&board, &manager, tasks).await?;
            drop(manager);
            board.conditions(self.host).until(Condition::Fatal, false).await;
            if ends || *end.borrow() {
                board.ended.borrow_mut().insert(self.host);
                return Ok(());
            }
        }
    }

    /// Starts the TCP of the host, where turmoil's is not used.
    async fn start_carrier(self, board: &Board) -> io::Result<()> {
        let host = board.host(self.host);
        let Transport::Lossy { .. } = board.plan.network.transport else { return Ok(()) };
        let rng = rng(board.seed, &format!("TCP of {} at {:?}", self.host, now()));
        let stack = Stack::start(host.weather.clone(), rng, board.counters.clone()).await?;
        host.carrier.replace(Carrier::Lossy(stack));
        Ok(())
    }

    async fn start(self, board: &Rc<Board>) -> Result<MuxManager, Box<dyn std::error::Error>> {
        let host = board.host(self.host);
        // Each manager of a host draws other jitter.
        let seed = board.seed.wrapping_add(host.starts.replace(host.starts.get() + 1) << 32);
        let config = board.plan.config(self.side, seed);
        let conditions = host.conditions.clone();
        Ok(match self.side {
            Side::Establisher => {
                let connector = board.connector(self.host, Arc::clone(&board.target), conditions);
                MuxManager::establish_with(connector).name(self.host).config(config).start().await?
            }
            Side::Receiver => {
                // Taken by the manager before this one, were its shutdown not complete.
                let listener = Listener::bind(board.carrier(self.host), PORT, conditions, board.plan.network.handshake)
                    .await
                    .map_err(|error| {
                        Broken::new("G5", format!("the port of {} is not free after a shutdown: {error}", self.host))
                    })?;
                MuxManager::receive_with(listener).name(self.host).config(config).start().await?
            }
        })
    }

    /// Shuts a manager down, and looks at what it leaves (G4, G5).
    async fn shut_down(self, board: &Rc<Board>, manager: &MuxManager, tasks: usize) -> Result<(), Broken> {
        note(self.host, What::ShutsDown);
        board.shutting_down.borrow_mut().insert(self.host);
        let bound = if board.has_nothing_to_drain(self.host) {
            bounds::idle_shutdown(&board.plan)
        } else {
            bounds::shutdown(&board.plan, self.side)
        };
        let begun = Instant::now();
        // Twice at once: every caller of it is told when it is complete.
        let (first, second) = tokio::join!(timeout(bound, manager.shutdown()), timeout(bound, manager.shutdown()));
        if first.is_err() || second.is_err() {
            return Err(Broken::new("G5", format!("the shutdown of {} took longer than {bound:?}", self.host)));
        }
        let name = if bound < Duration::from_secs(1) { "an idle shutdown took" } else { "a shutdown took" };
        board.counters.worst(name, begun.elapsed(), bound);
        if !matches!(manager.session().await, Err(Stopped::ShutDown | Stopped::GaveUp(_))) {
            return Err(Broken::new("G4", format!("a caller of {} was given a session after its shutdown", self.host)));
        }
        match host_leaves(board, self.host, tasks) {
            None => {}
            Some(left) => return Err(Broken::new("G5", format!("after the shutdown of {} {left}", self.host))),
        }
        note(self.host, What::HasShutDown);
        board.host(self.host).manager.replace(None);
        // Whoever waited is freed at once, before there is another manager to ask.
        sleep(SETTLES_WITHIN).await;
        Ok(())
    }
}

fn host_leaves(board: &Board, host: &str, tasks: usize) -> Option<String> {
    let open = board.conditions(host).open_sockets();
    if open > 0 {
        return Some(format!("{open} sockets were still open"));
    }
    // A rival runs on the host of everybody else, and has tasks of its own.
    if host == OTHER {
        return None;
    }
    let more = alive_tasks().saturating_sub(tasks);
    (more > 0).then(|| format!("{more} tasks still ran"))
}

/// The tasks of this host's runtime. What this crate runs on a host are local tasks, which are not among them.
fn alive_tasks() -> usize {
    Handle::current().metrics().num_alive_tasks()
}

async fn run_errands(board: Rc<Board>, host: &'static str) {
    loop {
        let errands = board.host(host).errands.take();
        for errand in errands {
            tokio::task::spawn_local(errand);
        }
        board.host(host).errand.notified().await;
    }
}

/// Waits until a manager has stopped by itself.
async fn gives_up(manager: &MuxManager) {
    while let Ok(session) = manager.session().await {
        session.closed().await;
        // A slot that still has it would keep this loop from ever waiting.
        tokio::task::yield_now().await;
    }
    if !matches!(manager.status().stopped, Some(Stopped::GaveUp(_))) {
        std::future::pending::<()>().await;
    }
}

/// Serves the streams of every session of a manager.
async fn serve(manager: MuxManager, board: Rc<Board>, host: &'static str) {
    while let Ok(session) = manager.session().await {
        let closed = accept_all(&session, &board, host).await;
        board.conditions(host).until(Condition::AcceptingStopped, false).await;
        info!(session = %session.id(), reason = %closed, "no more streams");
        if manager.try_session().is_some_and(|next| next.id() == session.id()) {
            broken(host, "G3", format!("session {} is in the slot after its end was told", session.id()));
            return;
        }
    }
}

async fn accept_all(session: &Session, board: &Rc<Board>, host: &'static str) -> evermux::CloseReason {
    loop {
        board.conditions(host).until(Condition::AcceptingStopped, false).await;
        let accepted = tokio::select! {
            biased;
            () = board.conditions(host).until(Condition::AcceptingStopped, true) => continue,
            accepted = session.accept_stream() => accepted,
        };
        match accepted {
            Ok(stream) => {
                let board = Rc::clone(board);
                tokio::task::spawn_local(async move {
                    if let Err(Failed::Broken(what)) = protocol::serve(stream, &board.counters).await {
                        note(host, What::Broken(what));
                    }
                });
            }
            Err(closed) => return closed,
        }
    }
}

/// A caller at work.
struct Calling {
    index: usize,
    spec: Caller,
    node: Node,
    board: Rc<Board>,
    managers: watch::Receiver<Option<MuxManager>>,
    rng: ChaCha8Rng,
}

/// Takes a caller off a list when it is dropped.
struct Listed<'a, T>(&'a RefCell<T>, Place, fn(&mut T, Place));

impl<T> Drop for Listed<'_, T> {
    fn drop(&mut self) {
        (self.2)(&mut self.0.borrow_mut(), self.1);
    }
}

impl Calling {
    async fn work(mut self) {
        let kind = work::find(&self.spec.work).expect("a plan is checked");
        let board = Rc::clone(&self.board);
        let faults_end = board.plan.faults_end();
        loop {
            sleep(Duration::from_millis(self.rng.random_range(0..self.spec.pause_ms.max(1)))).await;
            let begun = now();
            let piece_seed = self.rng.next_u64();
            let deadline = begun.max(faults_end) + bounds::service(&board.plan);
            let doing = async {
                board.doing.borrow_mut().insert((self.node.host, self.index), begun);
                let _doing = Listed(&board.doing, (self.node.host, self.index), |doing, place| {
                    doing.remove(&place);
                });
                self.until_served(kind, piece_seed).await
            };
            let mut cancel = board.cancel.subscribe();
            cancel.mark_unchanged();
            let in_time = timeout_at(instant(deadline), doing);
            let result = tokio::select! {
                biased;
                _ = cancel.changed() => {
                    note(self.node.host, What::GivesUp(self.index));
                    continue;
                }
                result = in_time => result,
            };
            match result {
                Ok(Ok(())) => {
                    note(self.node.host, What::Served(self.index));
                    board.counters.add("pieces of work", 1);
                    board.done.borrow_mut().push(begun);
                    if begun >= faults_end {
                        board.served.borrow_mut().entry(self.index).or_insert(now().saturating_sub(faults_end));
                    }
                }
                Ok(Err(what)) => note(self.node.host, What::Broken(what)),
                // Nobody dials this host any more.
                Err(_) if !board.is_current(self.node) => {}
                Err(_) => {
                    let bound = bounds::service(&board.plan);
                    let text = format!(
                        "caller {} ({}, on {}) was not served within {bound:?} after the last fault",
                        self.index, self.spec.work, self.node.host
                    );
                    broken(self.node.host, "liveness", text);
                    return;
                }
            }
        }
    }

    /// Does a piece of work on one session after the other, until it is done.
    async fn until_served(&mut self, kind: &'static work::Work, seed: u64) -> Result<(), Broken> {
        let mut sessions = 0;
        let mut gone = None;
        loop {
            let (manager, session) = self.session().await?;
            sessions += 1;
            if sessions == 3 {
                self.board.counters.add("a piece of work took three sessions", 1);
            }
            let id = session.id();
            let starts = self.board.host(self.node.host).starts.get();
            if gone == Some((starts, id)) {
                let text = format!("a caller was told that session {id} is gone, asked again, and was given it");
                return Err(Broken::new("G3", text));
            }
            let mut piece = Piece {
                session,
                manager,
                rng: ChaCha8Rng::seed_from_u64(seed.wrapping_add(sessions)),
                bytes: self.rng.random_range(0..=self.spec.bytes) as usize,
                calm: self.board.plan.is_calm(),
                is_gone: Cell::new(false),
                counters: self.board.counters.clone(),
            };
            match (kind.run)(&mut piece).await {
                Ok(()) => return Ok(()),
                Err(Failed::Broken(what)) => return Err(what),
                Err(Failed::Interrupted(error)) => {
                    note(self.node.host, What::Interrupted(self.index, format!("session {id}: {error}")));
                    self.board.counters.add("a piece of work was interrupted", 1);
                    if error.kind() == io::ErrorKind::UnexpectedEof {
                        return Err(Broken::new("G17", "a stream ended in good order before its end"));
                    }
                    if piece.is_gone.get() {
                        gone = Some((starts, id));
                        // At once: there is nothing to wait for.
                    } else if piece.session.is_closed() {
                        // Whoever notes the end of the session is let in, so that asking again is asking too late.
                        tokio::task::yield_now().await;
                    } else {
                        // A stream that was reset alone: the other side was not ready for it.
                        sleep(Duration::from_millis(self.rng.random_range(1..200))).await;
                    }
                }
            }
        }
    }

    /// Asks for a session, in one of the ways that there are, of the manager that runs now.
    async fn session(&mut self) -> Result<(MuxManager, Session), Broken> {
        let board = Rc::clone(&self.board);
        let host = self.node.host;
        loop {
            let manager = self.managers.wait_for(Option::is_some).await;
            let Some(manager) = manager.map_err(|_| Broken::new("scenario", "the host has ended"))?.clone() else {
                continue;
            };
            note(host, What::Asks(self.index));
            board.waiting.borrow_mut().insert((host, self.index));
            let _waiting = Listed(&board.waiting, (host, self.index), |waiting, place| {
                waiting.remove(&place);
            });
            let asked = match self.rng.random_range(0..4) {
                0 => manager.with_session(async |session| session).await,
                1 => match manager.reader().session().cloned() {
                    Some(session) => Ok(session),
                    None => manager.session().await,
                },
                2 => {
                    // As `session_blocking_timeout` does: a wait that may end in time, asked again.
                    let patience = Duration::from_millis(self.rng.random_range(1..2_000));
                    match timeout(patience, manager.session()).await {
                        Ok(asked) => asked,
                        Err(_) => {
                            board.counters.add("wait dropped by its caller", 1);
                            manager.session().await
                        }
                    }
                }
                _ => manager.session().await,
            };
            match asked {
                Ok(session) => {
                    note(host, What::Given(self.index, session.id().to_string()));
                    return Ok((manager, session));
                }
                Err(stopped) if board.may_stop(host, &stopped) => {
                    note(host, What::Freed(self.index));
                    board.counters.add("a caller was freed by a shutdown", 1);
                    // The next manager, if there is one.
                    let other =
                        |next: &Option<MuxManager>| next.as_ref().is_some_and(|next| next.status().stopped.is_none());
                    drop(manager);
                    if self.managers.wait_for(other).await.is_err() {
                        std::future::pending::<()>().await;
                    }
                }
                Err(stopped) => return Err(Broken::new("G12", format!("the manager of {host} stopped: {stopped}"))),
            }
        }
    }
}

/// The time of the run.
fn now() -> Duration {
    crate::interpose::elapsed()
}

/// When the time of the run is this.
fn instant(at: Duration) -> Instant {
    Instant::now() + at.saturating_sub(now())
}
