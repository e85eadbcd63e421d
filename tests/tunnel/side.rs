//! The example as a process of its own: this test binary once more, told by its environment to be the example.

use std::{
    env,
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    process::{Child, Command, Output, Stdio},
    thread,
};

use serde_json::Value;
use tokio::sync::mpsc;

use crate::support::{in_time, until};

/// The command line that the process has, in words.
const LINE: &str = "EVERMUX_TUNNEL_LINE";

/// No test: what the processes run.
#[test]
fn the_tunnel() {
    if let Ok(line) = env::var(LINE) {
        let words = ["tunnel"].into_iter().chain(line.split_whitespace());
        std::process::exit(crate::program::run(words.map(Into::into)).into());
    }
}

fn command(line: &str) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "side::the_tunnel", "--nocapture", "--quiet"]).env(LINE, line).stdin(Stdio::null());
    command
}

/// Runs it to its end.
pub(crate) fn run(line: &str) -> Output {
    command(line).output().unwrap()
}

/// One side of a tunnel. Dropping it kills it.
pub(crate) struct Side {
    child: Child,
    events: mpsc::UnboundedReceiver<Value>,
    mux: String,
    listen: Option<SocketAddr>,
}

impl Side {
    /// Starts it, and waits until it runs.
    pub(crate) async fn start(line: &str) -> Self {
        let mut child = command(&format!("{line} --json")).stdout(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, events) = mpsc::unbounded_channel();
        thread::spawn(move || read_events(stdout, &sender));
        let mut side = Self { child, events, mux: String::new(), listen: None };
        let started = side.event("started").await;
        started["mux"].as_str().unwrap().clone_into(&mut side.mux);
        side.listen = started["listen"].as_str().map(|address| address.parse().unwrap());
        side
    }

    /// Where it receives or dials.
    pub(crate) fn mux(&self) -> &str {
        &self.mux
    }

    /// Where it listens.
    pub(crate) fn listen(&self) -> SocketAddr {
        self.listen.expect("it listens nowhere")
    }

    /// Waits for the next event of this kind; those before it are passed over.
    pub(crate) async fn event(&mut self, kind: &str) -> Value {
        in_time(async {
            loop {
                let event = self.events.recv().await.unwrap_or_else(|| panic!("it has ended without {kind:?}"));
                if event["event"] == kind {
                    return event;
                }
            }
        })
        .await
    }

    /// How many events of this kind there were since the last look at any.
    pub(crate) fn count(&mut self, kind: &str) -> usize {
        std::iter::from_fn(|| self.events.try_recv().ok()).filter(|event| event["event"] == kind).count()
    }

    pub(crate) fn signal(&self, name: &str) {
        let kill = format!("kill {name} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }

    /// Waits for its end, and gives its exit status.
    pub(crate) async fn exit(&mut self) -> Option<i32> {
        let mut status = None;
        until(|| {
            status = self.child.try_wait().unwrap();
            status.is_some()
        })
        .await;
        status.unwrap().code()
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the test harness prints before is on the first line as well.
fn read_events(stdout: BufReader<impl Read>, events: &mpsc::UnboundedSender<Value>) {
    for line in stdout.lines() {
        let Ok(line) = line else { return };
        let Some(begin) = line.find('{') else { continue };
        let event = serde_json::from_str(&line[begin..]).unwrap_or_else(|error| panic!("{line}: {error}"));
        let _ = events.send(event);
    }
}
