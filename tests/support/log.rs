//! What a test reads of the traces.

use std::{
    cell::RefCell,
    fmt::{Debug, Write},
    sync::{Arc, Mutex, OnceLock},
};

use tracing::{
    Dispatch, Event, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
    subscriber::DefaultGuard,
};
use tracing_core::span::Current;

static SECOND: OnceLock<Dispatch> = OnceLock::new();

thread_local! {
    static ENTERED: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

/// Every event, as one line: the level, the spans that it is in, its message and its fields.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Content>>);

#[derive(Default)]
struct Content {
    lines: Vec<String>,
    /// Each with its text, its parent, and what tracing knows of it.
    spans: Vec<(String, Option<u64>, &'static Metadata<'static>)>,
}

impl Log {
    /// Records what this thread traces, until the guard is dropped.
    pub(crate) fn record() -> (Self, DefaultGuard) {
        // Where there is one subscriber alone, tracing asks the thread that comes first to a line whether anybody wants
        // it, and remembers the answer: that thread may be another test's.
        SECOND.get_or_init(|| Dispatch::new(Self::default()));
        let log = Self::default();
        let guard = tracing::subscriber::set_default(log.clone());
        (log, guard)
    }

    /// The lines that have all of these texts in them.
    pub(crate) fn lines(&self, texts: &[&str]) -> Vec<String> {
        let content = self.0.lock().unwrap();
        content.lines.iter().filter(|line| texts.iter().all(|text| line.contains(text))).cloned().collect()
    }
}

impl Content {
    fn text(&self, span: Option<u64>) -> String {
        let Some((text, parent, _)) = span.and_then(|id| self.spans.get(usize::try_from(id).unwrap() - 1)) else {
            return String::new();
        };
        format!("{}{text} ", self.text(*parent))
    }
}

fn current() -> Option<u64> {
    ENTERED.with_borrow(|entered| entered.last().copied())
}

struct Fields(String);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, "{}={value:?} ", field.name()).unwrap();
    }
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("evermux")
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut fields = Fields(String::new());
        span.record(&mut fields);
        let parent = span.parent().map(tracing::Id::into_u64).or_else(|| span.is_contextual().then(current).flatten());
        let mut content = self.0.lock().unwrap();
        content.spans.push((format!("{}{{ {}}}", span.metadata().name(), fields.0), parent, span.metadata()));
        Id::from_u64(u64::try_from(content.spans.len()).unwrap())
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields(String::new());
        event.record(&mut fields);
        let mut content = self.0.lock().unwrap();
        let line = format!("{} {}{}", event.metadata().level(), content.text(current()), fields.0);
        content.lines.push(line);
    }

    fn current_span(&self) -> Current {
        let content = self.0.lock().unwrap();
        let Some(id) = current() else { return Current::none() };
        let (.., metadata) = content.spans[usize::try_from(id).unwrap() - 1];
        Current::new(Id::from_u64(id), metadata)
    }

    fn enter(&self, span: &Id) {
        ENTERED.with_borrow_mut(|entered| entered.push(span.into_u64()));
    }

    fn exit(&self, _: &Id) {
        ENTERED.with_borrow_mut(Vec::pop);
    }
}
