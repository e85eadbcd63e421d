//! The heartbeat against its definition, read off the whole history (G10).
#![allow(missing_docs, reason = "test names say it")]

use std::time::Duration;

use evermux::{
    CloseReason, Config,
    session::heartbeat::{Heartbeat, Verdict},
};
use proptest::prelude::*;
use tokio::time::Instant;

const IDLE_MS: u64 = 1000;
const TIMEOUT_MS: u64 = 500;
const WRITE_TIMEOUT_MS: u64 = 700;
const PROVE_MS: u64 = 900;

/// What a wire can tell its heartbeat.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Event {
    Start,
    Read,
    PingTaken,
    Pong,
    WritePending,
    WriteProgress,
    /// The path takes so many milliseconds.
    Path(u64),
    ShutDown,
    /// The wire looks, and sends a ping when it is told to.
    Look,
}

fn event() -> impl Strategy<Value = Event> {
    use Event::{Look, Path, PingTaken, Pong, Read, ShutDown, Start, WritePending, WriteProgress};
    prop_oneof![
        1 => Just(Start),
        4 => Just(Read),
        4 => Just(PingTaken),
        2 => Just(Pong),
        2 => Just(WritePending),
        3 => Just(WriteProgress),
        1 => (0_u64..400).prop_map(Path),
        1 => Just(ShutDown),
        8 => Just(Look),
    ]
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Expected {
    Wait,
    Ping,
    Silent,
    Stalled,
    NotProven,
    NotClosed,
}

/// What has happened, each with its time in milliseconds, and which looks sent a ping.
#[derive(Debug, Default)]
struct History {
    events: Vec<(u64, Event)>,
    pings: Vec<usize>,
}

impl History {
    fn last(&self, wanted: impl Fn(Event) -> bool) -> Option<(usize, u64)> {
        self.events.iter().enumerate().rev().find(|(_, (_, event))| wanted(*event)).map(|(index, (at, _))| (index, *at))
    }

    /// The definition, in the words of the guarantee.
    fn verdict(&self, now: u64) -> Expected {
        let progress = self.last(|event| event == Event::WriteProgress).map_or(0, |(index, _)| index + 1);
        let pending = self.events[progress..].iter().find(|(_, event)| *event == Event::WritePending);
        if pending.is_some_and(|(since, _)| now >= since + WRITE_TIMEOUT_MS) {
            return Expected::Stalled;
        }
        let shut_down = self.last(|event| event == Event::ShutDown);
        if shut_down.is_none() && self.last(|event| event == Event::Start).is_none() {
            return if now >= PROVE_MS { Expected::NotProven } else { Expected::Wait };
        }
        let heard = self.last(|event| matches!(event, Event::Start | Event::Read)).map_or(0, |(_, at)| at);
        let path =
            self.events.iter().rev().find_map(|(_, event)| if let Event::Path(ms) = event { Some(*ms) } else { None });
        let timeout = TIMEOUT_MS.max(3 * path.unwrap_or(0));
        let answered = self.last(|event| event == Event::Pong).map_or(0, |(index, _)| index + 1);
        match (self.pings.iter().rev().find(|ping| **ping >= answered), shut_down) {
            (None, Some((_, shut_down))) if now >= heard.max(shut_down) + timeout => Expected::NotClosed,
            (None, None) if now >= heard + IDLE_MS => Expected::Ping,
            (None, _) => Expected::Wait,
            (Some(ping), _) => {
                let taken = self.events[*ping..].iter().find(|(_, event)| *event == Event::PingTaken);
                match taken {
                    Some((taken, _)) if now >= heard.max(*taken) + timeout => Expected::Silent,
                    // Without `taken` its time has not begun: the socket has not taken it.
                    _ => Expected::Wait,
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn it_does_what_its_definition_says(
        events in prop::collection::vec((prop_oneof![0_u64..50, 0_u64..800], event()), 1..60),
    ) {
        let config = Config::builder()
            .heartbeat_idle(Duration::from_millis(IDLE_MS))
            .heartbeat_timeout(Duration::from_millis(TIMEOUT_MS))
            .write_timeout(Duration::from_millis(WRITE_TIMEOUT_MS))
            .build()
            .unwrap();
        let epoch = Instant::now();
        let mut heartbeat = Heartbeat::new(&config, epoch, epoch + Duration::from_millis(PROVE_MS));
        let mut history = History::default();
        let mut at = 0;
        for (pause, event) in events {
            at += pause;
            let now = epoch + Duration::from_millis(at);
            match event {
                // Nothing begins after the end.
                Event::Start if history.last(|event| event == Event::ShutDown).is_some() => continue,
                Event::ShutDown if history.last(|event| event == Event::ShutDown).is_some() => continue,
                Event::Start => heartbeat.start(now),
                Event::ShutDown => heartbeat.on_shut_down(now),
                Event::Path(ms) => heartbeat.on_path(Duration::from_millis(ms)),
                Event::Read => heartbeat.on_read(now),
                Event::PingTaken => heartbeat.on_ping_taken(now),
                Event::Pong => heartbeat.on_pong(),
                Event::WritePending => heartbeat.on_write_pending(now),
                Event::WriteProgress => heartbeat.on_write_progress(),
                Event::Look => {}
            }
            history.events.push((at, event));
            let verdict = match heartbeat.judge(now) {
                Verdict::Wait => Expected::Wait,
                Verdict::Ping => Expected::Ping,
                Verdict::Dead(CloseReason::HeartbeatTimeout) => Expected::Silent,
                Verdict::Dead(CloseReason::WriteStalled) => Expected::Stalled,
                Verdict::Dead(CloseReason::NotProven) => Expected::NotProven,
                Verdict::Dead(CloseReason::DrainTimedOut { streams: 0 }) => Expected::NotClosed,
                other @ Verdict::Dead(_) => panic!("{other:?}"),
            };
            prop_assert_eq!(verdict, history.verdict(at), "at {} ms of {:?}", at, history);
            // The next look is neither late nor in vain.
            match heartbeat.deadline() {
                Some(deadline) if verdict == Expected::Wait => {
                    prop_assert!(deadline > now);
                    prop_assert!(!matches!(heartbeat.judge(deadline), Verdict::Wait));
                    let before = deadline.checked_sub(Duration::from_millis(1)).unwrap();
                    prop_assert!(matches!(heartbeat.judge(before), Verdict::Wait));
                }
                Some(deadline) => prop_assert!(deadline <= now),
                None => prop_assert_eq!(verdict, Expected::Wait),
            }
            match verdict {
                Expected::Ping if event == Event::Look => {
                    heartbeat.on_ping_queued();
                    history.pings.push(history.events.len());
                }
                Expected::Silent | Expected::Stalled | Expected::NotProven | Expected::NotClosed => break,
                _ => {}
            }
        }
    }
}
