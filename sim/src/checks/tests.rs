//! Each check finds what it is about, in a history written by hand.

use std::time::Duration;

use super::{all, coverage};
use crate::context::{ESTABLISHER, RECEIVER, RunContext};
use crate::counters::Counters;
use crate::history::{End, Entry, Report, Silence, What};
use crate::net::Names;
use crate::plan::{Caller, Fault, Network, Plan, Settings, Side, Yields};
use crate::usage::Usage;
use crate::verdict::Violation;

fn plan(faults: &[(&str, u64)]) -> Plan {
    let fault = |(kind, lasts_ms): &(&str, u64)| Fault {
        kind: (*kind).to_owned(),
        at_ms: 0,
        on: None,
        lasts_ms: *lasts_ms,
        side: Side::Receiver,
        severity: 0,
    };
    Plan {
        network: Network::default(),
        settings: Settings::default(),
        usage: Usage::default(),
        foreign: None,
        fleet: 0,
        callers: vec![Caller { work: "request".into(), side: Side::Establisher, pause_ms: 1, bytes: 1 }],
        faults: faults.iter().map(fault).collect(),
        calm_ms: 0,
        yields: Yields::default(),
    }
}

/// What the checks say of a history of the establisher: times in milliseconds, each with the end of a step after all that
/// happens then.
fn verdict(plan: Plan, history: &[(u64, What)]) -> Option<String> {
    let history = history.iter().map(|(ms, what)| (*ms, ESTABLISHER, what.clone()));
    verdict_of_all(plan, &history.collect::<Vec<_>>())
}

/// What the checks say of a history of several.
fn verdict_of_all(plan: Plan, history: &[(u64, &str, What)]) -> Option<String> {
    let history = history.iter().map(|(ms, who, what)| (*ms, *who, 0, what.clone()));
    verdict_by_place(plan, &history.collect::<Vec<_>>())
}

/// What the checks say of a history that names the places.
fn verdict_by_place(plan: Plan, history: &[(u64, &str, usize, What)]) -> Option<String> {
    let context = RunContext::new(0, plan, Counters::default(), &Names::default());
    let mut checks = all(&context);
    let mut see = || {
        for (index, (ms, who, place, what)) in history.iter().enumerate() {
            let at = Duration::from_millis(*ms);
            let entry = Entry { at, who: (*who).to_owned(), place: *place, what: what.clone() };
            for check in &mut checks {
                check.on(&entry)?;
            }
            if history.get(index + 1).is_some_and(|(next, ..)| next == ms) {
                continue;
            }
            for check in &mut checks {
                check.after_step(at)?;
            }
        }
        Ok::<(), Violation>(())
    };
    see().err().inspect(|broken| eprintln!("{broken}")).map(|broken| broken.guarantee.into_owned())
}

fn finds(guarantee: &str, history: &[(u64, What)]) {
    // Under a fault that excuses the end of a session.
    assert_eq!(verdict(plan(&[("partition", 60_000)]), history).as_deref(), Some(guarantee), "{history:#?}");
}

fn live(session: &str) -> What {
    What::Live(session.into())
}

fn ended(session: &str, name: &str) -> What {
    What::Closed(session.into(), End { name: name.into(), text: "it ended".into() })
}

fn closed(session: &str) -> What {
    ended(session, "lost")
}

fn holds(sessions: &[&str]) -> What {
    What::Holds(sessions.iter().map(|session| (*session).to_owned()).collect(), vec!["1.2.3.4:5".into()])
}

#[test]
fn a_history_in_good_order_passes() {
    let history = [
        (0, What::Starts),
        (0, What::Connecting),
        (5, What::Asks(0)),
        (5, live("1")),
        (5, holds(&["1"])),
        (10, What::Given(0, "1".into())),
        (20_000, closed("1")),
        (20_000, holds(&[])),
        (20_000, What::Connecting),
        (20_010, What::AttemptFailed),
        (21_010, What::Connecting),
        (21_020, live("2")),
        (21_020, holds(&["2"])),
        (30_000, What::ShutsDown),
        (30_000, What::Stops),
        (30_000, What::Draining("2".into())),
        (30_000, holds(&[])),
        (30_010, ended("2", "closed")),
        (30_010, What::HasShutDown),
    ];
    assert_eq!(verdict(plan(&[("partition", 60_000)]), &history), None);
}

#[test]
fn a_caller_who_waits_beside_a_live_session_is_found() {
    let begin = [(0, What::Starts), (0, What::Asks(0)), (5, live("1")), (5, holds(&["1"]))];
    finds("G1", &[&begin[..], &[(30, What::Noted("a step".into()))]].concat());
}

#[test]
fn a_caller_who_waits_after_a_shutdown_is_found() {
    finds(
        "G4",
        &[
            (0, What::Starts),
            (0, What::Asks(0)),
            (5, What::ShutsDown),
            (5, What::Stops),
            (5, What::HasShutDown),
            (40, What::Noted("a step".into())),
        ],
    );
}

#[test]
fn a_session_that_is_given_out_after_its_end_is_found() {
    finds(
        "G3",
        &[(0, What::Starts), (5, live("1")), (5, closed("1")), (5, What::Asks(0)), (5, What::Given(0, "1".into()))],
    );
}

#[test]
fn a_session_that_stays_in_the_slot_after_its_end_is_found() {
    finds("G3", &[(0, What::Starts), (5, live("1")), (5, holds(&["1"])), (9, closed("1"))]);
}

#[test]
fn a_live_session_that_is_taken_out_of_the_slot_is_found() {
    finds("G8", &[(0, What::Starts), (5, live("1")), (5, holds(&["1"])), (9, holds(&[]))]);
}

#[test]
fn a_session_in_a_place_that_is_taken_is_found() {
    finds("G8", &[(0, What::Starts), (5, live("1")), (6, live("2"))]);
}

#[test]
fn a_session_that_becomes_live_after_the_stop_is_found() {
    finds("G5", &[(0, What::Starts), (5, What::ShutsDown), (5, What::Stops), (6, live("1"))]);
}

#[test]
fn what_outlives_a_shutdown_is_found() {
    let shut_down = [(0, What::Starts), (5, What::ShutsDown), (5, What::Stops), (6, What::HasShutDown)];
    finds("G5", &[&shut_down[..], &[(7, What::Connecting)]].concat());
    finds("G5", &[&shut_down[..], &[(7, closed("1"))]].concat());
    finds("G5", &[(0, What::Starts), (1, live("1")), (5, What::Stops), (6, What::HasShutDown)]);
}

#[test]
fn a_session_that_is_closed_twice_is_found() {
    finds("G6", &[(0, What::Starts), (1, live("1")), (5, closed("1")), (6, closed("1"))]);
}

#[test]
fn an_attempt_that_comes_too_soon_is_found() {
    finds("G11", &[(0, What::Starts), (0, What::Connecting), (5, What::AttemptFailed), (500, What::Connecting)]);
    // After a session that died young as well.
    finds(
        "G11",
        &[(0, What::Starts), (0, What::Connecting), (5, live("1")), (900, closed("1")), (950, What::Connecting)],
    );
}

#[test]
fn an_attempt_that_comes_too_late_is_found() {
    // After a session that was stable it is made at once.
    finds(
        "G11",
        &[
            (0, What::Starts),
            (0, What::Connecting),
            (5, live("1")),
            (20_000, closed("1")),
            (20_500, What::Noted("a step".into())),
        ],
    );
    finds(
        "G11",
        &[(0, What::Starts), (0, What::Connecting), (5, What::AttemptFailed), (1_300, What::Noted("a step".into()))],
    );
}

#[test]
fn each_place_has_pauses_of_its_own() {
    let two_places =
        || Plan { settings: Settings { sessions: 2, ..Settings::default() }, ..plan(&[("partition", 60_000)]) };
    let by_place = |history: &[(u64, usize, What)]| {
        let history = history.iter().map(|(ms, place, what)| (*ms, ESTABLISHER, *place, what.clone()));
        verdict_by_place(two_places(), &history.collect::<Vec<_>>())
    };
    let begin = [
        (0, 0, What::Starts),
        (0, 0, What::Connecting),
        (0, 1, What::Connecting),
        (5, 0, What::AttemptFailed),
        (10, 1, live("1")),
    ];
    let then = |more: &[(u64, usize, What)]| by_place(&[&begin[..], more].concat());
    // What one place does excuses nothing in the other, and blames nothing on it.
    assert_eq!(then(&[(1_005, 0, What::Connecting), (20_000, 1, closed("1")), (20_000, 1, What::Connecting)]), None);
    assert_eq!(then(&[(500, 0, What::Connecting)]).as_deref(), Some("G11"));
    assert_eq!(then(&[(900, 1, closed("1")), (950, 1, What::Connecting)]).as_deref(), Some("G11"));
    let late = [(1_005, 0, What::Connecting), (20_000, 1, closed("1")), (20_500, 0, What::Noted("a step".into()))];
    assert_eq!(then(&late).as_deref(), Some("G11"));
}

#[test]
fn a_session_that_lived_just_as_long_as_counts_as_stable_may_count_as_either() {
    let history = |pause_ms: u64| {
        [
            (0, What::Starts),
            (0, What::Connecting),
            (5, What::AttemptFailed),
            (1_005, What::Connecting),
            (1_010, live("1")),
            (11_000, closed("1")),
            (11_000, What::Connecting),
            (11_010, What::AttemptFailed),
            // Shortly before, so that a pause that is too long is seen as well.
            (11_010 + pause_ms - 1, What::Noted("a step".into())),
            (11_010 + pause_ms, What::Connecting),
        ]
    };
    let excused = plan(&[("partition", 60_000)]);
    // One failure, or the third in a row.
    assert_eq!(verdict(excused.clone(), &history(1_000)), None);
    assert_eq!(verdict(excused.clone(), &history(2_250)), None);
    assert_eq!(verdict(excused, &history(100)).as_deref(), Some("G11"));
}

#[test]
fn reconnect_now_excuses_an_attempt_that_comes_soon() {
    let history = [
        (0, What::Starts),
        (0, What::Connecting),
        (5, What::AttemptFailed),
        (9, What::ReconnectNow),
        (9, What::PauseCut),
        (9, What::Connecting),
    ];
    assert_eq!(verdict(plan(&[]), &history), None);
}

#[test]
fn a_session_that_ends_without_a_reason_is_found() {
    let history = [(0, What::Starts), (1, What::Connecting), (5, live("1")), (99, ended("1", "heartbeat_timeout"))];
    for harmless in [&[][..], &[("slow link", 60_000)], &[("freeze", 1_000), ("rival", 60_000)]] {
        assert_eq!(verdict(plan(harmless), &history).as_deref(), Some("G10"), "{harmless:?}");
    }
    for excuse in [("freeze", 60_000), ("reset", 1)] {
        assert_eq!(verdict(plan(&[excuse]), &history), None, "{excuse:?}");
    }
}

#[test]
fn a_session_that_ends_beside_one_that_was_cut_is_found() {
    let begin = [(0, What::Starts), (0, What::Connecting), (5, live("1")), (5, live("2")), (90, What::FaultBegins(0))];
    let verdict = |then: &[(u64, What)]| {
        let one_is_cut =
            Plan { settings: Settings { sessions: 2, ..Settings::default() }, ..plan(&[("one reset", 1)]) };
        verdict(one_is_cut, &[&begin[..], then].concat())
    };
    assert_eq!(verdict(&[(95, closed("1"))]), None);
    assert_eq!(verdict(&[(95, closed("1")), (96, closed("2"))]).as_deref(), Some("G10"));
    assert_eq!(verdict(&[(1_200, closed("1"))]).as_deref(), Some("G10"));
}

#[test]
fn a_session_with_somebody_silent_is_found() {
    finds("G15", &[(0, What::Starts), (1, What::Mute("1.2.3.4:5".into())), (5, live("1")), (5, holds(&["1"]))]);
}

#[test]
fn a_shutdown_that_cuts_off_is_found() {
    let lost = [(0, What::Starts), (5, live("1")), (5_000, closed("1"))];
    assert_eq!(verdict(plan(&[("shutdown", 1)]), &lost).as_deref(), Some("G17"));
    let interrupted = [
        (0, What::Starts),
        (5, live("1")),
        (10, What::Given(0, "1".into())),
        (5_000, What::ShutsDown),
        (5_001, What::Interrupted(0, "the stream was reset".into())),
    ];
    assert_eq!(verdict(plan(&[("shutdown", 1)]), &interrupted).as_deref(), Some("G17"));
}

#[test]
fn a_session_that_outlives_its_dead_connection_is_found() {
    let ms = Duration::from_millis;
    let verdict = |who, heard, stalled: Option<u64>, waited, at| {
        let mut plan = plan(&[("partition", 60_000)]);
        plan.settings.receiver_clock_percent = 200;
        let silence = Silence {
            heard: ms(heard),
            stalled: stalled.map(ms),
            waited: ms(waited),
            stood_still: ms(0),
            round_trip: ms(0),
        };
        verdict_of_all(
            plan,
            &[(0, who, What::Starts), (5, who, live("1")), (at, who, What::Silence("1".into(), silence))],
        )
    };
    let fine = |who, heard, stalled, waited, at| assert_eq!(verdict(who, heard, stalled, waited, at), None);
    let late = |who, heard, stalled, waited, at| {
        assert_eq!(verdict(who, heard, stalled, waited, at).as_deref(), Some("G10"));
    };
    // Ten seconds until the ping, and five for its answer.
    fine(ESTABLISHER, 1_000, None, 5, 16_000);
    late(ESTABLISHER, 1_000, None, 5, 16_100);
    // The ping went out behind other bytes.
    fine(ESTABLISHER, 1_000, None, 14_000, 18_900);
    late(ESTABLISHER, 1_000, None, 14_000, 19_100);
    // A write may wait for ten seconds, while bytes arrive as well.
    fine(ESTABLISHER, 12_900, Some(3_000), 5, 13_000);
    late(ESTABLISHER, 13_000, Some(3_000), 5, 13_100);
    // Each side by its own settings.
    fine(RECEIVER, 1_000, None, 5, 31_000);
    late(RECEIVER, 1_000, None, 5, 31_100);
    fine(RECEIVER, 1_000, Some(3_000), 5, 23_000);
    late(RECEIVER, 1_000, Some(3_000), 5, 23_100);
}

#[test]
fn an_attempt_that_fails_for_others_is_found() {
    let verdict = |faults: &[(&str, u64)], meanwhile: &[(u64, &str, What)]| {
        let begin = [(0, RECEIVER, What::Starts), (0, ESTABLISHER, What::Starts), (500, ESTABLISHER, What::Connecting)];
        verdict_of_all(plan(faults), &[&begin[..], meanwhile, &[(10_500, ESTABLISHER, What::AttemptFailed)]].concat())
    };
    let others = [("strangers", 60_000), ("reset", 1), ("refuse", 5_000)];
    let [reset, refused] = [1, 2].map(|fault| [(600, "", What::FaultBegins(fault)), (601, "", What::FaultEnds(fault))]);
    let full = [(600, RECEIVER, What::Noted("accept_paused".into()))];
    let over = [(600, ESTABLISHER, What::ShutsDown), (600, ESTABLISHER, What::Stops)];
    let strangers = [(600, "", What::FaultBegins(0))];

    assert_eq!(verdict(&others, &[]).as_deref(), Some("G13"));
    assert_eq!(verdict(&others, &strangers).as_deref(), Some("G13"));
    for excuse in [&reset[..], &refused, &full, &over] {
        assert_eq!(verdict(&others, excuse), None, "{excuse:?}");
    }
    for excuse in ["rival", "partition"] {
        assert_eq!(verdict(&[(excuse, 60_000)], &strangers), None, "{excuse}");
        assert_eq!(verdict(&[(excuse, 60_000)], &[]).as_deref(), Some("G13"), "{excuse} has not begun");
    }
    assert_eq!(verdict(&[("latency spike", 60_000)], &[]), None, "what was sent at its end is late");
}

/// A ghost that has the place is found in two probes of two seconds.
#[test]
fn an_attempt_that_a_ghost_keeps_waiting_is_found() {
    let took = |ms: u64| {
        let history = [
            (0, RECEIVER, What::Starts),
            (0, ESTABLISHER, What::Starts),
            (10, "", What::FaultBegins(0)),
            (400, "", What::FaultEnds(0)),
            (500, ESTABLISHER, What::Connecting),
            (500 + ms, ESTABLISHER, live("2")),
        ];
        verdict_of_all(plan(&[("power loss", 390)]), &history)
    };
    assert_eq!(took(4_000), None);
    assert_eq!(took(6_000).as_deref(), Some("G14"));
}

#[test]
fn an_attempt_that_a_fault_has_met_may_fail_and_the_next_one_may_not() {
    let history = |begins| {
        [
            (0, RECEIVER, What::Starts),
            (0, ESTABLISHER, What::Starts),
            (10, "", What::FaultBegins(0)),
            (50, ESTABLISHER, What::Connecting),
            (60, ESTABLISHER, What::AttemptFailed),
            (begins - 500, "", What::FaultEnds(0)),
            (begins, ESTABLISHER, What::Connecting),
            (begins + 10, ESTABLISHER, What::AttemptFailed),
        ]
    };
    assert_eq!(verdict_of_all(plan(&[("refuse", 1)]), &history(1_060)).as_deref(), Some("G13"));
    // Nothing listens before the receiver runs.
    assert_eq!(verdict_of_all(plan(&[("refuse", 1)]), &history(1_060)[1..]), None);
}

#[test]
fn a_candidate_that_its_heartbeat_gives_up_is_found() {
    let attempt = |reason: &str| {
        let closed = ended("1", reason);
        [(0, What::Starts), (0, What::Connecting), (6_000, closed), (6_000, What::AttemptFailed)]
    };
    finds("G10", &attempt("heartbeat_timeout"));
    let excused = plan(&[("partition", 60_000)]);
    assert_eq!(verdict(excused.clone(), &attempt("not_proven")), None);
    let proven = [
        (0, What::Starts),
        (0, What::Connecting),
        (5, live("1")),
        (15_005, ended("1", "heartbeat_timeout")),
        (15_005, What::Connecting),
    ];
    assert_eq!(verdict(excused, &proven), None);
}

#[test]
fn a_sweep_knows_every_check() {
    let context = RunContext::new(0, plan(&[]), Counters::default(), &Names::default());
    let names = all(&context).iter().map(|check| check.name()).collect::<Vec<_>>();
    assert_eq!(names, coverage::CHECKS);
}

#[test]
fn a_check_looks_where_something_could_be_wrong_and_nowhere_else() {
    let looks = |faults: &[(&str, u64)], history: &[(u64, What)]| {
        let context = RunContext::new(0, plan(faults), Counters::default(), &Names::default());
        let mut checks = all(&context);
        for (ms, what) in history {
            let at = Duration::from_millis(*ms);
            let entry = Entry { at, who: ESTABLISHER.into(), place: 0, what: what.clone() };
            for check in &mut checks {
                check.on(&entry).unwrap();
                check.after_step(at).unwrap();
            }
        }
        let looked = checks.into_iter().filter(|check| check.looks() > 0).map(|check| check.name());
        looked.collect::<Vec<_>>()
    };
    let waits = [(0, What::Starts), (10, What::Asks(0)), (20, What::Given(0, "1".into()))];
    // A session that is given to who waited must be in the slot.
    let live = [waits[0].clone(), waits[1].clone(), (15, live("1")), waits[2].clone()];
    assert_eq!(looks(&[("partition", 60_000)], &live), ["lives", "waiting"]);
    assert_eq!(looks(&[("partition", 60_000)], &waits[..2]), Vec::<&str>::new());
    // A piece of work that was begun before a shutdown, and done after it.
    let given = |at| [(0, What::Starts), (at, live[2].1.clone()), (at, waits[1].1.clone()), (at, waits[2].1.clone())];
    let after = [(3_000, What::ShutsDown), (4_000, What::Served(0))];
    let shutdown = |at| looks(&[("shutdown", 1)], &[&given(at)[..], &after].concat());
    assert!(shutdown(1_000).contains(&"graceful shutdown"), "{:?}", shutdown(1_000));
    assert!(!shutdown(2_990).contains(&"graceful shutdown"), "{:?}", shutdown(2_990));
}

#[test]
fn an_honest_peer_that_is_taken_for_a_liar_is_found() {
    let receives = [(0, RECEIVER, What::Starts), (5, RECEIVER, live("1")), (900, RECEIVER, ended("1", "protocol"))];
    // Under a fault that excuses the end of a session.
    let verdict = |fault: &str, history: &[_]| verdict_of_all(plan(&[("partition", 60_000), (fault, 60_000)]), history);
    assert_eq!(verdict("reset", &receives).as_deref(), Some("G16"));
    assert_eq!(verdict("hostile clients", &receives), None);
    // Strangers get no place.
    assert_eq!(verdict("strangers", &[receives[0].clone(), receives[2].clone()]), None);
    let dials = [
        (0, ESTABLISHER, What::Starts),
        (0, ESTABLISHER, What::Connecting),
        (5, ESTABLISHER, live("1")),
        (900, ESTABLISHER, ended("1", "protocol")),
    ];
    assert_eq!(verdict("hostile clients", &dials).as_deref(), Some("G16"), "nobody dials a hostile client");
}

#[test]
fn a_manager_that_gives_up_too_soon_or_goes_on_too_long_is_found() {
    let verdict = |settings: Settings, history: &[(u64, What)]| {
        let plan = Plan { settings, ..plan(&[("partition", 60_000)]) };
        verdict(plan, &[&[(0, What::Starts), (0, What::Connecting)], history].concat())
    };
    let fails = |ms| [(ms, What::AttemptFailed), (ms + 1_000, What::Connecting)];
    let attempts = Settings { max_attempts: 3, backoff_jitter_percent: 100, ..Settings::default() };
    let two = [fails(10), fails(1_500)].concat();
    let up = [(2_600, What::GaveUp)];
    // The third is told by the end alone.
    assert_eq!(verdict(attempts, &[&two[..], &up].concat()), None);
    assert_eq!(verdict(attempts, &[&two[..2], &up].concat()).as_deref(), Some("G12"));
    assert_eq!(verdict(attempts, &[&two[..], &fails(2_600)].concat()).as_deref(), Some("G12"));
    let elapsed = Settings { max_elapsed_ms: 2_000, ..Settings::default() };
    assert_eq!(verdict(elapsed, &[&two[..], &up].concat()), None);
    assert_eq!(verdict(elapsed, &[(10, What::AttemptFailed), (20, What::GaveUp)]).as_deref(), Some("G12"));
    let late = [(10, What::AttemptFailed), (2_000, What::Connecting), (2_500, What::AttemptFailed)];
    assert_eq!(verdict(elapsed, &late).as_deref(), Some("G12"));
}

#[test]
fn a_rival_that_is_let_in_though_it_is_not_admitted_is_found() {
    let history = [(0, "rival", What::Starts), (5, "rival", live("1"))];
    let admits = Plan { usage: Usage { admits: true, ..Usage::default() }, ..plan(&[("rival", 60_000)]) };
    assert_eq!(verdict_of_all(admits, &history).as_deref(), Some("G14"));
    assert_eq!(verdict_of_all(plan(&[("rival", 60_000)]), &history), None);
}

#[test]
fn a_status_that_is_not_so_is_found() {
    let says = |activity: &str, sessions, sessions_so_far, attempts| {
        let activity = activity.into();
        let names_error = attempts > 0;
        What::Says(Report { activity, sessions, sessions_so_far, attempts, names_error, ..Report::default() })
    };
    let begin = [(0, What::Starts), (0, What::Connecting)];
    let failed = [(5, What::AttemptFailed)];
    let live = [(5, live("1")), (5, holds(&["1"]))];
    let verdict = |meanwhile: &[(u64, What)], at, report: &What| {
        let says = [(at, report.clone())];
        verdict(plan(&[("partition", 60_000)]), &[&begin[..], meanwhile, &says].concat())
    };
    for (meanwhile, right) in
        [(&[][..], says("Connecting", 0, 0, 0)), (&failed, says("BackingOff", 0, 0, 1)), (&live, says("Live", 1, 1, 0))]
    {
        assert_eq!(verdict(meanwhile, 5, &right), None, "{right:?}");
    }
    for (meanwhile, wrong) in [
        (&[][..], says("BackingOff", 0, 0, 0)),
        (&[][..], says("Listening", 0, 0, 0)),
        (&[][..], says("Stopped", 0, 0, 0)),
        (&failed, says("Connecting", 0, 0, 1)),
        (&failed, says("BackingOff", 0, 0, 0)),
        (&live, says("Connecting", 1, 1, 0)),
        (&live, says("Live", 1, 0, 0)),
        (&live, says("Live", 1, 1, 1)),
        (&[][..], What::Says(Report { activity: "ShuttingDown".into(), ..Report::default() })),
        (&[][..], What::Says(Report { activity: "Connecting".into(), held_out: 1, ..Report::default() })),
        (&[][..], What::Says(Report { activity: "Connecting".into(), stopped: "gave up".into(), ..Report::default() })),
    ] {
        assert_eq!(verdict(meanwhile, 5, &wrong).as_deref(), Some("G12"), "{wrong:?}");
    }
}

/// Two ends of one connection, which both have in their slots.
fn both_live(ms: u64) -> Vec<(u64, &'static str, What)> {
    let runs = |local: &str, peer: &str| What::Runs("1".into(), local.into(), peer.into());
    vec![
        (ms, ESTABLISHER, live("1")),
        (ms, RECEIVER, live("1")),
        (ms, ESTABLISHER, runs("1.1.1.1:1", "2.2.2.2:2")),
        (ms, RECEIVER, runs("2.2.2.2:2", "1.1.1.1:1")),
    ]
}

#[test]
fn two_ends_that_tell_different_stories_are_found() {
    let story = |plan: Plan, first: &str, second: &str, later_ms: u64| {
        let drains = [(900, RECEIVER, What::Draining("1".into())), (950, ESTABLISHER, What::Draining("1".into()))];
        let drains = if first == "closed" { &drains[..] } else { &[] };
        let ends = [(1_000, RECEIVER, ended("1", first)), (1_000 + later_ms, ESTABLISHER, ended("1", second))];
        let (asked, later) = ((800, RECEIVER, What::ShutsDown), (9_000, RECEIVER, What::Noted("a step".into())));
        let mut history = [&both_live(5)[..], &[asked], drains, &ends, &[later]].concat();
        history.sort_by_key(|(ms, ..)| *ms);
        verdict_of_all(plan, &history)
    };
    let fair = || plan(&[("reconnect_now", 60_000)]);
    for (first, second) in
        [("closed", "peer_closed"), ("replaced", "displaced"), ("aborted", "lost"), ("replaced", "lost")]
    {
        assert_eq!(story(fair(), first, second, 10), None, "{first}, {second}");
    }
    for (first, second) in
        [("aborted", "displaced"), ("closed", "peer_timed_out"), ("closed", "lost"), ("aborted", "peer_closed")]
    {
        assert_eq!(story(fair(), first, second, 10).as_deref(), Some("G17"), "{first}, {second}");
    }
    assert_eq!(story(fair(), "aborted", "lost", 20_000).as_deref(), Some("G10"), "half open");
    // Whatever goes wrong, nobody says of the other what that did not do.
    let partition = || plan(&[("partition", 60_000)]);
    let disturbed = |first, second| {
        let begins = [(0, "", What::FaultBegins(0))];
        let ends = [(1_000, RECEIVER, ended("1", first)), (1_010, ESTABLISHER, ended("1", second))];
        verdict_of_all(partition(), &[&begins[..], &both_live(5), &ends].concat())
    };
    assert_eq!(disturbed("heartbeat_timeout", "lost"), None);
    assert_eq!(disturbed("heartbeat_timeout", "peer_timed_out"), None);
    assert_eq!(disturbed("write_stalled", "peer_timed_out").as_deref(), Some("G17"));
    assert_eq!(disturbed("closed", "lost").as_deref(), Some("G17"), "the peer had not closed it");
}

#[test]
fn a_client_that_is_turned_away_hears_so_and_nobody_else_does() {
    let verdict = |history: &[(u64, &'static str, What)]| verdict_of_all(plan(&[("rival", 60_000)]), history);
    let held_out = (100, RECEIVER, What::Noted("candidate_held_out".into()));
    let heard = (110, "rival", ended("1", "held_out"));
    let later = (9_000, RECEIVER, What::Noted("a step".into()));
    assert_eq!(verdict(&[held_out.clone(), heard.clone(), later.clone()]), None);
    assert_eq!(verdict(&[held_out, later]).as_deref(), Some("G14"));
    assert_eq!(verdict(&[heard]).as_deref(), Some("G17"));
}
