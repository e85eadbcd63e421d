//! How far a command has come: a bar on a terminal, a line now and then where there is none.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How often progress is told where there is no terminal; and how often if there is none.
const TELL_EVERY: Duration = Duration::from_secs(5);
const TELL_AGAIN_EVERY: Duration = Duration::from_secs(60);

/// How far a command has come.
pub(super) struct Progress {
    begun: Instant,
    told: Instant,
    told_done: Option<u64>,
    what: &'static str,
    /// None where there is no end in sight.
    of: Option<u64>,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Begins with so many things to do.
    pub(super) fn new(what: &'static str, of: Option<u64>) -> Self {
        let bar = io::stderr().is_terminal().then(|| {
            let template = match of {
                Some(_) => "{bar:30} {pos}/{len}  {elapsed}, {eta} left  {msg}",
                None => "{spinner} {pos}  {elapsed}  {msg}",
            };
            let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
            ProgressBar::with_draw_target(of, ProgressDrawTarget::stderr()).with_style(style)
        });
        Self { begun: Instant::now(), told: Instant::now(), told_done: None, what, of, bar }
    }

    /// Tells how far it is.
    pub(super) fn at(&mut self, done: u64, message: impl FnOnce() -> String) {
        if let Some(bar) = &self.bar {
            bar.set_position(done);
            bar.set_message(message());
        } else if self.told.elapsed() >= if self.told_done == Some(done) { TELL_AGAIN_EVERY } else { TELL_EVERY } {
            (self.told, self.told_done) = (Instant::now(), Some(done));
            let of = self.of.map_or(String::new(), |of| format!(" of {of}"));
            eprintln!("{done}{of} {}, {}", self.what, message());
        }
    }

    /// Prints a line beside it.
    pub(super) fn say(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| say!("{text}")),
            None => say!("{text}"),
        }
    }

    /// Takes the bar away.
    pub(super) fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    /// Since when, in real time.
    pub(super) fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    /// A number of things, as a rate a minute.
    #[allow(clippy::cast_precision_loss)]
    pub(super) fn rate(&self, done: u64) -> f64 {
        done as f64 * 60.0 / self.elapsed().as_secs_f64().max(f64::MIN_POSITIVE)
    }
}
