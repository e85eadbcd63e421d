//! The hosts of a run and the links between them, as faults change them.

use std::collections::BTreeMap;
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use crate::context::{ESTABLISHER, RunContext};
use crate::history::{What, note};
use crate::plan::Side;
use crate::stage::Run;

/// Two hosts, in the order of their names.
type Pair = (&'static str, &'static str);

/// The hosts of a run, and the links between them.
pub struct World<'r> {
    pub(crate) run: &'r mut Run,
    /// What hosts and world share.
    pub context: Rc<RunContext>,
    links: BTreeMap<Pair, Link>,
    /// How often each host was taken down; it is up at zero.
    down: BTreeMap<&'static str, u32>,
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
        let context = RunContext::new(run.seed(), run.plan().clone(), run.counters());
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

    /// Takes a host down: its process is gone, its sockets say FIN.
    pub fn crash(&mut self, host: &'static str) {
        let down = self.down.entry(host).or_default();
        *down += 1;
        if *down == 1 {
            self.run.crash(host);
            note(host, What::Down);
            self.context.host_is_down(host);
        }
    }

    /// Ends a [`crash`](Self::crash).
    pub fn bounce(&mut self, host: &'static str) {
        let down = self.down.entry(host).or_default();
        *down -= 1;
        if *down == 0 {
            self.run.bounce(host);
        }
    }

    /// Runs something on a host.
    pub fn spawn_on(&self, host: &'static str, task: impl Future<Output = ()> + 'static) {
        self.context.spawn_on(host, task);
    }
}
