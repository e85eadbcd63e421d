//! What is given up, and when: only after a look at the socket that begins after the deadline (G10).

use std::{future::Future, task::Context, time::Duration};

use tokio::{sync::oneshot, time::Instant};

use super::DriverState;
use crate::session::{heartbeat::Verdict, wire::WireCore};

/// What is overdue is given up only after a look at the socket that begins this much later: by then timer and socket
/// have been polled anew, whatever kept this task or the whole process from it before.
const LOOK: Duration = Duration::from_millis(1);

/// A waiter for a sign of life.
pub(super) struct Probe {
    /// How many there were before.
    pub(super) since: u64,
    pub(super) until: Instant,
    pub(super) silent: oneshot::Sender<bool>,
}

impl<Io> DriverState<Io>
where
    Io: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    /// Checks whether the timer of a look has fired. Before the socket is read: tokio polls sockets before it fires
    /// timers, so what this turn does not find there had not come when the timer fired.
    pub(super) fn poll_look(&mut self, core: &mut WireCore<Io>, cx: &mut Context<'_>) {
        if self.timer_set.is_none() || self.timer.as_mut().poll(cx).is_pending() {
            return;
        }
        let fired = self.timer_set.take();
        if self.look_at.is_some() && self.look_at == fired {
            self.look_at = None;
            self.look = fired;
            core.begin_look();
        }
    }

    /// Judges what is overdue, once the wire has read and written what it can (G10). A task that is woken late, because
    /// the process was stopped or a thread was busy, sees a late clock and a stale socket: what is overdue is given up
    /// only in a look.
    pub(super) fn judge(&mut self, core: &mut WireCore<Io>, now: Instant, cx: &mut Context<'_>) {
        // Signs of life for what became overdue after the timer was due may have been kept from us since.
        let look = self.look.filter(|_| core.has_looked());
        let is_due = |deadline: Instant| look.is_some_and(|look| look >= deadline);
        let mut is_overdue = false;
        match core.judge(now) {
            Verdict::Wait => {}
            Verdict::Ping => drop(core.poll_flush(cx)),
            Verdict::Dead(reason) if look.is_some_and(|look| core.pings.heartbeat.was_dead(look)) => core.fail(reason),
            Verdict::Dead(_) => is_overdue = true,
        }
        for probe in self.probes.extract_if(.., |probe| is_due(probe.until)) {
            let _ = probe.silent.send(true);
        }
        is_overdue |= self.probes.iter().any(|probe| now >= probe.until);
        if let Some(look) = look
            && self.accept_deadline().is_some_and(is_due)
        {
            self.expire_inbound(look);
        }
        is_overdue |= self.accept_deadline().is_some_and(|deadline| now >= deadline);
        if look.is_some() {
            self.look = None;
        }
        if is_overdue && self.look.is_some() {
            // The look is not complete: the next turn asks for what this one could not.
            cx.waker().wake_by_ref();
        }
        self.look_at = (is_overdue && self.look.is_none()).then(|| self.look_at.unwrap_or(now + LOOK));
    }
}
