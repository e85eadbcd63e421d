//! What is told while it runs: lines of JSON on standard output, or lines for people on standard error; and on a
//! terminal one line that shows how it stands.

use std::{
    io::{IsTerminal, Write, stderr, stdout},
    time::Duration,
};

use evermux::{Event, MuxManager, manager::Activity};
use indicatif::{BinaryBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};
use tokio::time::{Instant, interval};

use super::connection::{Bytes, Failure};

/// Tells it.
pub(crate) struct Report {
    start: Instant,
    name: Option<String>,
    json: bool,
    /// None where there is no terminal.
    bar: Option<ProgressBar>,
}

impl Report {
    pub(crate) fn new(name: Option<String>, json: bool) -> Self {
        let bar = stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            bar.set_style(ProgressStyle::with_template("{spinner} {wide_msg}").expect("the template is right"));
            bar
        });
        Self { start: Instant::now(), name, json, bar }
    }

    /// Tells of an event: its fields for programs, a line for people. A program that does not read holds the tunnel up.
    fn tell(&self, event: &str, mut fields: Value, line: impl FnOnce() -> String) {
        if self.json {
            fields["event"] = event.into();
            if let Some(name) = &self.name {
                fields["name"] = name.as_str().into();
            }
            // When nobody wants to know any more, the tunnel goes on.
            let _ = writeln!(stdout().lock(), "{fields}");
        } else {
            self.line(&line());
        }
    }

    fn line(&self, text: &str) {
        let line = format!("{:>9.1} s  {text}", self.start.elapsed().as_secs_f32());
        match &self.bar {
            Some(bar) => bar.println(line),
            None => _ = writeln!(stderr().lock(), "{line}"),
        }
    }

    /// It runs: where, with the ports that the system chose.
    pub(crate) fn started(&self, role: &str, mux: &str, listen: Option<&str>, forward: Option<&str>) {
        let fields = json!({ "role": role, "mux": mux, "listen": listen, "forward": forward });
        self.tell("started", fields, || {
            let listen = listen.map(|listen| format!("; what connects to {listen} is carried to the other side"));
            let forward = forward.map(|forward| format!("; what the other side carries goes to {forward}"));
            format!("{role} {mux}{}{}", listen.unwrap_or_default(), forward.unwrap_or_default())
        });
    }

    /// Something happened to the manager.
    pub(crate) fn manager(&self, event: &Event) {
        match event {
            Event::Connecting { attempt } => {
                self.tell("connecting", json!({ "attempt": attempt }), || format!("dialling, attempt {attempt}"));
            }
            Event::AttemptFailed { attempt, error, next_delay } => {
                let delay = next_delay.map(milliseconds);
                let fields = json!({ "attempt": attempt, "error": error.to_string(), "next_delay_ms": delay });
                self.tell("attempt_failed", fields, || match next_delay {
                    Some(delay) => format!("attempt {attempt} failed: {error}; the next in {delay:.1?}"),
                    None => format!("attempt {attempt} failed: {error}"),
                });
            }
            Event::AcceptFailed { error } => self.accept_failed("mux", &error.to_string()),
            Event::SessionLive { session, peer, round_trip } => {
                let session = session.as_u64();
                let round_trip = round_trip.map(milliseconds);
                let fields = json!({ "session": session, "peer": peer, "round_trip_ms": round_trip });
                self.tell("session_live", fields, || match peer {
                    Some(peer) => format!("session {session} with {peer} is live"),
                    None => format!("session {session} is live"),
                });
            }
            Event::SessionDraining { session, reason, within } => {
                let session = session.as_u64();
                let within_ms = milliseconds(*within);
                let fields = json!({ "session": session, "reason": reason.to_string(), "within_ms": within_ms });
                self.tell("session_draining", fields, || {
                    format!("session {session} takes no more connections: {reason}")
                });
            }
            Event::SessionClosed { session, reason } => {
                let session = session.as_u64();
                let fields = json!({ "session": session, "reason": reason.to_string() });
                self.tell("session_closed", fields, || format!("session {session} has ended: {reason}"));
            }
            Event::Stopped(stopped) => {
                self.tell("stopped", json!({ "reason": stopped.to_string() }), || stopped.to_string());
            }
            Event::Missed(missed) => {
                self.tell("missed", json!({ "events": missed }), || format!("{missed} events were missed"));
            }
            other => self.tell("other", json!({ "text": format!("{other:?}") }), || format!("{other:?}")),
        }
    }

    /// A connection could not be accepted, here or between the two sides.
    pub(crate) fn accept_failed(&self, at: &str, error: &str) {
        let fields = json!({ "at": at, "error": error });
        self.tell("accept_failed", fields, || format!("cannot accept a connection ({at}): {error}"));
    }

    /// A connection begins. People are told only of those that fail.
    pub(crate) fn opened(&self, connection: u64, way: &str, from: &str) {
        if self.json {
            self.tell("opened", json!({ "connection": connection, "way": way, "from": from }), String::new);
        }
    }

    /// A connection has ended.
    pub(crate) fn closed(&self, connection: u64, way: &str, ended: &Result<(), Failure>, bytes: &Bytes) {
        let failure = ended.as_ref().err();
        if self.json {
            let fields = json!({
                "connection": connection,
                "way": way,
                "ended": failure.map_or("finished", Failure::kind),
                "error": failure.map(ToString::to_string),
                "sent_bytes": bytes.sent(),
                "received_bytes": bytes.received(),
            });
            self.tell("closed", fields, String::new);
        } else if let Some(failure) = failure {
            self.line(&format!("connection {connection} ({way}) was reset: {failure}"));
        }
    }

    /// A signal has come.
    pub(crate) fn draining(&self, signal: &str, connections: usize, within: Duration) {
        let fields = json!({ "signal": signal, "connections": connections, "within_ms": milliseconds(within) });
        self.tell("draining", fields, || {
            format!("{signal}: {connections} connections have {within:?} to finish; a second signal ends them at once")
        });
    }

    /// It ends. Some connections may have been cut off.
    pub(crate) fn ended(&self, cut_off: usize) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        self.tell("ended", json!({ "cut_off": cut_off }), || match cut_off {
            0 => "ended".to_owned(),
            _ => format!("ended; {cut_off} connections were cut off"),
        });
    }

    /// Shows on a terminal how it stands, until it is dropped.
    pub(crate) async fn show(&self, manager: &MuxManager, open: impl Fn() -> usize, bytes: &Bytes) {
        let Some(bar) = &self.bar else { return std::future::pending().await };
        let mut ticks = interval(Duration::from_millis(100));
        loop {
            ticks.tick().await;
            let status = manager.status();
            let activity = match status.activity {
                Activity::Live => "live",
                Activity::Listening => "waiting for the other side",
                Activity::Connecting => "connecting",
                Activity::BackingOff => "pausing before the next attempt",
                Activity::ShuttingDown => "draining",
                _ => "stopped",
            };
            let round_trip = status.sessions.iter().filter_map(|session| session.round_trip).max();
            bar.set_message(format!(
                "{activity}{}; {} connections; {} sent, {} received",
                round_trip.map(|round_trip| format!(", round trip {round_trip:.1?}")).unwrap_or_default(),
                open(),
                BinaryBytes(bytes.sent()),
                BinaryBytes(bytes.received()),
            ));
            bar.tick();
        }
    }
}

/// With two decimals.
fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 100_000.0).round() / 100.0
}
