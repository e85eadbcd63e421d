//! Attempts are civil and fast: growing pauses while nothing is stable, none after a session that was (G11).

use std::collections::BTreeMap;
use std::time::Duration;

use evermux::Config;

use super::Check;
use crate::history::{Entry, What};
use crate::plan::{Plan, Side};
use crate::run::Broken;

/// The attempts of every establisher that has one place: with more, each has attempts of its own.
pub(super) struct Pauses {
    applies: bool,
    config: Config,
    /// How exact the times are.
    grain: Duration,
    establishers: BTreeMap<String, Establisher>,
}

#[derive(Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
struct Establisher {
    /// Attempts that failed and sessions that died young, since the last stable one.
    failures: u32,
    /// A session lived just as long as counts as stable, or a moment less: there may have been more failures.
    unsure: bool,
    /// The session, and since when it is live.
    live: Option<(String, Duration)>,
    /// When the last attempt or session ended, and whether that was a stable session.
    ended: Option<(Duration, bool)>,
    /// The pause may end at any moment.
    is_hurried: bool,
    stops: bool,
    connecting: bool,
    /// It has dialled: receivers make no attempts.
    dials: bool,
}

impl Pauses {
    pub(super) fn new(plan: &Plan) -> Self {
        let grain = Duration::from_millis(plan.network.tick_ms * 4);
        let (applies, config) = (plan.settings.sessions == 1, plan.config(Side::Establisher, 0));
        Self { applies, config, grain, establishers: BTreeMap::new() }
    }

    /// The pause after so many failures, before jitter.
    fn pause(&self, failures: u32) -> Duration {
        let factor =
            f64::from(self.config.backoff_factor()).powi(i32::try_from(failures.saturating_sub(1)).unwrap_or(i32::MAX));
        let longest = self.config.backoff_max().as_secs_f64();
        Duration::from_secs_f64((self.config.backoff_initial().as_secs_f64() * factor).min(longest))
    }
}

impl Check for Pauses {
    fn on(&mut self, entry: &Entry) -> Result<(), Broken> {
        let who = &entry.who;
        if let What::Starts | What::Down = entry.what
            && self.applies
        {
            self.establishers.insert(who.clone(), Establisher::default());
            return Ok(());
        }
        let (stable_after, grain) = (self.config.stable_after(), self.grain);
        let Some(establisher) = self.establishers.get_mut(who) else { return Ok(()) };
        match &entry.what {
            What::Stops | What::GaveUp => establisher.stops = true,
            What::ReconnectNow | What::PauseCut => establisher.is_hurried = true,
            What::Live(session) => establisher.live = Some((session.clone(), entry.at)),
            What::AttemptFailed => {
                establisher.failures += 1;
                establisher.ended = Some((entry.at, false));
                establisher.is_hurried = false;
                establisher.connecting = false;
            }
            What::Draining(session) | What::Closed(session, _) => {
                let Some((live, since)) = &establisher.live else { return Ok(()) };
                if live != session {
                    return Ok(());
                }
                let lived = entry.at.saturating_sub(*since);
                establisher.is_hurried = false;
                establisher.connecting = false;
                if lived.abs_diff(stable_after) <= grain {
                    establisher.ended = None;
                    establisher.failures = 0;
                    establisher.unsure = true;
                } else if lived > stable_after {
                    establisher.failures = 0;
                    establisher.unsure = false;
                    establisher.ended = Some((entry.at, true));
                } else {
                    establisher.failures += 1;
                    establisher.ended = Some((entry.at, false));
                }
                establisher.live = None;
            }
            What::Connecting => {
                establisher.connecting = true;
                establisher.dials = true;
                let Some((ended, _)) = establisher.ended.take() else { return Ok(()) };
                let (paused, failures, hurried) =
                    (entry.at.saturating_sub(ended), establisher.failures, establisher.is_hurried);
                establisher.is_hurried = false;
                if failures == 0 || hurried {
                    return Ok(());
                }
                let least = self.pause(failures).mul_f32(1.0 - self.config.backoff_jitter());
                if paused + grain < least {
                    let text = format!(
                        "{who} paused for {paused:?} after {failures} failures, and should have paused for {least:?} at the least"
                    );
                    return Err(Broken::new("G11", text));
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn after_step(&mut self, now: Duration) -> Result<(), Broken> {
        for (who, establisher) in &self.establishers {
            let Some((ended, stable)) = establisher.ended else { continue };
            if establisher.stops || establisher.connecting || !establisher.dials || (establisher.unsure && !stable) {
                continue;
            }
            let most = if stable {
                Duration::ZERO
            } else {
                self.pause(establisher.failures).mul_f32(1.0 + self.config.backoff_jitter())
            };
            let paused = now.saturating_sub(ended);
            if paused > most + self.grain {
                let text = format!("{who} has paused for {paused:?}, and should have paused for {most:?} at the most");
                return Err(Broken::new("G11", text));
            }
        }
        Ok(())
    }
}
