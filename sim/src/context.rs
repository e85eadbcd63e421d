//! What the hosts of a run and the world around them share.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use evermux::error::GaveUpCause;
use evermux::{MuxManager, Stopped};
use lossy::Impairments;
use tokio::sync::{Notify, watch};

use crate::bounds::{self, Standing};
use crate::counters::Counters;
use crate::interpose::elapsed;
use crate::net::{Conditions, Connector, Kernel, Names};
use crate::plan::{self, Caller, Network, Plan, Side};
use crate::random::rng;

/// The host that listens.
pub const RECEIVER: &str = "receiver";
/// The host that dials.
pub const ESTABLISHER: &str = "establisher";
/// The host of everybody else: a second receiver, a rival, strangers.
pub const OTHER: &str = "other";
/// The port that receivers listen on.
pub const PORT: u16 = 7233;

type HostTask = Pin<Box<dyn Future<Output = ()>>>;

/// What the hosts of a run and the world around them share. All of them run on one thread.
pub struct RunContext {
    /// The seed of the run.
    pub seed: u64,
    /// What the run does.
    pub plan: Plan,
    /// The counters of the run.
    pub counters: Counters,
    pub(crate) target: Arc<Mutex<&'static str>>,
    /// Cancels what every caller is doing.
    pub cancel: watch::Sender<u64>,
    pub(crate) hosts: BTreeMap<&'static str, HostContext>,
    pub(crate) end: watch::Sender<bool>,
    /// The callers that have been served by a piece of work begun after the last fault, and how long after it.
    pub(crate) served: RefCell<BTreeMap<usize, Duration>>,
    /// The same of the members of a fleet.
    pub(crate) fleet_served: RefCell<BTreeSet<u16>>,
    /// How many of them have not shut down yet.
    pub(crate) fleet_runs: watch::Sender<u16>,
    pub(crate) ended: RefCell<BTreeSet<&'static str>>,
    /// Pieces of work that are being done, by who does them, and since when.
    pub(crate) doing: RefCell<BTreeMap<CallerId, Duration>>,
    /// Callers who wait for a session.
    pub(crate) waiting: RefCell<BTreeSet<CallerId>>,
    /// The streams that callers have opened.
    pub(crate) streams: RefCell<Streams>,
    /// Told of each piece of work that was done: when it was begun.
    pub(crate) done: RefCell<Vec<Duration>>,
    pub(crate) shutting_down: RefCell<BTreeSet<&'static str>>,
    /// Since when nothing goes wrong any more; none while something may.
    pub(crate) quiet: Cell<Option<Quiet>>,
    /// When who dials had a session last that was stable.
    pub(crate) stable_at: Cell<Duration>,
    /// Whether callers rest: what they have begun goes on, and nothing new is begun until this is false again.
    pub(crate) rests: watch::Sender<bool>,
    /// Whether the run goes on for so long that nobody keeps what happens in it.
    pub(crate) is_long: Cell<bool>,
}

/// The ids of streams, by host, by how often its manager was started, and by session.
type Streams = BTreeMap<(&'static str, u64, u64), Rc<RefCell<BTreeSet<u32>>>>;

/// Nothing goes wrong any more: since when, and how things stood then.
pub(crate) type Quiet = (Duration, Standing);

/// A caller on a host: a receiver's callers are on both receivers.
pub(crate) type CallerId = (&'static str, usize);

/// What is known of one host.
pub(crate) struct HostContext {
    pub(crate) conditions: Conditions,
    pub(crate) restart: watch::Sender<u64>,
    pub(crate) manager: RefCell<Option<MuxManager>>,
    pub(crate) tasks: RefCell<Vec<HostTask>>,
    pub(crate) task_added: Notify,
    pub(crate) impairments: Impairments,
    pub(crate) kernel: Kernel,
    pub(crate) starts: Cell<u64>,
    /// When a session was in the slot last.
    pub(crate) live_at: Cell<Option<Duration>>,
}

impl RunContext {
    /// The context of a run.
    pub fn new(seed: u64, plan: Plan, counters: Counters, names: &Names) -> Rc<Self> {
        let host = |name| {
            let context = HostContext {
                conditions: Conditions::new(
                    plan.network.chunk,
                    plan.network.sockets,
                    rng(seed, &format!("sockets of {name}")),
                ),
                restart: watch::Sender::new(0),
                manager: RefCell::default(),
                tasks: RefCell::default(),
                task_added: Notify::new(),
                impairments: impairments(&plan.network, name),
                kernel: Kernel::new(names.clone()),
                starts: Cell::new(0),
                live_at: Cell::new(None),
            };
            (name, context)
        };
        Rc::new(Self {
            seed,
            hosts: [RECEIVER, ESTABLISHER, OTHER].into_iter().map(host).collect(),
            target: Arc::new(Mutex::new(RECEIVER)),
            cancel: watch::Sender::new(0),
            end: watch::Sender::new(false),
            served: RefCell::default(),
            fleet_served: RefCell::default(),
            fleet_runs: watch::Sender::new(plan.fleet),
            ended: RefCell::default(),
            doing: RefCell::default(),
            waiting: RefCell::default(),
            streams: RefCell::default(),
            done: RefCell::default(),
            shutting_down: RefCell::default(),
            rests: watch::Sender::new(false),
            is_long: Cell::new(false),
            quiet: Cell::default(),
            stable_at: Cell::default(),
            plan,
            counters,
        })
    }

    pub(crate) fn host(&self, name: &str) -> &HostContext {
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

    /// The kernel of a host.
    pub fn kernel(&self, host: &str) -> &Kernel {
        &self.host(host).kernel
    }

    /// Dials the port that receivers listen on, from a host.
    pub fn connector(&self, host: &str, name: Arc<Mutex<&'static str>>, conditions: Conditions) -> Connector {
        let handshake = self.plan.network.handshake;
        let dead = (0..self.plan.network.dead_addresses).map(dead_address).collect();
        Connector { kernel: self.kernel(host).clone(), name, port: PORT, conditions, handshake, dead }
    }

    /// The address of a host.
    pub(crate) fn address(&self, host: &str) -> Option<IpAddr> {
        self.kernel(host).address_of(host).ok()
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
    pub fn spawn_on(&self, host: &str, task: impl Future<Output = ()> + 'static) {
        self.host(host).tasks.borrow_mut().push(Box::pin(task));
        self.host(host).task_added.notify_one();
    }

    /// Lets every manager shut down for good.
    pub fn end(&self) {
        self.end.send_replace(true);
    }

    /// Whether a host has shut down for good.
    pub fn has_ended(&self, host: &str) -> bool {
        self.ended.borrow().contains(host)
    }

    /// How things stand.
    pub(crate) fn standing(&self) -> Standing {
        let grain = 2 * Duration::from_millis(self.plan.network.tick_ms);
        let is_live = |host: &str| self.host(host).live_at.get().is_some_and(|at| at + grain >= elapsed());
        let begins = self.stable_at.get().max(self.plan.trouble_begins());
        Standing {
            is_live: [RECEIVER, ESTABLISHER, OTHER].into_iter().any(is_live) || self.plan.foreign.is_some(),
            dialler_is_live: is_live(ESTABLISHER),
            trouble: elapsed().saturating_sub(begins),
        }
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
        let has_fleet = self.fleet_served.borrow().len() == usize::from(self.plan.fleet);
        (has_fleet && served.len() == self.plan.callers.len())
            .then(|| served.values().copied().max().unwrap_or_default())
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
        self.host(host).live_at.set(Some(elapsed()));
    }

    /// Whether no session of a host can be draining, because there has been none for so long.
    pub(crate) fn has_nothing_to_drain(&self, host: &str) -> bool {
        let drain = bounds::shutdown(&self.plan, Side::Receiver).max(bounds::shutdown(&self.plan, Side::Establisher));
        self.host(host).live_at.get().is_none_or(|live| live + drain < elapsed())
    }

    /// Whether a manager of a host has been given a reason to stop.
    pub(crate) fn may_stop(&self, host: &str, stopped: &Stopped) -> bool {
        match stopped {
            Stopped::ShutDown => self.shutting_down.borrow().contains(host),
            Stopped::GaveUp(gave_up) => match gave_up.cause {
                GaveUpCause::Fatal => self.conditions(host).has_been_fatal(),
                GaveUpCause::Exhausted => host == ESTABLISHER && self.plan.settings.gives_up(),
                _ => false,
            },
            _ => false,
        }
    }

    /// Whether a host is the one of its side that sessions are made with.
    pub(crate) fn is_current(&self, side: Side, host: &str) -> bool {
        side == Side::Establisher || self.target() == host
    }
}

/// An address on which nobody is: those of the two families by turns.
fn dead_address(number: u16) -> SocketAddr {
    if number.is_multiple_of(2) {
        (Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, number + 1), PORT).into()
    } else {
        ([10, 255, 0, 1 + number.to_le_bytes()[0]], PORT).into()
    }
}

/// The queue of a slow link: more than all the sockets of a host hold, so that what is lost is what the plan says.
const QUEUE_BYTES: u64 = 4 << 20;

/// What the network does to the segments that a host sends.
fn impairments(network: &Network, host: &str) -> Impairments {
    let plan::Impairments { loss, duplication, reordering } = network.impairments;
    let (bandwidth, longer_ms) = match host {
        ESTABLISHER => (network.bandwidth.up, 0),
        _ => (network.bandwidth.down, network.return_ms),
    };
    let share = |percent: u32| f64::from(percent.min(100)) / 100.0;
    Impairments::new(lossy::Conditions {
        loss: share(loss),
        duplication: share(duplication),
        reordering: share(reordering),
        latency: Duration::from_millis(longer_ms),
        bytes_per_second: bandwidth,
        queue_bytes: QUEUE_BYTES,
        ..lossy::Conditions::default()
    })
}
