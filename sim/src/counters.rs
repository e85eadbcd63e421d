//! What a run counts, and how long what has a bound took.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Counts, by name, how often something happened in a run, and keeps how long it took at most. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct Counters(Arc<Mutex<Counted>>);

#[derive(Debug, Default)]
struct Counted {
    counts: BTreeMap<Cow<'static, str>, u64>,
    worst: BTreeMap<Cow<'static, str>, Worst>,
}

impl Counters {
    /// Adds to a counter.
    pub fn add(&self, name: impl Into<Cow<'static, str>>, count: u64) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).counts.entry(name.into()).or_default() += count;
    }

    /// How often something happened so far.
    pub fn get(&self, name: &str) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).counts.get(name).copied().unwrap_or_default()
    }

    /// Keeps how long something took, if it came nearer to its bound than before.
    pub fn worst(&self, name: impl Into<Cow<'static, str>>, took: Duration, bound: Duration) {
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        self.most(name, Worst { value: ms(took), bound: ms(bound), unit: Unit::Milliseconds });
    }

    /// The same of bytes.
    pub fn worst_bytes(&self, name: impl Into<Cow<'static, str>>, bytes: u64, bound: u64) {
        self.most(name, Worst { value: bytes, bound, unit: Unit::Bytes });
    }

    fn most(&self, name: impl Into<Cow<'static, str>>, new: Worst) {
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counted.worst.entry(name.into()).and_modify(|worst| *worst = worst.or(new)).or_insert(new);
    }

    /// The memory of the counters themselves, about.
    pub(crate) fn heap_bytes(&self) -> usize {
        let counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let names = counted.counts.keys().chain(counted.worst.keys());
        let texts = names.map(|name| if let Cow::Owned(name) = name { name.capacity() } else { 0 });
        // A tree has up to twice the room that it needs.
        texts.sum::<usize>() + 2 * counted.counts.len() * size_of::<(Cow<'static, str>, u64)>()
    }

    /// The counters, and how long each thing took that has a bound.
    pub(crate) fn all(&self) -> (BTreeMap<Cow<'static, str>, u64>, BTreeMap<Cow<'static, str>, Worst>) {
        let counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (counted.counts.clone(), counted.worst.clone())
    }
}

/// What the TCP finds rare.
impl lossy::Count for Counters {
    fn count(&self, what: &'static str) {
        self.add(what, 1);
    }
}

/// How much something came to at most, beside its bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Worst {
    /// How much it came to.
    pub value: u64,
    /// How much it may be.
    pub bound: u64,
    /// Of what.
    pub unit: Unit,
}

/// In what something with a bound is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Time.
    Milliseconds,
    /// Memory.
    Bytes,
}

impl Worst {
    /// How much of its bound it took, in percent.
    pub fn percent(self) -> u64 {
        self.value.saturating_mul(100) / self.bound.max(1)
    }

    /// The one that came nearer to its bound.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        // Both sides of the comparison of two fractions, without dividing.
        let (this, that) =
            (u128::from(self.value) * u128::from(other.bound), u128::from(other.value) * u128::from(self.bound));
        if this >= that { self } else { other }
    }
}

impl fmt::Display for Worst {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (value, bound) = (self.value, self.bound);
        match self.unit {
            Unit::Milliseconds => write!(f, "{:?}", Duration::from_millis(value))?,
            Unit::Bytes => write!(f, "{value} bytes")?,
        }
        write!(f, ", {} % of its bound of ", self.percent())?;
        match self.unit {
            Unit::Milliseconds => write!(f, "{:?}", Duration::from_millis(bound)),
            Unit::Bytes => write!(f, "{bound} bytes"),
        }
    }
}
