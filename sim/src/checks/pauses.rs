//! Retries are prompt and polite: growing pauses while nothing is stable, none after a session that was, or after the first
//! that says goodbye (G11).

use std::collections::BTreeMap;
use std::time::Duration;

use evermux::Config;

use super::check::Check;
use crate::context::{ESTABLISHER, OTHER};
use crate::history::{Entry, What};
use crate::plan::{Plan, Side};
use crate::verdict::Violation;

/// The attempts of every establisher, for each of its places.
pub(super) struct Pauses {
    places: usize,
    config: Config,
    /// How exact the times are.
    grain: Duration,
    establishers: BTreeMap<String, Vec<Place>>,
    /// Until when the process of a host stood still; none while it does.
    stood_still: BTreeMap<String, Option<Duration>>,
    looks: u64,
}

#[derive(Clone, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
struct Place {
    /// Attempts that failed and sessions that died young, since the last stable one.
    failures: u32,
    /// A session lived just as long as counts as stable, or a moment less: there may have been more failures.
    unsure: bool,
    /// The session, and since when it is live.
    live: Option<(String, Duration)>,
    /// Whether one that was not stable has said goodbye since the last stable one. None where that is not sure.
    has_heard_goodbye: Option<bool>,
    /// When the last attempt or session ended, and what follows it.
    ended: Option<(Duration, Follows)>,
    /// The pause may end at any moment.
    is_hurried: bool,
    stops: bool,
    connecting: bool,
    /// It has dialled: receivers make no attempts.
    dials: bool,
}

/// What follows the end of an attempt or of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Follows {
    AnAttemptAtOnce,
    /// The pause for the failures so far, less this.
    APause(Duration),
}

impl Pauses {
    pub(super) fn new(plan: &Plan) -> Self {
        let grain = Duration::from_millis(plan.network.tick_ms * 4);
        let (places, config) = (plan.settings.sessions, plan.config(Side::Establisher, 0));
        Self { places, config, grain, establishers: BTreeMap::new(), stood_still: BTreeMap::new(), looks: 0 }
    }

    /// The pause after so many failures, before jitter.
    fn pause(&self, failures: u32) -> Duration {
        let factor =
            f64::from(self.config.backoff_factor()).powi(i32::try_from(failures.saturating_sub(1)).unwrap_or(i32::MAX));
        let longest = self.config.backoff_max().as_secs_f64();
        Duration::from_secs_f64((self.config.backoff_initial().as_secs_f64() * factor).min(longest))
    }
}

/// Whether a session ends cleanly.
fn is_goodbye(what: &What) -> bool {
    match what {
        What::Draining(_) => true,
        What::Leaves(_, end) | What::Closed(_, end) => ["closed", "peer_closed"].contains(&end.name.as_str()),
        _ => false,
    }
}

impl Check for Pauses {
    fn name(&self) -> &'static str {
        "pauses"
    }

    fn looks(&self) -> u64 {
        self.looks
    }

    fn on(&mut self, entry: &Entry) -> Result<(), Violation> {
        let who = &entry.who;
        match entry.what {
            What::StandsStill => drop(self.stood_still.insert(who.clone(), None)),
            What::GoesOn { .. } => drop(self.stood_still.insert(who.clone(), Some(entry.at))),
            _ => {}
        }
        if let What::Starts | What::Down = entry.what {
            let fresh = Place { has_heard_goodbye: Some(false), ..Place::default() };
            self.establishers.insert(who.clone(), vec![fresh; self.places]);
            return Ok(());
        }
        let (stable_after, grain) = (self.config.stable_after(), self.grain);
        let Some(places) = self.establishers.get_mut(who) else { return Ok(()) };
        match &entry.what {
            What::Stops | What::GaveUp => places.iter_mut().for_each(|place| place.stops = true),
            What::ReconnectNow => places.iter_mut().for_each(|place| place.is_hurried = true),
            What::Leaves(session, _) | What::Draining(session) | What::Closed(session, _) => {
                let holder = places.iter_mut().find_map(|place| {
                    let (_, since) = place.live.take_if(|(live, _)| live == session)?;
                    Some((place, since))
                });
                let Some((place, since)) = holder else { return Ok(()) };
                let lived = entry.at.saturating_sub(since);
                place.is_hurried = false;
                place.connecting = false;
                if lived.abs_diff(stable_after) <= grain {
                    place.ended = None;
                    place.failures = 0;
                    place.unsure = true;
                    place.has_heard_goodbye = None;
                } else if lived > stable_after {
                    place.failures = 0;
                    place.unsure = false;
                    place.has_heard_goodbye = Some(false);
                    place.ended = Some((entry.at, Follows::AnAttemptAtOnce));
                } else if !is_goodbye(&entry.what) {
                    place.failures += 1;
                    place.ended = Some((entry.at, Follows::APause(Duration::ZERO)));
                } else {
                    match place.has_heard_goodbye.replace(true) {
                        Some(true) => {
                            place.failures += 1;
                            place.ended = Some((entry.at, Follows::APause(lived)));
                        }
                        Some(false) => place.ended = Some((entry.at, Follows::AnAttemptAtOnce)),
                        // There may have been a failure more.
                        None => {
                            place.unsure = true;
                            place.ended = None;
                        }
                    }
                }
            }
            _ => {}
        }
        let Some(place) = places.get_mut(entry.place) else { return Ok(()) };
        match &entry.what {
            What::PauseCut => place.is_hurried = true,
            What::Live(session) => place.live = Some((session.clone(), entry.at)),
            What::AttemptFailed => {
                place.failures += 1;
                place.ended = Some((entry.at, Follows::APause(Duration::ZERO)));
                place.is_hurried = false;
                place.connecting = false;
            }
            What::Connecting => {
                place.connecting = true;
                place.dials = true;
                let Some((ended, follows)) = place.ended.take() else { return Ok(()) };
                let (paused, failures, hurried) = (entry.at.saturating_sub(ended), place.failures, place.is_hurried);
                place.is_hurried = false;
                let Follows::APause(lived) = follows else { return Ok(()) };
                // The last pause before a manager gives up is as long as it has time.
                if failures == 0 || hurried || self.config.max_elapsed().is_some() {
                    return Ok(());
                }
                self.looks += 1;
                let least = self.pause(failures).mul_f32(1.0 - self.config.backoff_jitter()).saturating_sub(lived);
                if paused + grain < least {
                    let text = format!(
                        "{who} paused for {paused:?} after {failures} failures, and should have paused for at least {least:?}"
                    );
                    return Err(Violation::new("G11", text));
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn after_step(&mut self, now: Duration) -> Result<(), Violation> {
        let places = self.establishers.iter().flat_map(|(who, places)| places.iter().map(move |place| (who, place)));
        for (who, place) in places {
            let Some((ended, follows)) = place.ended else { continue };
            let is_at_once = follows == Follows::AnAttemptAtOnce;
            if place.stops || place.connecting || !place.dials || (place.unsure && !is_at_once) {
                continue;
            }
            let most = match follows {
                Follows::AnAttemptAtOnce => self.config.first_retry_jitter(),
                Follows::APause(lived) => {
                    let most = self.pause(place.failures).mul_f32(1.0 + self.config.backoff_jitter());
                    most.saturating_sub(lived)
                }
            };
            // Rivals are on the host of everybody else.
            let host = if who == ESTABLISHER { ESTABLISHER } else { OTHER };
            let Some(stood_still) = self.stood_still.get(host).copied().unwrap_or(Some(Duration::ZERO)) else {
                continue;
            };
            let paused = now.saturating_sub(ended);
            if now > (ended + most).max(stood_still) + self.grain {
                let text = format!("{who} has paused for {paused:?}, and should have paused for at most {most:?}");
                return Err(Violation::new("G11", text));
            }
        }
        Ok(())
    }
}
