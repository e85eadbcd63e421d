//! The pings of a session: what the peer was asked and when, how long the path to it is, and whether it is alive.
//!
//! It never reads a clock: its caller reports what happened and when.
//!
//! A *round trip* here is that of the path. While a receiver looks for a place it withholds its answer to the proof
//! (G14), and reports with it for how long. The *path* is as long as the shortest of them: the others have waited, for
//! a busy peer or behind bytes.
//!
//! The yamux crate grows windows by the round trip that it measures, and not at all before it has measured one. So its
//! pings are answered here: if windows are to grow, after the time that the path takes.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    frame::Header,
    heartbeat::{Heartbeat, Verdict},
    role::Role,
};

/// Marks the pings of the wire. The crate counts its own from 0.
const OURS: u32 = 1 << 31;
/// The values of the pings that prove a session, one for each role. They identify an evermux peer, and an echo of our
/// own frames.
const PROOF_OF_CLIENT: u32 = OURS | 0x6576_6d63;
const PROOF_OF_SERVER: u32 = OURS | 0x6576_6d73;
/// The same from an evermux whose proof does not depend on its role.
const PROOF_OF_EITHER: u32 = OURS | 0x6576_6d78;
/// The values of all other pings that ask stay below this one.
const PING_VALUES: u32 = 1 << 24;
/// From here on, this many values of a ping between evermux peers ask for nothing: they report for how many of these
/// units the answer to the proof, which follows, was withheld.
const HELD: u32 = OURS | 1 << 30;
const HELD_VALUES: u32 = 1 << 24;
const HELD_UNIT: Duration = Duration::from_micros(16);

/// Windows may grow on a path of at least this length.
const LONG: Duration = Duration::from_millis(1);

impl Role {
    /// The value of the ping that proves a session.
    pub(super) fn proof(self) -> u32 {
        match self {
            Self::Client => PROOF_OF_CLIENT,
            Self::Server => PROOF_OF_SERVER,
        }
    }
}

/// Whether a peer whose ping has this value is evermux.
pub(super) fn is_proof(value: u32) -> bool {
    [PROOF_OF_CLIENT, PROOF_OF_SERVER, PROOF_OF_EITHER].contains(&value)
}

/// The ping that reports for how long the answer to the peer's proof was withheld.
pub(super) fn held(time: Duration) -> Header {
    let units = time.as_nanos() / HELD_UNIT.as_nanos();
    let units = u32::try_from(units).unwrap_or(u32::MAX).min(HELD_VALUES - 1);
    Header::ping(HELD + units)
}

/// A ping that waits for its answer.
#[derive(Clone, Copy, Debug)]
struct Asked {
    value: u32,
    at: Instant,
}

/// Which ping was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answered {
    Proof,
    Heartbeat,
    /// Another of ours.
    Other,
}

/// The pings of one session.
#[derive(Debug)]
pub(super) struct Pings {
    pub(super) heartbeat: Heartbeat,
    next: u32,
    proof: Option<Asked>,
    /// For how long the peer withheld its answer to the proof, as it reports.
    held: Duration,
    of_the_heartbeat: Option<Asked>,
    user: Option<Asked>,
    /// The answer for the user.
    pong: Option<Duration>,
    /// The ping that only measures the round trip.
    gauge: Option<Asked>,
    /// The last round trip, and the shortest.
    round_trip: Option<Duration>,
    path: Option<Duration>,
    /// The ping of the crate that waits for its answer.
    of_the_crate: Option<Asked>,
    /// The crate was answered before: windows grow.
    lets_grow: bool,
}

impl Pings {
    /// Begins with the proof, which the caller must send.
    pub(super) fn new(role: Role, heartbeat: Heartbeat, now: Instant) -> Self {
        Self {
            heartbeat,
            next: 0,
            proof: Some(Asked { value: role.proof(), at: now }),
            held: Duration::ZERO,
            of_the_heartbeat: None,
            user: None,
            pong: None,
            gauge: None,
            round_trip: None,
            path: None,
            of_the_crate: None,
            lets_grow: false,
        }
    }

    fn ask(&mut self, now: Instant) -> Asked {
        let value = OURS | self.next;
        self.next = (self.next + 1) % PING_VALUES;
        Asked { value, at: now }
    }

    /// Judges the session by its heartbeat. Whether it is dead is for the caller to decide, which knows how old the
    /// last look at the socket is; the caller must also send a ping that the heartbeat asks for.
    pub(super) fn judge(&mut self, now: Instant) -> (Verdict, Option<Header>) {
        let verdict = self.heartbeat.judge(now);
        let ping = matches!(verdict, Verdict::Ping).then(|| {
            let asked = self.ask(now);
            self.of_the_heartbeat = Some(asked);
            self.heartbeat.on_ping_queued();
            Header::ping(asked.value)
        });
        (verdict, ping)
    }

    /// A ping for the user. One at a time.
    pub(super) fn ask_for_the_user(&mut self, now: Instant) -> Header {
        let asked = self.ask(now);
        self.user = Some(asked);
        Header::ping(asked.value)
    }

    /// The crate asks; [`pong_for_the_crate`](Self::pong_for_the_crate) answers. Returns a ping for the peer in the
    /// meantime: one answer may have been slow by chance.
    pub(super) fn on_ping_of_the_crate(&mut self, value: u32, now: Instant) -> Option<Header> {
        self.of_the_crate = Some(Asked { value, at: now });
        if self.gauge.is_some() || !self.is_long() {
            return None;
        }
        let asked = self.ask(now);
        self.gauge = Some(asked);
        Some(Header::ping(asked.value))
    }

    /// The answer to give to the crate now.
    pub(super) fn pong_for_the_crate(&mut self, now: Instant) -> Option<Header> {
        let due = self.pong_due()?;
        let asked = self.of_the_crate.take_if(|_| now >= due)?;
        self.lets_grow = true;
        Some(Header::pong(asked.value))
    }

    /// When to answer the crate: never while windows are not to grow. What it has measured before can be shortened by
    /// an answer at once, but not undone.
    pub(super) fn pong_due(&self) -> Option<Instant> {
        let asked = self.of_the_crate?;
        match (self.is_long(), self.lets_grow) {
            (false, false) => None,
            (false, true) => Some(asked.at),
            (true, false) if self.gauge.is_some() => None,
            (true, _) => Some(asked.at + self.path?),
        }
    }

    /// Takes what the peer reports with a ping that asks for no answer. Returns whether this is such a ping.
    pub(super) fn tells(&mut self, value: u32) -> bool {
        let tells = (HELD..HELD + HELD_VALUES).contains(&value);
        if tells {
            self.held = HELD_UNIT * (value - HELD);
        }
        tells
    }

    /// An answer came. The one to the proof proves the session (G15); one that was not asked for changes nothing.
    pub(super) fn on_pong(&mut self, value: u32, now: Instant) {
        match self.take(value, now) {
            Some(Answered::Proof) => self.heartbeat.start(now),
            Some(Answered::Heartbeat) => self.heartbeat.on_pong(),
            Some(Answered::Other) => {}
            None => return,
        }
        if let Some(path) = self.path {
            self.heartbeat.on_path(path);
        }
    }

    fn take(&mut self, value: u32, now: Instant) -> Option<Answered> {
        let answered =
            |asked: &mut Option<Asked>| asked.take_if(|asked| asked.value == value).map(|asked| now - asked.at);
        let (round_trip, what) = if let Some(elapsed) = answered(&mut self.proof) {
            (elapsed.saturating_sub(self.held), Answered::Proof)
        } else if let Some(elapsed) = answered(&mut self.of_the_heartbeat) {
            (elapsed, Answered::Heartbeat)
        } else if let Some(elapsed) = answered(&mut self.user) {
            self.pong = Some(elapsed);
            (elapsed, Answered::Other)
        } else {
            let elapsed = answered(&mut self.gauge)?;
            (elapsed, Answered::Other)
        };
        self.round_trip = Some(round_trip);
        self.path = Some(self.path.map_or(round_trip, |path| path.min(round_trip)));
        Some(what)
    }

    /// Whether the proof was answered.
    pub(super) fn is_proven(&self) -> bool {
        self.proof.is_none()
    }

    /// The last round trip.
    pub(super) fn round_trip(&self) -> Option<Duration> {
        self.round_trip
    }

    fn is_long(&self) -> bool {
        self.path.is_some_and(|path| path >= LONG)
    }

    /// Takes the round trip of the user's ping when it has been answered.
    pub(super) fn take_pong(&mut self) -> Option<Duration> {
        self.pong.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    const MS: Duration = Duration::from_millis(1);

    fn begun_at(begun: Instant) -> Pings {
        Pings::new(Role::Client, Heartbeat::new(&Config::default(), begun, begun + 10_000 * MS), begun)
    }

    /// The pings of a client whose proof was answered after this time.
    fn proven_after(time: Duration) -> (Pings, Instant) {
        let begun = Instant::now();
        let mut pings = begun_at(begun);
        let now = begun + time;
        assert_eq!(pings.take(PROOF_OF_CLIENT, now), Some(Answered::Proof));
        (pings, now)
    }

    #[test]
    fn the_time_for_which_an_answer_was_withheld_is_no_round_trip() {
        let begun = Instant::now();
        let mut pings = begun_at(begun);
        assert!(pings.tells(held(2_000 * MS).length));
        assert_eq!(pings.take(PROOF_OF_CLIENT, begun + 2_003 * MS), Some(Answered::Proof));
        assert_eq!(pings.round_trip(), Some(3 * MS));
        // No ping that asks is mistaken for one.
        assert!(!pings.tells(OURS) && !pings.tells(PROOF_OF_SERVER) && !pings.tells(HELD + HELD_VALUES));
        assert!(pings.tells(held(Duration::MAX).length));
    }

    #[test]
    fn windows_do_not_grow_on_a_short_path() {
        let (mut pings, now) = proven_after(MS / 2);
        assert_eq!(pings.on_ping_of_the_crate(7, now), None);
        assert_eq!((pings.pong_due(), pings.pong_for_the_crate(now + 100 * MS)), (None, None));
        // However long an answer takes, later.
        let user = pings.ask_for_the_user(now);
        assert_eq!(pings.take(user.length, now + 90 * MS), Some(Answered::Other));
        assert_eq!((pings.round_trip(), pings.path), (Some(90 * MS), Some(MS / 2)));
        assert_eq!(pings.pong_due(), None);
    }

    #[test]
    fn the_crate_is_answered_after_the_round_trip_on_a_long_path() {
        let (mut pings, now) = proven_after(50 * MS);
        let gauge = pings.on_ping_of_the_crate(7, now).unwrap();
        assert_eq!((pings.pong_for_the_crate(now + 60 * MS), pings.pong_due()), (None, None));
        assert_eq!(pings.take(gauge.length, now + 40 * MS), Some(Answered::Other));
        assert_eq!(pings.pong_due(), Some(now + 40 * MS));
        assert_eq!(pings.pong_for_the_crate(now + 39 * MS), None);
        assert_eq!(pings.pong_for_the_crate(now + 40 * MS), Some(Header::pong(7)));
        // The next time it does not wait for the peer, and what the peer answers counts from then on.
        let gauge = pings.on_ping_of_the_crate(8, now).unwrap();
        assert_eq!(pings.pong_for_the_crate(now + 40 * MS), Some(Header::pong(8)));
        assert_eq!(pings.take(gauge.length, now + MS / 2), Some(Answered::Other));
        assert_eq!(pings.on_ping_of_the_crate(9, now), None);
        assert_eq!(pings.pong_for_the_crate(now), Some(Header::pong(9)), "less than it has measured");
    }

    #[test]
    fn one_slow_answer_makes_no_long_path() {
        let (mut pings, now) = proven_after(15 * MS);
        let gauge = pings.on_ping_of_the_crate(7, now).unwrap();
        assert_eq!(pings.take(gauge.length, now + MS / 4), Some(Answered::Other));
        assert_eq!(pings.pong_due(), None);
        assert_eq!((pings.round_trip(), pings.path), (Some(MS / 4), Some(MS / 4)));
    }

    #[test]
    fn each_ping_has_a_value_of_its_own_which_the_crate_never_uses() {
        let now = Instant::now();
        let mut pings = begun_at(now);
        let mut last = pings.ask(now).value;
        for _ in 0..1_000 {
            let value = pings.ask(now).value;
            assert_eq!(value, last + 1);
            last = value;
        }
        // They begin anew before they would mean something else.
        pings.next = PING_VALUES - 1;
        let values = [pings.ask(now).value, pings.ask(now).value, pings.ask(now).value];
        assert_eq!(values, [OURS + PING_VALUES - 1, OURS, OURS + 1]);
        for value in values {
            assert!(!is_proof(value) && !pings.tells(value) && value >= OURS);
        }
    }

    #[test]
    fn what_nobody_asked_for_changes_nothing() {
        let (mut pings, now) = proven_after(MS);
        for value in [0, 7, OURS, HELD, PROOF_OF_CLIENT, u32::MAX] {
            assert_eq!(pings.take(value, now), None);
        }
        let user = pings.ask_for_the_user(now);
        assert_eq!(pings.take_pong(), None);
        assert_eq!(pings.take(user.length, now + MS), Some(Answered::Other));
        assert_eq!((pings.take_pong(), pings.take_pong()), (Some(MS), None));
    }
}
