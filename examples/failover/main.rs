//! Work that goes on while its link is cut and frozen: `cargo run --release --example failover`.
//!
//! ```text
//! callers ─▶ establisher ══ FaultProxy ══ receiver ─▶ server
//! ```

use std::{
    error::Error,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use clap::Parser;
use evermux::{Config, MuxManager};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use testkit::{FaultProxy, count};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep, sleep_until, timeout, timeout_at},
};

use crate::{
    args::Args,
    callers::Caller,
    faults::{Fault, Felt},
    progress::Progress,
    summary::{Summary, plural},
    totals::Totals,
};

mod args;
mod callers;
mod faults;
mod progress;
mod protocol;
mod server;
mod summary;
mod totals;

const IDLE: Duration = Duration::from_millis(200);
const TIMEOUT: Duration = Duration::from_millis(300);
const BACKOFF_INITIAL: Duration = Duration::from_millis(20);
const BACKOFF_MAX: Duration = Duration::from_millis(200);
const STABLE_AFTER: Duration = Duration::from_millis(500);

/// The longest that heartbeats need to notice that the other side is silent.
const DETECTION: Duration = IDLE.saturating_add(TIMEOUT);

/// What takes longer than this has failed.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long what has ended may take to disappear from the counts of tasks and files.
const SETTLING: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    let args = Args::parse();
    let mut random = ChaCha8Rng::seed_from_u64(args.seed);
    let schedule = faults::schedule(&args, &mut random).unwrap_or_else(|message| Args::refuse(&message));
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error),
    };
    let result = runtime.block_on(run(&args, schedule));
    // A caller that hangs is a failure that was reported: the end of the program does not wait for it.
    runtime.shutdown_background();
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => fail(&*error),
    }
}

fn fail(error: &dyn Error) -> ExitCode {
    eprintln!("failover: {error}");
    ExitCode::FAILURE
}

/// Whether all went well.
async fn run(args: &Args, schedule: Vec<(Duration, Fault)>) -> Result<bool, Box<dyn Error>> {
    introduce(args);
    let files_before = count::open_files();
    let config = Config::builder()
        .heartbeat_idle(IDLE)
        .heartbeat_timeout(TIMEOUT)
        .backoff_initial(BACKOFF_INITIAL)
        .backoff_max(BACKOFF_MAX)
        .stable_after(STABLE_AFTER)
        .seed(Some(args.seed))
        .build()?;
    let receiver = MuxManager::receive("127.0.0.1:0").name("receiver").config(config.clone()).start().await?;
    let proxy = FaultProxy::start(receiver.local_addr().ok_or("the receiver does not tell its address")?)?;
    let establisher =
        MuxManager::establish(proxy.addr().to_string()).name("establisher").config(config).start().await?;

    let totals = Arc::new(Totals::default());
    let stop = Arc::new(AtomicBool::new(false));
    let progress = Progress::start(Duration::from_secs(args.seconds.into()));
    let mut felt = Felt::default();
    let mut problems = Vec::new();

    let server = tokio::spawn(server::run(receiver.clone(), Arc::clone(&totals)));
    let first_reply = totals.next_session();
    let start = Instant::now();
    let callers = Callers::start(args, &establisher, &totals, &stop)?;
    let work = async {
        if !matches!(timeout(PATIENCE, first_reply).await, Ok(Ok(_))) {
            return Err(format!("no reply within {PATIENCE:?} of the start"));
        }
        faults::inflict(schedule, start, &proxy, &establisher, &totals, &progress, &mut felt).await?;
        sleep_until(start + Duration::from_secs(args.seconds.into())).await;
        Ok(())
    };
    tokio::select! {
        biased;
        worked = work => problems.extend(worked.err()),
        () = progress.show(&establisher, &totals) => {}
    }
    progress.finish();

    stop.store(true, Ordering::Relaxed);
    problems.extend(callers.join().await);
    let sessions = establisher.status().sessions_so_far;
    for (name, manager) in [("establisher", &establisher), ("receiver", &receiver)] {
        if timeout(PATIENCE, manager.shutdown()).await.is_err() {
            problems.push(format!("the shutdown of the {name} did not end within {PATIENCE:?}"));
        }
    }
    if timeout(PATIENCE, server).await.is_err() {
        problems.push(format!("the server did not end within {PATIENCE:?} of the shutdown"));
    }
    proxy.shutdown().await;
    problems.extend(left_behind(files_before).await);

    let summary = Summary { args, totals: &totals, felt: &felt, sessions, problems: &problems };
    if args.json {
        eprintln!("{summary}");
        println!("{}", summary.json());
    } else {
        println!("{summary}");
    }
    Ok(summary.good())
}

fn introduce(args: &Args) {
    let threads = args.threads();
    eprintln!(
        "\
For {} s, {} tasks and {threads} threads send requests over one evermux connection on 127.0.0.1.
Meanwhile the link gets {} (half of them by RST, half by FIN) and {}, on a schedule drawn from seed {}.

  heartbeat     a ping after {} ms without a byte, lost after {} ms more of silence
  backoff       {} ms, growing to {} ms; none after a session that lived for {} ms
  a freeze      nothing is forwarded, nothing is closed, for longer than {} ms

These settings are short for the demonstration; the defaults suit real networks.
",
        args.seconds,
        args.callers - threads,
        plural(args.cuts().into(), "cut"),
        plural(args.freezes().into(), "freeze"),
        args.seed,
        IDLE.as_millis(),
        TIMEOUT.as_millis(),
        BACKOFF_INITIAL.as_millis(),
        BACKOFF_MAX.as_millis(),
        STABLE_AFTER.as_millis(),
        DETECTION.as_millis(),
    );
}

struct Callers {
    tasks: Vec<JoinHandle<()>>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Callers {
    fn start(args: &Args, manager: &MuxManager, totals: &Arc<Totals>, stop: &Arc<AtomicBool>) -> std::io::Result<Self> {
        let mut callers = Self { tasks: Vec::new(), threads: Vec::new() };
        for index in 0..args.callers {
            let caller = Caller::new(index, args.seed, manager.clone(), Arc::clone(totals), Arc::clone(stop));
            if index % 2 == 0 {
                callers.tasks.push(tokio::spawn(caller.run()));
            } else {
                let thread = thread::Builder::new().name(format!("caller-{index}"));
                callers.threads.push(thread.spawn(|| caller.run_blocking())?);
            }
        }
        Ok(callers)
    }

    /// Waits for all, and says which hang or panicked.
    async fn join(self) -> Vec<String> {
        // A request may be retried for that long before it counts as lost.
        let deadline = Instant::now() + 2 * PATIENCE;
        let (mut hung, mut panicked) = (0, 0);
        for mut task in self.tasks {
            if let Ok(ended) = timeout_at(deadline, &mut task).await {
                panicked += usize::from(ended.is_err());
            } else {
                task.abort();
                hung += 1;
            }
        }
        for thread in self.threads {
            while !thread.is_finished() && Instant::now() < deadline {
                sleep(Duration::from_millis(1)).await;
            }
            if thread.is_finished() {
                panicked += usize::from(thread.join().is_err());
            } else {
                hung += 1;
            }
        }
        [(hung, "hung"), (panicked, "panicked")]
            .into_iter()
            .filter(|(callers, _)| *callers > 0)
            .map(|(callers, how)| format!("{callers} callers {how}"))
            .collect()
    }
}

/// What is still there although all was shut down.
async fn left_behind(files_before: Option<usize>) -> Vec<String> {
    let deadline = Instant::now() + SETTLING;
    loop {
        let tasks = count::tasks().unwrap_or(0);
        let files = count::open_files().zip(files_before).map_or(0, |(now, before)| now.saturating_sub(before));
        if (tasks, files) == (0, 0) {
            return Vec::new();
        }
        if Instant::now() >= deadline {
            return [(tasks, "tasks"), (files, "sockets or files")]
                .into_iter()
                .filter(|(left, _)| *left > 0)
                .map(|(left, what)| format!("{left} {what} left after the shutdown"))
                .collect();
        }
        sleep(Duration::from_millis(5)).await;
    }
}
