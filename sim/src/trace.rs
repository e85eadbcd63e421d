//! The trace of a run: one line for each event, with its simulated time, hashed as it is written.
//!
//! The events are evermux's, this crate's, the lossy TCP's and turmoil's. yamux's are left out: they show a connection id that is drawn from
//! a counter of the whole process, so that the same seed would differ from run to run. Of turmoil's, the count of steps is
//! left out: each line has its time.
//!
//! One subscriber serves the whole process and writes to the trace of the thread that it is called on. (A subscriber for
//! each thread would not do: `tracing` remembers for the whole process whether anyone wants an event, and asks only the
//! threads that it knows of.)

use std::cell::RefCell;
use std::fmt::{self, Write as _};
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Once};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer as _;
use tracing_subscriber::field::MakeExt as _;
use tracing_subscriber::filter::{Targets, filter_fn};
use tracing_subscriber::fmt::format::{self, Writer};
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::layer::SubscriberExt as _;
use twox_hash::xxhash3_128::Hasher;

use crate::{history, interpose};

/// The longest text of one field.
const FIELD_MAX: usize = 160;
/// The longest text of a segment, which turmoil shows in hexadecimal, at a cost that would be most of a run: the header of a
/// yamux frame. What is cut off here is in the hashes of bytes that [`net`](crate::net) traces.
const SEGMENT_MAX: usize = 72;

thread_local! {
    static TRACE: RefCell<Option<Trace>> = const { RefCell::new(None) };
}

struct Trace {
    hasher: Hasher,
    /// How many there are, for whoever waits for the run.
    lines: Arc<AtomicU64>,
    /// How many there were before the current step of the clock.
    before_step: u64,
    output: Option<Box<dyn Write>>,
}

/// So many events of one step of the clock are written. A step that comes to no end would write forever.
const LINES_OF_A_STEP: u64 = 200_000;

/// What is known of a trace when it has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The hash of all its bytes.
    pub hash: u128,
    /// How many events it has.
    pub lines: u64,
}

/// Begins the trace of this thread. It is written to `output`, if there is one, until that fails, and its lines are counted in
/// `lines`.
///
/// # Panics
///
/// When the program has installed another `tracing` subscriber.
pub fn begin(output: Option<Box<dyn Write>>, lines: Arc<AtomicU64>) {
    static SUBSCRIBER: Once = Once::new();
    SUBSCRIBER.call_once(install);
    TRACE.with_borrow_mut(|trace| *trace = Some(Trace { hasher: Hasher::new(), lines, before_step: 0, output }));
}

/// The clock makes a step.
pub(crate) fn step() {
    TRACE.with_borrow_mut(|trace| {
        if let Some(trace) = trace {
            trace.before_step = trace.lines.load(Ordering::Relaxed);
        }
    });
}

/// Ends the trace of this thread.
pub fn end() -> Summary {
    TRACE.with_borrow_mut(|trace| match trace.take() {
        Some(mut trace) => {
            if let Some(output) = &mut trace.output {
                // A reader that has gone away is not a failure of the run.
                let _ = output.flush();
            }
            Summary { hash: trace.hasher.finish_128(), lines: trace.lines.load(Ordering::Relaxed) }
        }
        None => Summary { hash: Hasher::new().finish_128(), lines: 0 },
    })
}

fn install() {
    let wanted = Targets::new()
        .with_target("evermux", LevelFilter::TRACE)
        .with_target("sim", LevelFilter::TRACE)
        .with_target("lossy", LevelFilter::TRACE)
        .with_target("turmoil", LevelFilter::TRACE);
    let no_steps = filter_fn(|metadata| metadata.is_span() || metadata.module_path() != Some("turmoil::sim"));
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .with_timer(SimulatedTime)
        .fmt_fields(
            format::debug_fn(|writer, field, value| {
                let left = if field.name() == "protocol" { SEGMENT_MAX } else { FIELD_MAX };
                let mut cut = Cut { writer, left };
                let written = match field.name() {
                    "message" => write!(cut, "{value:?}"),
                    name => write!(cut, "{name}={value:?}"),
                };
                if cut.left == 0 { writer.write_str("...") } else { written }
            })
            .delimited(" "),
        )
        .with_writer(|| ThreadTrace);
    let heard = history::Listener.with_filter(Targets::new().with_target("evermux", LevelFilter::DEBUG));
    let subscriber = tracing_subscriber::registry().with(wanted).with(no_steps).with(lines).with(heard);
    tracing::subscriber::set_global_default(subscriber).expect("no other subscriber in the program");
}

struct SimulatedTime;

impl FormatTime for SimulatedTime {
    fn format_time(&self, w: &mut Writer<'_>) -> fmt::Result {
        let elapsed = interpose::elapsed();
        write!(w, "{:>5}.{:06}", elapsed.as_secs(), elapsed.subsec_micros())
    }
}

/// Writes as much as fits and then fails, which ends the formatting of what is longer.
struct Cut<'a, 'w> {
    writer: &'a mut Writer<'w>,
    left: usize,
}

impl fmt::Write for Cut<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if text.len() < self.left {
            self.left -= text.len();
            return self.writer.write_str(text);
        }
        let end = (0..=self.left).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        self.left = 0;
        self.writer.write_str(&text[..end])?;
        Err(fmt::Error)
    }
}

/// The trace of the thread that writes. Without one, what is written is dropped.
struct ThreadTrace;

impl Write for ThreadTrace {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        TRACE.with_borrow_mut(|trace| {
            if let Some(trace) = trace {
                trace.hasher.write(line);
                let in_step = trace.lines.fetch_add(1, Ordering::Relaxed) - trace.before_step;
                if let Some(output) = &mut trace.output {
                    let written = match in_step {
                        0..LINES_OF_A_STEP => output.write_all(line),
                        LINES_OF_A_STEP => output.write_all(b"what else happens in this step is left out\n"),
                        _ => Ok(()),
                    };
                    if written.is_err() {
                        trace.output = None;
                    }
                }
            }
        });
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
