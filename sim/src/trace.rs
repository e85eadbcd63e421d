//! The trace of a run: one line for each event, with its simulated time. What the lines say is hashed; they are written out
//! where somebody reads them.
//!
//! The events are evermux's, this crate's, those of its TCP, and what turmoil says of hosts and links. yamux's are left out:
//! they show a connection id that is drawn from a counter of the whole process, so that the same seed would differ from run
//! to run. So are turmoil's datagrams, which are the segments of the TCP once more: to show them would be half of a run.
//!
//! One subscriber serves the whole process and writes to the trace of the thread that it is called on. (A subscriber for
//! each thread would not do: `tracing` remembers for the whole process whether anyone wants an event, and asks only the
//! threads that it knows of.)

use std::cell::RefCell;
use std::fmt::{self, Write as _};
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Once};

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::field::MakeExt as _;
use tracing_subscriber::filter::{Targets, dynamic_filter_fn};
use tracing_subscriber::fmt::format::{self, Writer};
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::registry::{LookupSpan, SpanRef};
use twox_hash::XxHash3_64;
use twox_hash::xxhash3_128::Hasher;

use crate::{history, interpose, yields};

/// The longest text of one field.
const FIELD_MAX: usize = 160;

thread_local! {
    static TRACE: RefCell<Option<Trace>> = const { RefCell::new(None) };
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
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
    /// The hash of all that its events say.
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
        .with_target("turmoil", LevelFilter::INFO);
    let text = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .with_timer(SimulatedTime)
        .fmt_fields(
            format::debug_fn(|writer, field, value| {
                let mut cut = Cut { writer, left: FIELD_MAX };
                let written = match field.name() {
                    "message" => write!(cut, "{value:?}"),
                    name => write!(cut, "{name}={value:?}"),
                };
                if cut.left == 0 { writer.write_str("...") } else { written }
            })
            .delimited(" "),
        )
        .with_writer(|| ThreadTrace)
        .with_filter(dynamic_filter_fn(|_, _| has_output()));
    let heard = history::Listener.with_filter(history::wanted());
    let spent = yields::Spender.with_filter(yields::wanted());
    let subscriber = tracing_subscriber::registry().with(wanted).with(Hashing).with(text).with(heard).with(spent);
    tracing::subscriber::set_global_default(subscriber).expect("no other subscriber in the program");
}

/// Whether somebody reads the trace of this thread.
fn has_output() -> bool {
    TRACE.with_borrow(|trace| trace.as_ref().is_some_and(|trace| trace.output.is_some()))
}

/// Hashes what each event says: when, in which module, within which spans, and its fields, of which the message is one.
struct Hashing;

/// What a span stands for in the hash: its name and fields, and the spans around it.
#[derive(Clone, Copy)]
struct SpanHash(u64);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Hashing {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let around = span.parent().map_or(0, |parent| hash_of(&parent));
        let hash = said(|said| {
            said.number(around);
            said.text(attributes.metadata().name());
            attributes.record(said);
            XxHash3_64::oneshot(&said.bytes)
        });
        span.extensions_mut().insert(SpanHash(hash));
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let before = hash_of(&span);
        let hash = said(|said| {
            said.number(before);
            values.record(said);
            XxHash3_64::oneshot(&said.bytes)
        });
        span.extensions_mut().replace(SpanHash(hash));
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let within = context.event_span(event).map_or(0, |span| hash_of(&span));
        said(|said| {
            said.number(u64::try_from(interpose::elapsed().as_nanos()).unwrap_or(u64::MAX));
            said.number(within);
            said.text(event.metadata().target());
            event.record(said);
            TRACE.with_borrow_mut(|trace| {
                if let Some(trace) = trace {
                    trace.hasher.write(&said.bytes);
                    trace.lines.fetch_add(1, Ordering::Relaxed);
                }
            });
        });
    }
}

fn hash_of<S: for<'a> LookupSpan<'a>>(span: &SpanRef<'_, S>) -> u64 {
    span.extensions().get().map_or(0, |SpanHash(hash)| *hash)
}

/// Collects what is said, without an allocation for each event. What is said within, as a field that is formatted may do,
/// has a collection of its own.
fn said<R>(say: impl FnOnce(&mut Said) -> R) -> R {
    let mut said = Said { bytes: SCRATCH.take() };
    said.bytes.clear();
    let result = say(&mut said);
    SCRATCH.set(said.bytes);
    result
}

/// The bytes that stand for what is said.
struct Said {
    bytes: Vec<u8>,
}

impl Said {
    fn number(&mut self, number: u64) {
        self.bytes.extend(number.to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.bytes.extend(text.as_bytes());
    }
}

impl Visit for Said {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.number(field.index() as u64);
        let mut cut = Cut { writer: &mut *self, left: FIELD_MAX };
        // It fails where the text is longer.
        let _ = write!(cut, "{value:?}");
        // No text has this byte.
        self.bytes.push(0xff);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.number(field.index() as u64);
        self.number(value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.record_u64(field, value.cast_unsigned());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.record_u64(field, value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.number(field.index() as u64);
        self.text(value);
    }
}

impl fmt::Write for Said {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.bytes.extend(text.as_bytes());
        Ok(())
    }
}

struct SimulatedTime;

impl FormatTime for SimulatedTime {
    fn format_time(&self, w: &mut Writer<'_>) -> fmt::Result {
        let elapsed = interpose::elapsed();
        write!(w, "{:>5}.{:06}", elapsed.as_secs(), elapsed.subsec_micros())
    }
}

/// Writes as much as fits and then fails, which ends the formatting of what is longer.
struct Cut<'a, W> {
    writer: &'a mut W,
    left: usize,
}

impl<W: fmt::Write> fmt::Write for Cut<'_, W> {
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
                let in_step = trace.lines.load(Ordering::Relaxed) - trace.before_step;
                if let Some(output) = &mut trace.output {
                    let written = match in_step {
                        ..LINES_OF_A_STEP => output.write_all(line),
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
