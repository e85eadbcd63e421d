//! What is told while it runs: a bar on a terminal, a line now and then where there is none.

use std::io::{self, IsTerminal};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How often the clock of the bar moves.
const TICK_EVERY: Duration = Duration::from_millis(200);

/// How far it is.
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Nothing has begun yet.
    pub(crate) fn new() -> Self {
        let bar = io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            bar.enable_steady_tick(TICK_EVERY);
            bar
        });
        Self { bar }
    }

    /// A step has begun.
    pub(crate) fn begins(&self, what: &str) {
        let Some(bar) = &self.bar else { return eprintln!("{what}") };
        bar.unset_length();
        bar.set_style(style("{spinner} {elapsed}  {wide_msg}"));
        bar.reset();
        bar.set_message(what.to_owned());
    }

    /// What a step has said last. Without a terminal only how far it is.
    pub(crate) fn hears(&self, what: &str, line: &str) {
        let runs = runs_of(line);
        match (&self.bar, runs) {
            (Some(bar), Some((done, of))) => {
                bar.set_style(style("{bar:30} {pos}/{len}  {elapsed}, {eta} left  {wide_msg}"));
                bar.set_length(of);
                bar.set_position(done);
                bar.set_message(what.to_owned());
            }
            (Some(bar), None) => bar.set_message(format!("{what}: {}", line.trim())),
            (None, Some(_)) => eprintln!("{line}"),
            (None, None) => {}
        }
    }

    /// Takes the bar away.
    pub(crate) fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// How far a sweep is, where it says so: `17 of 300 runs, …`.
fn runs_of(line: &str) -> Option<(u64, u64)> {
    let (done, rest) = line.split_once(" of ")?;
    let (of, _) = rest.split_once(" runs")?;
    Some((done.parse().ok()?, of.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sweep_says_how_far_it_is() {
        assert_eq!(runs_of("17 of 300 runs, 12 a minute"), Some((17, 300)));
        assert_eq!(runs_of("   Compiling one of three runs"), None);
    }
}
