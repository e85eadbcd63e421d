//! One end of a connection: a peer program that runs, and takes orders.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt::Display,
    net::SocketAddr,
    process::Stdio,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncWriteExt, BufReader},
    process::{Child, ChildStdin, Command},
    sync::{Mutex as AsyncMutex, oneshot, watch},
    task::JoinHandle,
    time::timeout,
};

use crate::{cast::Doing, verdict::Failure};

/// How long a program may take to start and come to a session: an interpreter loads its library meanwhile.
pub(crate) const START: Duration = Duration::from_secs(30);

/// How long writes may go on that must fail.
const FLOOD: Duration = Duration::from_secs(3);

/// Lines of standard error that are kept.
const KEPT_LINES: usize = 4;

/// A peer program that runs. Its drop kills it.
pub(crate) struct Side {
    /// `we` or `it`, in what is told of failures.
    name: &'static str,
    child: Mutex<Child>,
    pid: Pid,
    orders: AsyncMutex<ChildStdin>,
    next: AtomicU64,
    heard: Arc<Heard>,
    state: watch::Receiver<State>,
    doing: Doing,
}

/// What a program has said of itself.
#[derive(Clone, Debug, Default)]
struct State {
    listening: Option<SocketAddr>,
    is_up: bool,
    down: Option<String>,
    has_ended: bool,
}

/// What is shared with those who read what a program says.
#[derive(Default)]
struct Heard {
    answers: Mutex<BTreeMap<u64, oneshot::Sender<String>>>,
    errors: Mutex<VecDeque<String>>,
}

/// How a direction of a stream ended for who read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// This many bytes, then end of file.
    Eof(u64),
    /// This many bytes, then an error.
    Error(u64, String),
}

/// What became of many streams.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Echoes {
    pub(crate) done: usize,
    pub(crate) lost: usize,
    /// What was wrong with the first that was lost.
    pub(crate) first: String,
}

/// An order that was given, and not answered yet.
pub(crate) struct Pending<'a> {
    side: &'a Side,
    order: String,
    answer: oneshot::Receiver<String>,
    /// An answer that came while somebody looked.
    early: Option<Result<String, oneshot::error::RecvError>>,
}

impl Side {
    /// Starts a program.
    pub(crate) fn start(name: &'static str, mut command: Command, doing: Doing) -> Result<Self, Failure> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| Failure::new(format!("{name}: the program cannot be started: {error}")))?;
        let lost = || Failure::new(format!("{name}: the program has ended at once"));
        let pid = child.id().and_then(|id| i32::try_from(id).ok()).ok_or_else(lost)?;
        let (orders, output, errors) = (
            child.stdin.take().ok_or_else(lost)?,
            child.stdout.take().ok_or_else(lost)?,
            child.stderr.take().ok_or_else(lost)?,
        );
        let heard = Arc::<Heard>::default();
        let (tell, state) = watch::channel(State::default());
        let errors = tokio::spawn(keep_errors(errors, Arc::clone(&heard)));
        tokio::spawn(listen(output, errors, Arc::clone(&heard), tell));
        Ok(Self {
            name,
            child: Mutex::new(child),
            pid: Pid::from_raw(pid),
            orders: AsyncMutex::new(orders),
            next: AtomicU64::new(1),
            heard,
            state,
            doing,
        })
    }

    /// Where it listens.
    pub(crate) async fn listening(&self) -> Result<SocketAddr, Failure> {
        let state = self.wait("says where it listens", START, |state| state.listening.is_some()).await;
        let state = state.map_err(Failure::without_excuse)?;
        state.listening.ok_or_else(|| self.failure("says no address"))
    }

    /// Waits until it has a session.
    pub(crate) async fn up(&self) -> Result<(), Failure> {
        self.wait("has a session", START, |state| state.is_up).await.map(drop).map_err(Failure::without_excuse)
    }

    /// Waits for the end of its session, and gives the reason that it tells.
    pub(crate) async fn down(&self, within: Duration) -> Result<String, Failure> {
        let state = self.wait("tells that its session has ended", within, |state| state.down.is_some()).await?;
        Ok(state.down.unwrap_or_default())
    }

    /// Why its session has ended, if it has.
    pub(crate) fn is_down(&self) -> Option<String> {
        self.state.borrow().down.clone()
    }

    async fn wait(&self, what: &str, within: Duration, holds: impl Fn(&State) -> bool) -> Result<State, Failure> {
        let mut state = self.state.clone();
        match timeout(within, state.wait_for(|state| holds(state) || state.has_ended)).await {
            Ok(Ok(state)) if holds(&state) => Ok(state.clone()),
            Ok(_) => Err(self.failure(format!("the program has ended; {}", self.last_errors()))),
            Err(_) => Err(self.failure(format!("not within {} s: {what}", within.as_secs_f32()))),
        }
    }

    /// A failure of this side's.
    pub(crate) fn failure(&self, what: impl Display) -> Failure {
        Failure::new(format!("{}: {what}", self.name))
    }

    /// Gives an order, and does not wait for the answer.
    pub(crate) async fn begin(&self, order: impl Into<String>) -> Result<Pending<'_>, Failure> {
        let order = order.into();
        self.doing.set(format!("{}: {order}", self.name));
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (reply, answer) = oneshot::channel();
        self.heard.answers.lock().unwrap_or_else(PoisonError::into_inner).insert(number, reply);
        let line = format!("{number} {order}\n");
        let written = self.orders.lock().await.write_all(line.as_bytes()).await;
        written.map_err(|error| self.failure(format!("takes no orders ({error}); {}", self.last_errors())))?;
        Ok(Pending { side: self, order, answer, early: None })
    }

    /// Gives an order, and waits for the answer.
    pub(crate) async fn order(&self, order: impl Into<String>) -> Result<String, Failure> {
        self.begin(order).await?.answer().await
    }

    /// Opens a stream.
    pub(crate) async fn open(&self) -> Result<Held<'_>, Failure> {
        Ok(Held { side: self, handle: self.order("open").await? })
    }

    /// Takes the next stream that the other side has opened.
    pub(crate) async fn accept(&self) -> Result<Held<'_>, Failure> {
        Ok(Held { side: self, handle: self.order("accept").await? })
    }

    /// Sends a signal to the program.
    pub(crate) fn signal(&self, signal: Signal) -> Result<(), Failure> {
        kill(self.pid, signal).map_err(|error| self.failure(error))
    }

    fn last_errors(&self) -> String {
        let lines = self.heard.errors.lock().unwrap_or_else(PoisonError::into_inner);
        let told = lines.iter().map(String::as_str).collect::<Vec<_>>().join(" / ");
        if told.is_empty() { "it said nothing on standard error".into() } else { told }
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        // One that has ended needs no signal; one that is stopped dies of this one as well.
        let _ = self.child.lock().unwrap_or_else(PoisonError::into_inner).start_kill();
    }
}

impl Pending<'_> {
    /// Waits for the answer.
    pub(crate) async fn answer(self) -> Result<String, Failure> {
        let Self { side, order, answer, early } = self;
        let line = match early {
            Some(line) => line,
            None => answer.await,
        };
        // An error when the program has ended.
        let Ok(line) = line else {
            return Err(side.failure(format!("{order}: the program has ended; {}", side.last_errors())));
        };
        let (kind, text) = line.split_once(' ').unwrap_or((&line, ""));
        match kind {
            "ok" => Ok(text.trim_end().to_owned()),
            "n/a" => Err(Failure::not_available(side.name, text)),
            _ => {
                let why = side.is_down().filter(|why| !text.contains(why.as_str()));
                let end = why.map(|why| format!("; the session has ended: {why}")).unwrap_or_default();
                Err(side.failure(format!("{order}: {text}{end}")))
            }
        }
    }

    /// Whether the answer is there within this time.
    pub(crate) async fn is_answered_within(&mut self, within: Duration) -> bool {
        if self.early.is_none() {
            self.early = timeout(within, &mut self.answer).await.ok();
        }
        self.early.is_some()
    }
}

/// A stream of a side's.
pub(crate) struct Held<'a> {
    pub(crate) side: &'a Side,
    handle: String,
}

impl<'a> Held<'a> {
    pub(crate) fn handle(&self) -> &str {
        &self.handle
    }

    pub(crate) async fn write(&self, count: usize) -> Result<(), Failure> {
        self.side.order(format!("write {} {count}", self.handle)).await.map(drop)
    }

    pub(crate) async fn begin_write(&self, count: usize) -> Result<Pending<'a>, Failure> {
        self.side.begin(format!("write {} {count}", self.handle)).await
    }

    pub(crate) async fn read(&self, count: usize) -> Result<(), Failure> {
        self.side.order(format!("read {} {count}", self.handle)).await.map(drop)
    }

    pub(crate) async fn fin(&self) -> Result<(), Failure> {
        self.side.order(format!("fin {}", self.handle)).await.map(drop)
    }

    pub(crate) async fn reset(&self) -> Result<(), Failure> {
        self.side.order(format!("reset {}", self.handle)).await.map(drop)
    }

    /// Reads to the end.
    pub(crate) async fn end(&self) -> Result<End, Failure> {
        self.ended(self.begin_end().await?).await
    }

    /// Begins to read to the end.
    pub(crate) async fn begin_end(&self) -> Result<Pending<'a>, Failure> {
        self.side.begin(format!("end {}", self.handle)).await
    }

    /// Waits until what was begun so has read to the end.
    pub(crate) async fn ended(&self, reading: Pending<'_>) -> Result<End, Failure> {
        let answer = reading.answer().await?;
        End::parse(&answer).ok_or_else(|| self.side.failure(format!("end: it answers `{answer}`")))
    }

    /// Reads to the end, which must be end of file with nothing before it.
    pub(crate) async fn must_end(&self) -> Result<(), Failure> {
        match self.end().await? {
            End::Eof(0) => Ok(()),
            end => Err(self.side.failure(format!("{end} instead of end of file"))),
        }
    }

    /// Writes until that fails.
    pub(crate) async fn flood(&self) -> Result<End, Failure> {
        let order = format!("flood {}", self.handle);
        let Ok(answer) = timeout(FLOOD, self.side.order(order)).await else {
            return Err(self.side.failure("a write that nobody will read waits forever"));
        };
        let answer = answer?;
        match End::parse(&answer) {
            Some(end @ End::Error(..)) => Ok(end),
            _ => Err(self.side.failure(format!("writes without an end: {answer}"))),
        }
    }
}

impl End {
    /// `eof N` or `error N WHY`.
    pub(crate) fn parse(answer: &str) -> Option<Self> {
        let mut words = answer.splitn(3, ' ');
        let (kind, count) = (words.next()?, words.next()?.parse().ok()?);
        match kind {
            "eof" => Some(Self::Eof(count)),
            "error" => Some(Self::Error(count, words.next().unwrap_or_default().to_owned())),
            _ => None,
        }
    }

    /// The same after so many bytes more.
    pub(crate) fn after(self, more: u64) -> Self {
        match self {
            Self::Eof(count) => Self::Eof(count + more),
            Self::Error(count, why) => Self::Error(count + more, why),
        }
    }
}

impl Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Eof(count) => write!(f, "end of file after {count} bytes"),
            Self::Error(count, why) => write!(f, "an error after {count} bytes ({why})"),
        }
    }
}

impl Echoes {
    /// `DONE LOST WHY`.
    pub(crate) fn parse(answer: &str) -> Option<Self> {
        let mut words = answer.splitn(3, ' ');
        let (done, lost) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        Some(Self { done, lost, first: words.next().unwrap_or_default().to_owned() })
    }
}

async fn keep_errors(errors: impl AsyncRead + Unpin, heard: Arc<Heard>) {
    let mut lines = BufReader::new(errors).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let mut kept = heard.errors.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push_back(line.chars().take(300).collect());
        if kept.len() > KEPT_LINES {
            kept.pop_front();
        }
    }
}

async fn listen(
    output: impl AsyncRead + Unpin,
    errors: JoinHandle<()>,
    heard: Arc<Heard>,
    state: watch::Sender<State>,
) {
    let mut lines = BufReader::new(output).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let (word, rest) = line.split_once(' ').unwrap_or((&line, ""));
        match word {
            "listening" => state.send_modify(|state| state.listening = rest.parse().ok()),
            "up" => state.send_modify(|state| state.is_up = true),
            "down" => state.send_modify(|state| state.down = Some(rest.to_owned())),
            number => {
                let Ok(number) = number.parse() else { continue };
                let reply = heard.answers.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
                // Nobody waits for an answer that comes after the deadline.
                let _ = reply.map(|reply| reply.send(rest.to_owned()));
            }
        }
    }
    // What it said last explains its end. A child of its own may hold standard error open.
    let _ = timeout(Duration::from_millis(200), errors).await;
    state.send_modify(|state| state.has_ended = true);
    heard.answers.lock().unwrap_or_else(PoisonError::into_inner).clear();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_end_of_file_or_an_error_after_a_number_of_bytes() {
        assert_eq!(End::parse("eof 12"), Some(End::Eof(12)));
        assert_eq!(End::parse("error 3 stream reset"), Some(End::Error(3, "stream reset".into())));
        assert_eq!(End::parse("error 3"), Some(End::Error(3, String::new())));
        for wrong in ["", "eof", "eof many", "no-error 3"] {
            assert_eq!(End::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn echoes_say_how_many_and_why() {
        let echoes = Echoes::parse("98 2 end of file").unwrap();
        assert_eq!((echoes.done, echoes.lost, echoes.first.as_str()), (98, 2, "end of file"));
        assert_eq!(Echoes::parse("5 0").unwrap().lost, 0);
        assert_eq!(Echoes::parse("all"), None);
    }
}
