//! A caller: asks a manager for a session, works on it, and asks for the next one when it is lost.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use evermux::{MuxManager, Session, SessionId};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::bounds;
use crate::context::{CallerId, Quiet, RunContext};
use crate::history::{What, broken, note};
use crate::interpose::elapsed;
use crate::plan::{Caller, Side};
use crate::verdict::Violation;
use crate::work::{self, Failed, StreamIds, WorkItem};

/// The longest pause when the last fault is over.
const PAUSE_MAX_AFTER_FAULTS: Duration = Duration::from_secs(5);

/// A caller at work.
pub(crate) struct Calling {
    pub(crate) index: usize,
    pub(crate) spec: Caller,
    pub(crate) host: &'static str,
    pub(crate) side: Side,
    pub(crate) context: Rc<RunContext>,
    pub(crate) managers: watch::Receiver<Option<MuxManager>>,
    pub(crate) rng: ChaCha8Rng,
}

/// Takes a caller off a list when it is dropped.
struct Listed<'a, T>(&'a RefCell<T>, CallerId, fn(&mut T, CallerId));

impl<T> Drop for Listed<'_, T> {
    fn drop(&mut self) {
        (self.2)(&mut self.0.borrow_mut(), self.1);
    }
}

impl Calling {
    pub(crate) async fn work(mut self) {
        let kind = work::find(&self.spec.work).expect("a plan is checked");
        let context = Rc::clone(&self.context);
        let faults_end = context.plan.faults_end();
        loop {
            let pause = Duration::from_millis(self.rng.random_range(0..self.spec.pause_ms.max(1)));
            // When all is over, nobody is kept waiting for a caller who does little.
            let longest = faults_end.saturating_sub(elapsed()) + PAUSE_MAX_AFTER_FAULTS;
            sleep(pause.min(longest)).await;
            let _ = context.rests.subscribe().wait_for(|rests| !rests).await;
            let begun = elapsed();
            let begins = context.quiet.get().map(|_| (begun, context.standing()));
            let item_seed = self.rng.next_u64();
            let (pauses, moves) = (Duration::from_millis(kind.pauses_ms), work::moves(&context.plan));
            let bound = bounds::service(&context.plan, pauses, moves);
            let deadline = begun.max(faults_end) + bound;
            let doing = async {
                context.doing.borrow_mut().insert((self.host, self.index), begun);
                let _doing = Listed(&context.doing, (self.host, self.index), |doing, place| {
                    doing.remove(&place);
                });
                self.until_served(kind, item_seed).await
            };
            let mut cancel = context.cancel.subscribe();
            cancel.mark_unchanged();
            let in_time = timeout_at(instant(deadline), doing);
            let result = tokio::select! {
                biased;
                _ = cancel.changed() => {
                    note(self.host, What::GivesUp(self.index));
                    continue;
                }
                result = in_time => result,
            };
            match result {
                Ok(Ok(given)) => {
                    if let Err(late) = self.in_time(kind, begins, given) {
                        note(self.host, What::Violation(late));
                    }
                    note(self.host, What::Served(self.index));
                    context.counters.add("pieces of work", 1);
                    context.done.borrow_mut().push(begun);
                    if begun >= faults_end {
                        context.served.borrow_mut().entry(self.index).or_insert(elapsed().saturating_sub(faults_end));
                    }
                }
                Ok(Err(what)) => note(self.host, What::Violation(what)),
                // Nobody dials this host any more, or the session with the other one has outlived the change.
                Err(_) if !self.is_current() || context.served.borrow().contains_key(&self.index) => {}
                Err(_) => {
                    let text = format!(
                        "caller {} ({}, on {}) was not served within {bound:?} after the last fault",
                        self.index, self.spec.work, self.host
                    );
                    broken(self.host, "liveness", text);
                    return;
                }
            }
        }
    }

    /// A piece of work is done, for which the last session was given at this time. If it was begun when nothing went wrong
    /// any more, it began as things stood then.
    fn in_time(&self, kind: &work::Work, begins: Option<Quiet>, given: Duration) -> Result<(), Violation> {
        let (context, plan) = (&self.context, &self.context.plan);
        let Some((since, standing)) = begins.or(context.quiet.get()).filter(|_| self.is_current()) else {
            return Ok(());
        };
        let recovery = bounds::recovery(plan, standing);
        let work = bounds::work(plan, Duration::from_millis(kind.pauses_ms), work::moves(plan));
        let (waited, worked) = (given.saturating_sub(since), elapsed().saturating_sub(given.max(since)));
        let phases = if work::ASKS_AGAIN.contains(&kind.name) {
            vec![("moved on", waited + worked, recovery + work)]
        } else {
            vec![("waited for a session that lives", waited, recovery), ("worked on its session", worked, work)]
        };
        for (what, took, bound) in phases {
            context.counters.worst(format!("a caller {what}"), took, bound);
            if took > bound {
                let text = format!(
                    "caller {} ({}, on {}) {what} for {took:?} when nothing went wrong any more, and {bound:?} would do",
                    self.index, kind.name, self.host
                );
                return Err(Violation::new("liveness", text));
            }
        }
        Ok(())
    }

    /// Whether its host is the one of its side that sessions are made with.
    fn is_current(&self) -> bool {
        self.context.is_current(self.side, self.host)
    }

    /// The ids of the streams that callers of its host have opened on a session of the manager that was started so many
    /// times.
    fn ids_of(&self, starts: u64, session: SessionId) -> StreamIds {
        // What a long run keeps of them would be counted as what it left.
        if self.context.is_long.get() {
            return StreamIds::default();
        }
        let mut streams = self.context.streams.borrow_mut();
        // Nobody opens any on those of an earlier manager.
        streams.retain(|(host, of, _), _| *host != self.host || *of == starts);
        Rc::clone(streams.entry((self.host, starts, session.as_u64())).or_default())
    }

    /// Does a piece of work on one session after the other, until it is done.
    async fn until_served(&mut self, kind: &'static work::Work, seed: u64) -> Result<Duration, Violation> {
        let mut sessions = 0;
        let mut gone = None;
        loop {
            let (manager, session) = self.session().await?;
            sessions += 1;
            if sessions == 3 {
                self.context.counters.add("a piece of work took three sessions", 1);
            }
            let id = session.id();
            let starts = self.context.host(self.host).starts.get();
            if gone == Some((starts, id)) {
                let text = format!("a caller was told that session {id} is gone, asked again, and was given it");
                return Err(Violation::new("G3", text));
            }
            let mut item = WorkItem {
                session,
                manager,
                rng: ChaCha8Rng::seed_from_u64(seed.wrapping_add(sessions)),
                bytes: self.rng.random_range(0..=self.spec.bytes) as usize,
                backlog: self.context.plan.settings.accept_backlog,
                has_room: self.context.plan.settings.has_room(),
                calm: self.context.plan.is_calm(),
                lossless: self.context.plan.is_lossless(),
                is_limited: self.context.plan.settings.max_streams_per_session > 0,
                bulk: bounds::bulk(&self.context.plan, work::moves(&self.context.plan)),
                path: self.context.plan.path(),
                grain: Duration::from_millis(2 * self.context.plan.network.tick_ms),
                moved: Cell::new(false),
                is_gone: Cell::new(false),
                side: self.side,
                ids: self.ids_of(starts, id),
                counters: self.context.counters.clone(),
            };
            let begun = elapsed();
            match (kind.run)(&mut item).await {
                Ok(()) => return Ok(begun),
                Err(Failed::Violation(what)) => return Err(what),
                Err(Failed::Interrupted(error)) => {
                    note(self.host, What::Interrupted(self.index, format!("session {id}: {error}")));
                    self.context.counters.add("a piece of work was interrupted", 1);
                    if error.kind() == io::ErrorKind::UnexpectedEof {
                        return Err(Violation::new("G17", "a stream ended cleanly before its end"));
                    }
                    let is_excused = !self.context.shutting_down.borrow().is_empty()
                        || item.moved.get()
                        || error.kind() == io::ErrorKind::TimedOut
                        || elapsed().saturating_sub(begun) > self.context.plan.settings.accepted_within();
                    if !is_excused && item.has_room && !item.session.is_closed() && item.goes_on().await {
                        let text = format!("{} was interrupted, though session {id} goes on: {error}", self.spec.work);
                        return Err(Violation::new("G16", text));
                    }
                    if item.is_gone.get() {
                        gone = Some((starts, id));
                        // At once: there is nothing to wait for.
                    } else if item.session.is_closed() {
                        // Whoever notes the end of the session is let in, so that asking again is asking too late.
                        tokio::task::yield_now().await;
                    } else {
                        // A stream that was reset alone: the other side was not ready for it.
                        sleep(Duration::from_millis(self.rng.random_range(1..200))).await;
                    }
                }
            }
        }
    }

    /// Asks for a session, in one of the ways that there are, of the manager that runs now.
    async fn session(&mut self) -> Result<(MuxManager, Session), Violation> {
        let context = Rc::clone(&self.context);
        let host = self.host;
        loop {
            let manager = self.managers.wait_for(Option::is_some).await;
            let Some(manager) = manager.map_err(|_| Violation::new("scenario", "the host has ended"))?.clone() else {
                continue;
            };
            note(host, What::Asks(self.index));
            context.waiting.borrow_mut().insert((host, self.index));
            let _waiting = Listed(&context.waiting, (host, self.index), |waiting, place| {
                waiting.remove(&place);
            });
            let asked = match self.rng.random_range(0..4) {
                0 => manager.with_session(async |session| session).await,
                1 => match manager.reader().session().cloned() {
                    Some(session) => Ok(session),
                    None => manager.session().await,
                },
                2 => {
                    // As `session_blocking_timeout` does: a wait that may end in time, asked again.
                    let patience = Duration::from_millis(self.rng.random_range(1..2_000));
                    match timeout(patience, manager.session()).await {
                        Ok(asked) => asked,
                        Err(_) => {
                            context.counters.add("wait dropped by its caller", 1);
                            manager.session().await
                        }
                    }
                }
                _ => manager.session().await,
            };
            match asked {
                Ok(session) => {
                    note(host, What::Given(self.index, session.id().to_string()));
                    return Ok((manager, session));
                }
                Err(stopped) if context.may_stop(host, &stopped) => {
                    note(host, What::Freed(self.index));
                    context.counters.add("a caller was freed by a shutdown", 1);
                    // The next manager, if there is one.
                    let other =
                        |next: &Option<MuxManager>| next.as_ref().is_some_and(|next| next.status().stopped.is_none());
                    drop(manager);
                    if self.managers.wait_for(other).await.is_err() {
                        std::future::pending::<()>().await;
                    }
                }
                Err(stopped) => return Err(Violation::new("G12", format!("the manager of {host} stopped: {stopped}"))),
            }
        }
    }
}

/// When the time of the run is this.
fn instant(at: Duration) -> Instant {
    Instant::now() + at.saturating_sub(elapsed())
}
