use std::{env, fs};

use super::page::{escape, length, moment};
use super::*;

fn host(name: &str, up: &[(u64, u64)]) -> Host {
    let up = up.iter().map(|&(from_ms, to_ms)| Span { from_ms, to_ms }).collect();
    Host { name: name.into(), up }
}

fn fault(kind: &str, about: &str, hosts: &[&str], from_ms: u64, to_ms: u64) -> FaultSpan {
    let hosts = hosts.iter().map(ToString::to_string).collect();
    FaultSpan { kind: kind.into(), about: about.into(), hosts, from_ms, to_ms }
}

fn session(host: &str, id: &str, from_ms: u64, ended: Option<(u64, &str)>) -> SessionBar {
    let (to_ms, end) = (ended.map(|(to_ms, _)| to_ms), ended.map(|(_, end)| end.to_owned()));
    SessionBar { host: host.into(), manager: format!("{host}-manager"), id: id.into(), from_ms, to_ms, end }
}

fn mark(host: &str, at_ms: u64, kind: Kind, text: &str) -> Mark {
    Mark { host: host.into(), at_ms, kind, text: text.into() }
}

/// A short run: one partition, and a caller that is given a session which is dead.
fn simple() -> Timeline {
    let what = "the caller at 7.550 s was given session 1, whose end had been told at 7.400 s";
    Timeline {
        scenario: "partition_then_write".into(),
        seed: 17,
        revision: Some("4071d09".into()),
        guarantee: Some("G3".into()),
        what: Some(what.into()),
        replay: "cargo run --release -p sim -- replay 17 --scenario partition_then_write --trace".into(),
        end_ms: 12_000,
        hosts: vec![host("receiver", &[(0, 12_000)]), host("establisher", &[(0, 12_000)])],
        faults: vec![fault(
            "partition",
            "everything that receiver and establisher send each other is lost",
            &["receiver", "establisher"],
            5_000,
            7_300,
        )],
        sessions: vec![
            session("receiver", "1", 90, Some((7_350, "HeartbeatTimeout"))),
            session("receiver", "2", 7_700, None),
            session("establisher", "1", 60, Some((7_400, "HeartbeatTimeout"))),
            session("establisher", "2", 7_660, None),
        ],
        marks: vec![
            mark("establisher", 10, Kind::Attempt, "to receiver:7000"),
            mark("establisher", 20, Kind::Waiting, "caller 1"),
            mark("establisher", 60, Kind::Served, "caller 1 has session 1"),
            mark("receiver", 3_000, Kind::Note, "64 streams were echoed"),
            mark("establisher", 7_400, Kind::Interrupted, "caller 1 lost its stream"),
            mark("establisher", 7_410, Kind::Attempt, "to receiver:7000"),
            mark("establisher", 7_550, Kind::Served, "caller 2 has session 1"),
            mark("establisher", 11_000, Kind::Shutdown, "the drain begins"),
        ],
        violation: Some(ViolationMark { at_ms: 7_550, host: Some("establisher".into()), text: what.into() }),
    }
}

/// Three hosts, 20 sessions on each, 12 faults and 300 marks in ten minutes.
fn busy() -> Timeline {
    const HOSTS: [&str; 3] = ["receiver", "establisher", "proxy-in-the-middle"];
    const ENDS: [&str; 4] = ["HeartbeatTimeout", "Lost(connection reset)", "PeerClosed", "Replaced"];
    const FAULTS: [(&str, &str); 4] = [
        ("partition", "everything that these hosts send each other is lost"),
        ("hold", "everything is kept back, and arrives late"),
        ("crash", "the software of the host ends, and starts again"),
        ("reset", "all connections are cut at once"),
    ];
    let mut sessions = Vec::new();
    let mut marks = Vec::new();
    for (shift, host) in (0..).zip(HOSTS) {
        for number in 0..20 {
            let from_ms = number * 29_300 + shift * 1_700;
            let to_ms = from_ms + [24_000, 31_000, 140, 9_500][usize::try_from(number % 4).unwrap()];
            let end = ENDS[usize::try_from((number + shift) % 4).unwrap()];
            let ended = (number < 19).then_some((to_ms, end));
            let mut bar = session(host, &(number + 1).to_string(), from_ms, ended);
            if shift == 2 && number % 2 == 0 {
                bar.manager = "a second manager".into();
            }
            sessions.push(bar);
        }
        for number in 0..100 {
            let kind = Kind::ALL[usize::try_from((number * 5 + shift) % 8).unwrap()];
            // Half of them come in crowds.
            let at_ms = if number % 2 == 0 { number * 5_900 } else { (number / 10) * 59_000 + number * 35 };
            marks.push(mark(host, at_ms, kind, &format!("number {number}")));
        }
    }
    for (at_ms, kind, text) in [
        (571_900, Kind::Attempt, "to receiver:7000"),
        (572_950, Kind::AttemptFailed, "connection refused"),
        (573_000, Kind::Waiting, "caller 7"),
        (573_010, Kind::Waiting, "caller 9"),
        (573_021, Kind::Served, "caller 8"),
        (574_800, Kind::Cancelled, "caller 3"),
    ] {
        marks.push(mark(HOSTS[1], at_ms, kind, text));
    }
    let mut faults = Vec::new();
    for number in 0..12 {
        let (kind, about) = FAULTS[usize::try_from(number % 4).unwrap()];
        let from_ms =
            [3_000, 60_000, 61_000, 62_500, 180_000, 181_000, 300_000, 420_000, 520_000, 571_000, 573_500, 575_000]
                [usize::try_from(number).unwrap()];
        let to_ms = from_ms + [2_300, 40_000, 15, 0][usize::try_from(number % 4).unwrap()];
        let hosts: &[&str] = [&["receiver", "establisher"][..], &[], &["proxy-in-the-middle"], &["establisher"]]
            [usize::try_from(number % 4).unwrap()];
        faults.push(fault(kind, about, hosts, from_ms, to_ms));
    }
    let what = "two callers waited for 2.104 s while session 20 was in the slot: <caller 7> & <caller 9> were not woken by \
                the install at 573.021 s";
    Timeline {
        scenario: "mixed_faults".into(),
        seed: 18_446_744_073_709_551_615,
        revision: Some("e140c22".into()),
        guarantee: Some("G1".into()),
        what: Some(what.into()),
        replay: "cargo run --release -p sim -- replay 18446744073709551615 --scenario mixed_faults".into(),
        end_ms: 600_000,
        hosts: vec![
            host(HOSTS[0], &[(0, 600_000)]),
            host(HOSTS[1], &[(0, 330_000), (360_000, 600_000)]),
            host(HOSTS[2], &[(0, 61_000), (61_015, 181_000), (190_000, 571_000), (573_000, 600_000)]),
        ],
        faults,
        sessions,
        marks,
        violation: Some(ViolationMark { at_ms: 575_125, host: Some(HOSTS[1].into()), text: what.into() }),
    }
}

fn passed() -> Timeline {
    Timeline {
        guarantee: None,
        what: None,
        violation: None,
        seed: 18,
        replay: "cargo run --release -p sim -- replay 18".into(),
        ..simple()
    }
}

#[test]
fn text_cannot_leave_its_place() {
    assert_eq!(escape("<b a='1' c=\"2\">&\u{1b}"), "&lt;b a=&#39;1&#39; c=&quot;2&quot;&gt;&amp;\u{fffd}");
    let evil = "</title><script>alert('\"')</script>";
    let page = render(&Timeline {
        scenario: evil.into(),
        revision: Some(evil.into()),
        guarantee: Some(evil.into()),
        what: Some(evil.into()),
        replay: evil.into(),
        hosts: vec![host(evil, &[(0, 1)])],
        faults: vec![fault(evil, evil, &[evil], 0, 1)],
        sessions: vec![session(evil, evil, 0, Some((1, evil)))],
        marks: vec![mark(evil, 0, Kind::Note, evil)],
        violation: Some(ViolationMark { at_ms: 0, host: Some(evil.into()), text: evil.into() }),
        ..simple()
    });
    assert!(!page.contains("<script"));
    assert!(!page.contains("alert('"));
}

#[test]
fn times_are_read_in_seconds() {
    assert_eq!(moment(5_000), "5.000 s");
    assert_eq!(length(2_300), "2.3 s");
    assert_eq!(length(600_000), "600 s");
    assert_eq!(length(15), "0.015 s");
    assert_eq!(length(0), "0 s");
}

#[test]
fn a_page_needs_nothing_from_elsewhere() {
    for timeline in [simple(), busy(), passed(), Timeline::default()] {
        let page = render(&timeline);
        for foreign in ["http", "<script", "src=", "@import", "<link", "url(\"", "//"] {
            assert!(!page.contains(foreign), "{foreign}");
        }
        assert!(page.matches("url(").count() == page.matches("url(#").count());
    }
}

#[test]
fn a_page_tells_all() {
    for timeline in [simple(), busy()] {
        let page = render(&timeline);
        for fault in &timeline.faults {
            let at = format!("<b>at {}</b>", moment(fault.from_ms));
            assert!(page.contains(&at), "{fault:?}");
        }
        for session in &timeline.sessions {
            let bar = format!("session {} of {} on {}, from", session.id, session.manager, session.host);
            let row = format!("Session {} of {} begins.", session.id, session.manager);
            assert!(page.contains(&bar) && page.contains(&row), "{session:?}");
        }
        for mark in &timeline.marks {
            assert!(page.contains(&escape(&format!("{}: {}", mark.kind.words(), mark.text))), "{mark:?}");
        }
        let violation = timeline.violation.as_ref().expect("a violation");
        // Each picture is drawn twice.
        let drawings = if timeline.enlarged().is_some() { 4 } else { 2 };
        assert_eq!(page.matches("class=\"elsewhere\"").count(), drawings);
        assert!(page.contains(&format!("is broken: {}", escape(&violation.text))));
        assert!(page.contains(&escape(&timeline.replay)));
    }
}

#[test]
fn a_fault_is_told_in_words() {
    let page = render(&simple());
    let told = "<b>at 5.000 s</b>, for 2.3 s: everything that receiver and establisher send each other is lost</li>";
    assert!(page.contains(told));
}

#[test]
fn a_fault_that_the_run_did_not_reach_is_in_the_plan_alone() {
    let late = fault("crash", "the host stops", &["receiver"], 50_000, 60_000);
    let page = render(&Timeline { faults: vec![late], ..simple() });
    assert!(page.contains("<b>at 50.000 s</b>, which the run did not reach: the host stops</li>"));
    assert!(!page.contains("Fault 1") && !page.contains("fault 1,"));
}

#[test]
fn the_headline_says_what_was_broken() {
    assert!(
        render(&simple()).contains("<h1>Somebody was given a session that they could already know to be dead.</h1>")
    );
    assert!(render(&passed()).contains("<h1>All guarantees held in this run.</h1>"));
}

#[test]
fn each_guarantee_is_explained() {
    let numbered = (1..=19).map(|number| format!("G{number}"));
    for name in numbered.chain(["panic", "hang", "scenario"].map(str::to_owned)) {
        assert!(guarantees::find(&name).is_some(), "{name}");
    }
}

#[test]
fn a_long_run_is_enlarged_before_the_violation() {
    assert_eq!(simple().enlarged(), None);
    assert_eq!(busy().enlarged(), Some(Span { from_ms: 565_125, to_ms: 575_625 }));
    assert_eq!(Timeline { violation: None, ..busy() }.enlarged(), None);
}

#[test]
fn a_timeline_comes_back_from_json() {
    let text = serde_json::to_string(&busy()).expect("no map with other keys than strings");
    assert_eq!(serde_json::from_str::<Timeline>(&text).expect("what was written"), busy());
}

#[test]
#[ignore = "it is for looking at: it writes pages into the directory for temporary files"]
fn write_samples() {
    for (name, timeline) in [("simple", simple()), ("busy", busy()), ("passed", passed())] {
        let path = env::temp_dir().join(format!("evermux-timeline-{name}.html"));
        fs::write(&path, render(&timeline)).expect("a writable directory");
        println!("{}", path.display());
    }
}
