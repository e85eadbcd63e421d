//! Which decisions of the wire were reached, as evermux traces them.

use std::{
    fmt::Debug,
    sync::atomic::{AtomicU64, Ordering},
};

use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
    subscriber::Interest,
};
use tracing_core::span::Current;

/// What the ledger may say of a frame.
const NAMES: [&str; 5] = ["Pass", "Reset", "PassThenReset", "Drop", "Refuse"];

static COUNTS: [AtomicU64; NAMES.len()] = [const { AtomicU64::new(0) }; NAMES.len()];

/// How often each was reached.
pub struct Rulings;

impl Rulings {
    /// By name.
    pub fn counts() -> [(&'static str, u64); NAMES.len()] {
        std::array::from_fn(|index| (NAMES[index], COUNTS[index].load(Ordering::Relaxed)))
    }
}

/// Counts them from now on, in the whole process.
///
/// # Panics
///
/// When the program has another `tracing` subscriber.
pub fn watch_rulings() {
    tracing::subscriber::set_global_default(Counter).expect("no other subscriber in the program");
}

/// Hears of rulings alone.
struct Counter;

impl Subscriber for Counter {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.enabled(metadata) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && metadata.fields().field("ruling").is_some()
    }

    fn event(&self, event: &Event<'_>) {
        event.record(&mut Ruling);
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}

    fn current_span(&self) -> Current {
        Current::none()
    }
}

struct Ruling;

impl Visit for Ruling {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() != "ruling" {
            return;
        }
        let text = format!("{value:?}");
        let name = text.split('(').next().unwrap_or_default();
        if let Some(index) = NAMES.iter().position(|known| *known == name) {
            COUNTS[index].fetch_add(1, Ordering::Relaxed);
        }
    }
}
