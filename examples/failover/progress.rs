//! What is shown while it runs: a bar on a terminal, plain lines elsewhere. All of it on standard error.

use std::{
    io::{IsTerminal, stderr},
    time::Duration,
};

use evermux::{MuxManager, manager::Activity};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::{Instant, interval};

use crate::{
    summary::{grouped, plural},
    totals::Totals,
};

pub(crate) struct Progress {
    start: Instant,
    /// None where there is no terminal.
    bar: Option<ProgressBar>,
}

impl Progress {
    pub(crate) fn start(length: Duration) -> Self {
        let bar = stderr().is_terminal().then(|| {
            let milliseconds = u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
            let bar = ProgressBar::with_draw_target(Some(milliseconds), ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template("{prefix:>6} [{bar:24}] {wide_msg}");
            bar.set_style(style.expect("the template is right").progress_chars("=> "));
            bar
        });
        Self { start: Instant::now(), bar }
    }

    /// Shows how far the run is, until it is dropped.
    pub(crate) async fn show(&self, manager: &MuxManager, totals: &Totals) {
        let mut ticks = interval(Duration::from_millis(if self.bar.is_some() { 100 } else { 1000 }));
        loop {
            ticks.tick().await;
            let status = manager.status();
            let activity = match status.activity {
                Activity::Live => "live",
                Activity::BackingOff => "backing off",
                _ => "reconnecting",
            };
            let text = format!(
                "{}, {activity}; {}, {} retried; {}, {}",
                plural(status.sessions_so_far, "session"),
                plural(totals.requests.get(), "request"),
                grouped(totals.retried.get()),
                plural(totals.cuts.get(), "cut"),
                plural(totals.freezes.get(), "freeze"),
            );
            match &self.bar {
                Some(bar) => {
                    bar.set_position(u64::try_from(self.elapsed().as_millis()).unwrap_or(u64::MAX));
                    bar.set_prefix(self.clock());
                    bar.set_message(text);
                }
                None => eprintln!("{:>7}  {text}", self.clock()),
            }
        }
    }

    /// Says that something happened.
    pub(crate) fn event(&self, text: &str) {
        let line = format!("{:>7}  {text}", self.clock());
        match &self.bar {
            Some(bar) => bar.println(line),
            None => eprintln!("{line}"),
        }
    }

    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn elapsed(&self) -> Duration {
        Instant::now().saturating_duration_since(self.start)
    }

    fn clock(&self) -> String {
        format!("{:.1} s", self.elapsed().as_secs_f32())
    }
}
