//! The hosts of a run and the links between them, as faults change them.

use std::collections::BTreeMap;
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use futures_util::FutureExt;
use lossy::Readiness;

use crate::context::{ESTABLISHER, RunContext};
use crate::history::{What, note};
use crate::plan::Side;
use crate::process::Stop;
use crate::stage::Run;

/// Two hosts, in the order of their names.
type Pair = (&'static str, &'static str);

/// The hosts of a run, and the links between them.
pub struct World<'r> {
    pub(crate) run: &'r mut Run,
    /// What hosts and world share.
    pub context: Rc<RunContext>,
    links: BTreeMap<Pair, Link>,
    down: BTreeMap<&'static str, Down>,
}

/// How often a host was taken down.
#[derive(Clone, Copy, Debug, Default)]
struct Down {
    /// Its process has crashed.
    crashed: u32,
    /// It has lost its power.
    dark: u32,
}

impl Down {
    fn runs(self) -> bool {
        self.crashed == 0 && self.dark == 0
    }
}

/// What is wrong with a link, as often as it was made so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Link {
    /// What the first host sends is lost.
    first_lost: u32,
    /// What the second host sends is lost.
    second_lost: u32,
    /// What is sent arrives later.
    held: u32,
    /// By how much each message travels longer, in milliseconds.
    late_ms: u64,
}

impl<'r> World<'r> {
    /// The hosts of a run.
    pub fn new(run: &'r mut Run) -> Self {
        let context = RunContext::new(run.seed(), run.plan().clone(), run.counters(), run.names());
        Self { run, context, links: BTreeMap::new(), down: BTreeMap::new() }
    }

    /// The host that the establisher dials now.
    pub fn target(&self) -> &'static str {
        self.context.target()
    }

    /// The host of a side: of the receivers the one that is dialled now.
    pub fn host_of(&self, side: Side) -> &'static str {
        match side {
            Side::Establisher => ESTABLISHER,
            Side::Receiver => self.target(),
        }
    }

    /// Loses all that `from` sends to `to` from now on, and what is on its way.
    pub fn partition_oneway(&mut self, from: &'static str, to: &'static str) {
        self.change(from, to, |link, from_first| {
            *(if from_first { &mut link.first_lost } else { &mut link.second_lost }) += 1;
        });
    }

    /// Ends a [`partition_oneway`](Self::partition_oneway).
    pub fn repair_oneway(&mut self, from: &'static str, to: &'static str) {
        self.change(from, to, |link, from_first| {
            *(if from_first { &mut link.first_lost } else { &mut link.second_lost }) -= 1;
        });
    }

    /// Keeps back all that two hosts send each other.
    pub fn hold(&mut self, a: &'static str, b: &'static str) {
        self.change(a, b, |link, _| link.held += 1);
    }

    /// Ends a [`hold`](Self::hold): what was kept back arrives.
    pub fn release(&mut self, a: &'static str, b: &'static str) {
        self.change(a, b, |link, _| link.held -= 1);
    }

    /// Lets each message between two hosts travel longer.
    pub fn delay(&mut self, a: &'static str, b: &'static str, late_ms: u64) {
        self.change(a, b, |link, _| link.late_ms += late_ms);
    }

    /// Ends a [`delay`](Self::delay).
    pub fn undelay(&mut self, a: &'static str, b: &'static str, late_ms: u64) {
        self.change(a, b, |link, _| link.late_ms -= late_ms);
    }

    fn change(&mut self, a: &'static str, b: &'static str, change: impl FnOnce(&mut Link, bool)) {
        let (pair, a_first) = if a < b { ((a, b), true) } else { ((b, a), false) };
        let link = self.links.entry(pair).or_default();
        let before = *link;
        change(link, a_first);
        let after = *link;
        let (first, second) = pair;
        let lost = |link: Link| (link.first_lost > 0, link.second_lost > 0);
        // What is lost is not held: turmoil gives a link one state, and never delivers what is held when it is repaired.
        let held = |link: Link| link.held > 0 && lost(link) == (false, false);
        if held(before) && !held(after) {
            self.run.release(first, second);
        }
        if lost(before) != lost(after) {
            if lost(before) != (false, false) {
                self.run.repair(first, second);
            }
            match lost(after) {
                (true, true) => self.run.partition(first, second),
                (true, false) => self.run.partition_oneway(first, second),
                (false, true) => self.run.partition_oneway(second, first),
                (false, false) => {}
            }
        }
        if held(after) && !held(before) {
            self.run.hold(first, second);
        }
        if before.late_ms != after.late_ms {
            let base = self.context.plan.network.latency_ms;
            self.run.set_latency(first, second, Duration::from_millis(base + after.late_ms));
        }
    }

    /// Ends the process of a host. Its kernel closes the sockets.
    pub fn crash(&mut self, host: &'static str) {
        self.change_down(host, |down| down.crashed += 1);
    }

    /// Ends a [`crash`](Self::crash).
    pub fn restart(&mut self, host: &'static str) {
        self.change_down(host, |down| down.crashed -= 1);
    }

    /// Ends the process of a host and its kernel, which says nothing more.
    pub fn lose_power(&mut self, host: &'static str) {
        self.change_down(host, |down| down.dark += 1);
    }

    /// Ends a [`lose_power`](Self::lose_power).
    pub fn restore_power(&mut self, host: &'static str) {
        self.change_down(host, |down| down.dark -= 1);
    }

    fn change_down(&mut self, host: &'static str, change: impl FnOnce(&mut Down)) {
        let down = self.down.entry(host).or_default();
        let before = *down;
        change(down);
        let after = *down;
        if before.dark == 0 && after.dark > 0 {
            self.run.lose_power(host);
        } else if before.runs() && !after.runs() {
            self.run.kill(host);
        }
        if before.runs() && !after.runs() {
            note(host, What::Down);
            self.context.host_is_down(host);
        }
        if before.dark > 0 && after.dark == 0 {
            self.run.restore_power(host);
        }
        if !before.runs() && after.runs() {
            self.run.restart(host);
        }
    }

    /// Lets the process of a host stand still.
    pub fn stop(&mut self, host: &'static str, how: Stop) {
        if !self.run.is_stopped(host) {
            note(host, What::StandsStill);
        }
        let context = Rc::clone(&self.context);
        let asks = move || {
            // A command for whoever drives the session, who has not looked at the socket since.
            if let Some(session) = context.manager(host).and_then(|manager| manager.try_session()) {
                let _ = session.ping().now_or_never();
            }
        };
        self.run.stop(host, how, asks);
    }

    /// Ends a [`stop`](Self::stop).
    pub fn go_on(&mut self, host: &'static str) {
        self.run.go_on(host);
        if !self.run.is_stopped(host) {
            let conditions = self.context.conditions(host);
            let readiness = self.context.kernel(host).readiness();
            let ready = |is_ready: fn(&Readiness) -> bool| {
                readiness.iter().filter(|socket| is_ready(socket)).map(|socket| socket.local.to_string()).collect()
            };
            let readable = if conditions.lets_read() { ready(|socket| socket.is_readable) } else { Vec::new() };
            let writable = if conditions.lets_write() { ready(|socket| socket.is_writable) } else { Vec::new() };
            note(host, What::GoesOn { readable, writable });
        }
    }

    /// Runs something on a host.
    pub fn spawn_on(&self, host: &'static str, task: impl Future<Output = ()> + 'static) {
        self.context.spawn_on(host, task);
    }
}
