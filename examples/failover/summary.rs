//! What happened, for people and as JSON.

use std::{fmt, time::Duration};

use serde_json::{Value, json};

use crate::{args::Args, faults::Felt, totals::Totals};

pub(crate) struct Summary<'a> {
    pub(crate) args: &'a Args,
    pub(crate) totals: &'a Totals,
    pub(crate) felt: &'a Felt,
    pub(crate) sessions: u64,
    /// What went wrong, beside what the totals says.
    pub(crate) problems: &'a [String],
}

impl Summary<'_> {
    pub(crate) fn good(&self) -> bool {
        self.problems.is_empty() && self.totals.lost.get() == 0 && self.totals.corrupted.get() == 0
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "cuts": self.totals.cuts.get(),
            "freezes": self.totals.freezes.get(),
            "sessions": self.sessions,
            "requests": self.totals.requests.get(),
            "retried": self.totals.retried.get(),
            "lost": self.totals.lost.get(),
            "corrupted": self.totals.corrupted.get(),
            "recovery_ms": Spread::json(&self.felt.cuts),
            "freeze_recovery_ms": Spread::json(&self.felt.freezes),
            "backoff_ms": milliseconds(self.felt.backoff),
        })
    }
}

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (args, totals) = (self.args, self.totals);
        let threads = args.threads();
        writeln!(f, "\nIn {} s, {} tasks and {threads} threads:\n", args.seconds, args.callers - threads)?;
        let mut row =
            |name: &str, count: u64, text: String| writeln!(f, "  {name:<10} {:>10}   {text}", grouped(count));
        row("cuts", totals.cuts.get(), felt(&self.felt.cuts, "work went on after"))?;
        row("freezes", totals.freezes.get(), felt(&self.felt.freezes, "counted from their start, work went on after"))?;
        let backoff =
            format!("lived through; {:.1} ms of backoff, not in the times above", milliseconds(self.felt.backoff));
        row("sessions", self.sessions, backoff)?;
        row("requests", totals.requests.get(), "answered, and every reply compared byte by byte".to_owned())?;
        row("retried", totals.retried.get(), "interrupted, and sent again by their caller".to_owned())?;
        row("lost", totals.lost.get(), "never answered".to_owned())?;
        row("corrupted", totals.corrupted.get(), "wrong bytes".to_owned())?;
        writeln!(f)?;
        for problem in self.problems {
            writeln!(f, "  problem: {problem}")?;
        }
        f.write_str(if self.good() {
            "OK: nothing lost, nothing corrupted; no caller, task or socket left."
        } else {
            "FAILED"
        })
    }
}

fn felt(times: &[Duration], text: &str) -> String {
    Spread::of(times).map_or("none".to_owned(), |spread| {
        format!("{text} {:.1} ms (p50), {:.1} ms (p99), {:.1} ms (max)", spread.p50, spread.p99, spread.max)
    })
}

/// Milliseconds; a percentile is the least value that so many percent do not exceed.
#[derive(Clone, Copy, Debug)]
struct Spread {
    p50: f64,
    p99: f64,
    max: f64,
}

impl Spread {
    fn of(times: &[Duration]) -> Option<Self> {
        let mut times = times.to_vec();
        times.sort_unstable();
        let max = milliseconds(*times.last()?);
        let percentile = |percent: usize| milliseconds(times[(times.len() * percent).div_ceil(100) - 1]);
        Some(Self { p50: percentile(50), p99: percentile(99), max })
    }

    /// Nulls where there is nothing to count.
    fn json(times: &[Duration]) -> Value {
        let spread = Self::of(times);
        json!({ "p50": spread.map(|s| s.p50), "p99": spread.map(|s| s.p99), "max": spread.map(|s| s.max) })
    }
}

/// With two decimals.
fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 100_000.0).round() / 100.0
}

pub(crate) fn plural(count: u64, noun: &str) -> String {
    format!("{} {noun}{}", grouped(count), if count == 1 { "" } else { "s" })
}

/// With a comma between thousands.
pub(crate) fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
