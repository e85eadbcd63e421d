//! Draws bytes, and lets the targets run on them: no nightly compiler is needed.

#![expect(clippy::disallowed_methods, reason = "what hangs is told by real time")]

use std::{
    collections::BTreeMap,
    io::{IsTerminal, Write},
    num::NonZeroUsize,
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use clap::{Parser, Subcommand};
use fuzz::{Rulings, codec, watch_rulings, wire};
use indicatif::{ProgressBar, ProgressStyle};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;

/// Something was found.
const FOUND: u8 = 1;
/// How much is done in one piece.
const HEADERS_AT_ONCE: u64 = 10_000;
/// A session that takes this long, in real time, hangs.
const HANGS_AFTER: Duration = Duration::from_secs(60);
/// How often progress is told where there is no terminal.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// Hostile peers, drawn from seeds: whatever bytes and frames come, nobody is hurt but the stream or session they are about.
#[derive(Parser)]
#[command(
    name = "fuzz",
    version,
    after_help = "Examples:\n  fuzz wire --sessions 200000\n  fuzz wire --from 17 --sessions 1     (one that was found)\n  \
        fuzz codec --headers 10000000\n  fuzz/run wire 60                     (with cargo-fuzz, which looks at coverage, for 60 s)\n\n\
        Exit status: 0 nothing was found, and every ruling was reached; 1 otherwise; 2 usage."
)]
struct Cli {
    #[command(subcommand)]
    target: Target,
    /// The first seed.
    #[arg(long, value_name = "S", default_value_t = 0, global = true)]
    from: u64,
    /// How many at once. Default: one for each core.
    #[arg(long, value_name = "J", global = true)]
    jobs: Option<NonZeroUsize>,
    /// Print one JSON object, and nothing else.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Clone, Copy, Subcommand)]
enum Target {
    /// Sessions with a peer that knows the protocol, and mostly keeps it.
    Wire {
        /// How many sessions, each of a seed of its own.
        #[arg(long, value_name = "N", default_value_t = 10_000)]
        sessions: u64,
    },
    /// The decoder of frames, with any bytes.
    Codec {
        /// How many headers.
        #[arg(long, value_name = "N", default_value_t = 10_000_000)]
        headers: u64,
    },
}

/// What was done so far.
#[derive(Default)]
struct Done {
    /// How many sessions had so many frames.
    frames: BTreeMap<u64, u64>,
    /// How many ended so.
    reasons: BTreeMap<String, u64>,
    executions: u64,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let is_wire = matches!(cli.target, Target::Wire { .. });
    if is_wire {
        watch_rulings();
    }
    let pieces = match cli.target {
        Target::Wire { sessions } => sessions,
        Target::Codec { headers } => headers.div_ceil(HEADERS_AT_ONCE),
    };
    let begun = Instant::now();
    let (done, found) = run(&cli, pieces);
    report(&cli, is_wire, &done, found.as_deref(), begun.elapsed())
}

/// Does all pieces, each of a seed of its own. Returns what was done, and what was found.
fn run(cli: &Cli, pieces: u64) -> (Done, Option<String>) {
    let jobs = cli.jobs.or(thread::available_parallelism().ok()).map_or(1, NonZeroUsize::get);
    let (next, stop, done) = (AtomicU64::new(0), AtomicBool::new(false), Mutex::new(Done::default()));
    let (tell, ended) = mpsc::sync_channel::<Result<(), String>>(jobs);
    let working: Vec<_> = (0..jobs).map(|_| Mutex::new(None::<(u64, Instant)>)).collect();
    std::panic::set_hook(Box::new(|_| ()));
    let found = thread::scope(|scope| {
        for working in &working {
            let (tell, next, stop, done) = (tell.clone(), &next, &stop, &done);
            scope.spawn(move || {
                loop {
                    let piece = next.fetch_add(1, Ordering::Relaxed);
                    if piece >= pieces || stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let seed = cli.from + piece;
                    *lock(working) = Some((seed, Instant::now()));
                    let outcome = catch_unwind(AssertUnwindSafe(|| one(cli.target, seed, done)));
                    *lock(working) = None;
                    let outcome = outcome.map_err(|payload| {
                        let text = payload.downcast_ref::<String>().map(String::as_str);
                        let text = text.or(payload.downcast_ref::<&str>().copied()).unwrap_or("a panic");
                        format!("seed {seed}: {text}")
                    });
                    if tell.send(outcome).is_err() {
                        return;
                    }
                }
            });
        }
        drop(tell);
        let bar = Bar::new(pieces);
        let mut count = 0;
        loop {
            match ended.recv_timeout(Duration::from_secs(1)) {
                Ok(Ok(())) => {
                    count += 1;
                    bar.at(count);
                }
                Ok(Err(found)) => {
                    stop.store(true, Ordering::Relaxed);
                    return Some(found);
                }
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => return None,
            }
            let hangs =
                working.iter().find_map(|working| lock(working).filter(|(_, since)| since.elapsed() > HANGS_AFTER));
            if let Some((seed, _)) = hangs {
                // Its thread goes on, and cannot be waited for.
                eprintln!("seed {seed}: it has taken {} s, and hangs", HANGS_AFTER.as_secs());
                std::process::exit(i32::from(FOUND));
            }
        }
    });
    (done.into_inner().unwrap_or_else(PoisonError::into_inner), found)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Does one piece.
fn one(target: Target, seed: u64, done: &Mutex<Done>) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    match target {
        Target::Wire { .. } => {
            let mut bytes = vec![0; rng.random_range(200..3_000)];
            rng.fill(&mut bytes[..]);
            let ended = wire(&bytes);
            let mut done = lock(done);
            done.executions += 1;
            *done.frames.entry(ended.frames).or_default() += 1;
            let reason = format!("{:?}", ended.reason);
            let reason = reason.split(['(', ' ', '{']).next().unwrap_or_default().to_owned();
            *done.reasons.entry(reason).or_default() += 1;
        }
        Target::Codec { .. } => {
            let mut bytes = vec![0; 12 * usize::try_from(HEADERS_AT_ONCE).unwrap_or(1)];
            rng.fill(&mut bytes[..]);
            // Else three of four would end at their first byte, or their second.
            for header in bytes.chunks_mut(12) {
                header[0] = if header[0] < 240 { 0 } else { header[0] };
                header[1] %= 5;
            }
            lock(done).executions += codec(&bytes);
        }
    }
}

/// How far it is: a bar on a terminal, a line now and then where there is none.
struct Bar {
    drawn: Option<ProgressBar>,
    of: u64,
    told: Mutex<Instant>,
}

impl Bar {
    fn new(of: u64) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{bar:30} {pos}/{len}  {elapsed}, {eta} left");
            ProgressBar::new(of).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        Self { drawn: bar, of, told: Mutex::new(Instant::now()) }
    }

    fn at(&self, count: u64) {
        if let Some(bar) = &self.drawn {
            bar.set_position(count);
            return;
        }
        let mut told = lock(&self.told);
        if told.elapsed() >= TELL_EVERY {
            *told = Instant::now();
            eprintln!("{count} of {}", self.of);
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(bar) = &self.drawn {
            bar.finish_and_clear();
        }
    }
}

fn report(cli: &Cli, is_wire: bool, done: &Done, found: Option<&str>, took: Duration) -> ExitCode {
    let sessions: u64 = done.frames.values().sum();
    let mut before = 0;
    let median = done.frames.iter().find_map(|(frames, count)| {
        before += count;
        (before * 2 >= sessions).then_some(*frames)
    });
    let rulings: BTreeMap<_, _> = Rulings::counts().into();
    // A few sessions may not come to all.
    let missing = is_wire && sessions >= 1_000 && rulings.values().any(|count| *count == 0);
    if cli.json {
        let line = json!({
            "executions": done.executions,
            "seconds": took.as_secs_f64(),
            "median_frames": median,
            "rulings": is_wire.then_some(&rulings),
            "reasons": is_wire.then_some(&done.reasons),
            "found": found,
        });
        let _ = writeln!(std::io::stdout(), "{line}");
    } else {
        let what = if is_wire { "sessions" } else { "headers" };
        println!("{} {what} in {:.1} s: {}", done.executions, took.as_secs_f64(), found.unwrap_or("nothing was found"));
        if is_wire {
            let told = |counts: Vec<(String, u64)>| {
                counts.iter().map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join(", ")
            };
            println!("  frames of the peer in a session: {} in the median", median.unwrap_or_default());
            println!("  rulings: {}", told(rulings.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()));
            println!("  ends: {}", told(done.reasons.clone().into_iter().collect()));
        }
        if missing {
            println!("  a ruling was never reached");
        }
    }
    if found.is_some() || missing { ExitCode::from(FOUND) } else { ExitCode::SUCCESS }
}
