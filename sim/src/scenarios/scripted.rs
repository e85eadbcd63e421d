//! Bugs that really happened to systems of this kind, each as a plan that would show it.
//!
//! The plans are fixed; the seed decides the latency, the order of hosts, and what callers do when.

use proptest::prelude::{Strategy, any};

use super::scenario::{Group, Scenario, world};
use crate::draw::Plans;
use crate::plan::{Caller, Fault, Impairments, Network, Plan, Settings, Side, Yields};
use crate::usage::Usage;

/// The scenarios of this file, one line each: its name, what happens, and the plan.
macro_rules! scripted {
    ($($name:ident: $about:literal, $plan:expr;)*) => {
        pub(super) static ALL: &[&Scenario] = &[$({
            fn plans() -> Plans {
                on_any_path($plan)
            }
            static SCENARIO: Scenario =
                Scenario { name: stringify!($name), about: $about, group: Group::Scripted, plans, run: world };
            &SCENARIO
        }),*];
    };
}

scripted! {
    no_broadcast_on_shutdown: "Callers wait for a peer that refuses, and the manager is shut down under them",
        plan().callers("request", 3).fault("refuse", 0, 20_000).ours("shutdown", 5_000).ours("shutdown", 9_000);
    death_told_before_clear: "Sessions are reset and drained, and whoever learns of it asks again at once",
        plan().callers("request", 2).callers("trickle", 2).every("reset", 500, 1_500, 4)
            .theirs("shutdown", 12_000).theirs("shutdown", 20_000);
    install_after_shutdown: "The manager is shut down at every moment of a connection that is being made",
        plan().callers("request", 2).each_ours("shutdown", 5, 23, 16);
    dies_before_install: "Connections are reset at every moment of their making",
        plan().callers("request", 2).every("reset", 1, 7, 40);
    abort_then_ask: "A caller aborts its session and asks again before anything else has run",
        plan().callers("aborts", 1).callers("request", 2).calm(15_000);
    late_clear_erases_newer: "Candidates die beside a live session, and one drains beside its successor",
        plan().callers("trickle", 3).callers("request", 1).fault("strangers", 1_000, 4_000).fault("rival", 6_000, 20_000)
            .theirs("shutdown", 30_000);
    closed_session_stays_peekable: "Sessions end cleanly and by a cut, and are out of the slot at once",
        plan().callers("request", 2).fault("cut", 2_000, 1).fault("reset", 6_000, 1).theirs("crash", 9_000);
    receiver_own_shutdown: "The receiver is shut down while a session lives, and its port is taken again",
        plan().callers("request", 2).theirs("shutdown", 3_000).theirs("shutdown", 6_000);
    accept_not_interrupted: "The receiver is shut down while it waits for a connection",
        plan().callers("request", 1).fault("black hole", 0, 12_000).theirs("shutdown", 4_000).theirs("shutdown", 8_000);
    provider_death_hangs_callers: "The connector fails for good while callers wait: they are told, and the next manager serves",
        plan().callers("request", 3).ours_for("fatal error", 5_000, 4_000).fault("reset", 5_100, 1);
    live_provider_ignores_shutdown: "Both sides are shut down while their session lives",
        plan().callers("request", 2).ours("shutdown", 3_000).theirs("shutdown", 6_000);
    uninterruptible_sleep: "The manager is shut down in the middle of a long pause",
        plan().callers("request", 1).fault("refuse", 0, 60_000).ours("shutdown", 40_000);
    redial_without_backoff: "Young sessions fall silent, again and again, and the establisher finds it first: the pauses grow",
        plan().heartbeat(30).slow_receiver().callers("request", 1).every_for("black hole", 1_000, 7_000, 8, 6_000);
    refused_without_backoff: "The peer refuses for half a minute: the pauses grow",
        plan().callers("request", 1).fault("refuse", 2_000, 30_000).fault("reset", 2_000, 1);
    backoff_reset_on_accept: "The peer accepts and drops at once, for half a minute: the pauses grow",
        plan().callers("request", 1).every("reset", 200, 150, 200);
    fatal_on_transient_accept: "accept fails with EMFILE for a while",
        plan().callers("request", 1).fault("accept errors", 0, 8_000).fault("accept errors", 15_000, 8_000)
            .fault("reset", 15_000, 1);
    slow_handshake_blocks_accept: "Strangers who never say a word are in their handshakes when the session is lost",
        plan().handshake().callers("request", 1).fault("strangers", 1_000, 30_000).fault("reset", 2_000, 1);
    phantom_session: "A load balancer with nothing behind it takes the connections",
        plan().callers("request", 1).fault("silent acceptor", 0, 25_000);
    withheld_pong_trips_heartbeat: "A second client, whose heartbeat is eager, waits for the only place",
        plan().heartbeat(40).callers("request", 2).fault("rival", 0, 20_000).fault("rival", 30_000, 20_000);
    drain_blocks_redial: "The receiver restarts while a stream drains slowly: the next attempt is made at once",
        plan().callers("trickle", 4).theirs("shutdown", 15_000).theirs("shutdown", 40_000);
    dial_without_deadline: "What is dialled is never answered",
        plan().callers("request", 1).ours_for("black hole", 0, 30_000);
    half_open_forever: "The receiver's host is without power for half a minute: nobody says that the connection is gone",
        plan().callers("trickle", 1).callers("request", 1).theirs_for("power loss", 5_000, 30_000);
    ghost_locks_out_peer: "The establisher's host loses power and comes back, while silent clients hold the receiver's backlog",
        plan().callers("request", 2).fault("strangers", 1_000, 40_000).ours_for("power loss", 5_000, 1_500)
            .ours_for("power loss", 22_000, 3_000);
    takeover_ping_pong: "A second client wants the only place for a minute, and both are alive",
        plan().callers("request", 2).fault("rival", 0, 60_000).calm(60_000);
    health_check_evicts_stalled_session: "Connections that prove nothing come while the live session stalls",
        plan().callers("trickle", 2).fault("strangers", 4_500, 4_000).fault("freeze", 6_000, 3_500);
    doomed_newcomer_published: "A second client comes to the only place, and goes, and comes again",
        plan().callers("request", 2).every_for("rival", 1_000, 20_000, 3, 15_000).calm(60_000);
    probe_stuck_behind_a_slow_upload: "The receiver sends much over a slow link, and a second client wants the only place",
        plan().callers("request", 1).their_callers("upload", 2).theirs_for("slow link", 1_000, 45_000)
            .fault("rival", 8_000, 30_000).calm(46_000);
    one_of_several_is_lost: "Four sessions, of which one is reset, again and again: those beside it live on",
        plan().sessions(4).callers("request", 4).callers("trickle", 2).their_callers("request", 2)
            .every("one reset", 3_000, 7_000, 8).calm(30_000);
    several_are_lost_and_drained: "Four sessions, which are reset and drained again and again: each is a life of its own",
        plan().sessions(4).callers("request", 4).callers("trickle", 2).their_callers("request", 2)
            .every("reset", 3_000, 7_000, 4).theirs("shutdown", 20_000).ours_for("power loss", 30_000, 1_000);
    keepalive_kills_busy_link: "Bulk over a link that is slow: pings wait behind it, and the session lives",
        plan().heartbeat(25).callers("upload", 2).ours_for("slow link", 2_000, 40_000);
    write_timeout_leaves_session: "The receiver reads nothing for long: the session ends, and the next one works",
        plan().lossy(0).slow_receiver().callers("upload", 4).theirs_for("stops reading", 5_000, 40_000);
    stalled_writer_unnoticed: "The receiver reads nothing and goes on writing: bytes still arrive",
        plan().lossy(0).slow_receiver().callers("upload", 4).their_callers("trickle", 3)
            .theirs_for("stops reading", 5_000, 40_000);
    read_first_stream_never_opens: "The server speaks first",
        plan().callers("greeted", 2).their_callers("greeted", 2).calm(10_000);
    dropped_reply_reads_as_complete: "A reply is dropped in the middle, after the request's FIN",
        plan().callers("cut short", 2).their_callers("cut short", 1).calm(10_000);
    reader_gone_after_fin_hangs_writer: "The peer says FIN and goes, while we write",
        plan().callers("deaf", 2).calm(30_000);
    local_close_strands_readers: "We shut down while our readers and writers wait",
        plan().callers("parked", 4).callers("hog", 2).callers("trickle", 2).ours("shutdown", 5_000)
            .ours("shutdown", 22_000);
    reset_reads_as_eof: "Connections are reset in the middle of replies",
        plan().callers("download", 3).every("reset", 400, 900, 20);
    stream_limit_kills_session: "More streams at once than either side allows, both ways",
        plan().streams(8).callers("short", 2).their_callers("short", 2).calm(20_000);
    goaway_looks_like_a_cut: "The peer shuts down cleanly, while streams are open: nobody takes it for a loss",
        plan().callers("trickle", 3).theirs("shutdown", 5_000).theirs("shutdown", 18_000);
    unread_inbound_stalls_all: "The receiver accepts no streams for half a minute: its own go on, and the session lives",
        plan().backlog(2).callers("request", 4).callers("unaccepted", 2).their_callers("request", 2)
            .theirs_for("stops accepting streams", 3_000, 30_000);
    slow_stream_stalls_others: "A stream is not read for a while: the one beside it is",
        plan().callers("hog", 3).calm(20_000);
    symmetric_backpressure_deadlock: "Both sides write more than everything between them can hold",
        plan().lossy(0).callers("both", 2).callers("request", 2).their_callers("both", 1).their_callers("request", 2)
            .calm(6_000);
    cancelled_open_leaks_stream: "Callers go away while they open streams, with few places for streams",
        plan().streams(8).callers("cancelled", 4).calm(30_000);
    goaway_cuts_streams: "The peer shuts down while streams are open: they come to their end",
        plan().callers("trickle", 3).callers("download", 1).theirs("shutdown", 4_000).ours("shutdown", 14_000);
    close_never_returns: "We shut down towards a peer that does not read",
        plan().callers("upload", 2).theirs_for("stops reading", 2_000, 25_000).ours("shutdown", 4_000);
    abrupt_kill_mid_transfer: "The peer's process is killed during bulk transfers, again and again",
        plan().callers("upload", 2).callers("download", 2).each_theirs("crash", 1_000, 4_000, 6);
}

/// A plan without callers and faults, for steps of 5 ms.
fn plan() -> Plan {
    Plan {
        network: Network::default(),
        settings: Settings::default(),
        usage: Usage::default(),
        foreign: None,
        fleet: 0,
        callers: Vec::new(),
        faults: Vec::new(),
        calm_ms: 1_000,
        yields: Yields::default(),
    }
}

/// The same plan with any latency and any order of hosts.
fn on_any_path(plan: Plan) -> Plans {
    (1..=30_u64, any::<bool>())
        .prop_map(move |(latency_ms, random_order)| {
            let network = Network { latency_ms, random_order, ..plan.network.clone() };
            Plan { network, ..plan.clone() }
        })
        .boxed()
}

/// How the plans above are written.
impl Plan {
    fn callers(mut self, work: &str, count: usize) -> Self {
        let caller = Caller { work: work.into(), side: Side::Establisher, pause_ms: 400, bytes: 200_000 };
        self.callers.extend(vec![caller; count]);
        self
    }

    fn their_callers(mut self, work: &str, count: usize) -> Self {
        let caller = Caller { work: work.into(), side: Side::Receiver, pause_ms: 400, bytes: 200_000 };
        self.callers.extend(vec![caller; count]);
        self
    }

    fn add(mut self, kind: &str, side: Side, at_ms: u64, lasts_ms: u64) -> Self {
        self.faults.push(Fault { kind: kind.into(), at_ms, on: None, lasts_ms, side, severity: 100 });
        self
    }

    fn fault(self, kind: &str, at_ms: u64, lasts_ms: u64) -> Self {
        self.add(kind, Side::Receiver, at_ms, lasts_ms)
    }

    fn ours(self, kind: &str, at_ms: u64) -> Self {
        self.ours_for(kind, at_ms, 1)
    }

    fn theirs(self, kind: &str, at_ms: u64) -> Self {
        self.theirs_for(kind, at_ms, 1)
    }

    fn ours_for(self, kind: &str, at_ms: u64, lasts_ms: u64) -> Self {
        self.add(kind, Side::Establisher, at_ms, lasts_ms)
    }

    fn theirs_for(self, kind: &str, at_ms: u64, lasts_ms: u64) -> Self {
        self.add(kind, Side::Receiver, at_ms, lasts_ms)
    }

    fn every(self, kind: &str, first_ms: u64, pause_ms: u64, times: u64) -> Self {
        (0..times).fold(self, |plan, time| plan.fault(kind, first_ms + time * pause_ms, 1))
    }

    fn every_for(self, kind: &str, first_ms: u64, pause_ms: u64, times: u64, lasts_ms: u64) -> Self {
        (0..times).fold(self, |plan, time| plan.fault(kind, first_ms + time * pause_ms, lasts_ms))
    }

    fn each_ours(self, kind: &str, first_ms: u64, pause_ms: u64, times: u64) -> Self {
        (0..times).fold(self, |plan, time| plan.ours(kind, first_ms + time * pause_ms))
    }

    fn each_theirs(self, kind: &str, first_ms: u64, pause_ms: u64, times: u64) -> Self {
        (0..times).fold(self, |plan, time| plan.theirs_for(kind, first_ms + time * pause_ms, pause_ms / 2))
    }

    fn calm(mut self, ms: u64) -> Self {
        self.calm_ms = ms;
        self
    }

    fn handshake(mut self) -> Self {
        self.network.handshake = true;
        self
    }

    fn lossy(mut self, loss: u32) -> Self {
        self.network.impairments = Impairments { loss, ..Impairments::default() };
        self
    }

    fn heartbeat(mut self, percent: u32) -> Self {
        self.settings.heartbeat_percent = percent;
        self
    }

    fn slow_receiver(mut self) -> Self {
        self.settings.receiver_clock_percent = 200;
        self
    }

    fn backlog(mut self, limit: usize) -> Self {
        self.settings.accept_backlog = limit;
        self
    }

    fn sessions(mut self, sessions: usize) -> Self {
        self.settings.sessions = sessions;
        self
    }

    fn streams(mut self, limit: u32) -> Self {
        self.settings.max_concurrent_streams = limit;
        self
    }
}
