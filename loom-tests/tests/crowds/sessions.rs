//! G3 G6 G7 G8: sessions that are given out, replaced and ended by many at once.

use std::sync::Arc;

use evermux::sync::{Ending, SessionEnd, SessionId, SessionSlot};
use loom_tests::{Shuttle, assert_unlocked, install, load, sample, slot};
use shuttle::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use super::{Slot, each, join};

/// The end of a session, which anybody can learn of.
struct Told {
    slot: Arc<Slot>,
    id: SessionId,
    session: u32,
    /// The bits of the sessions whose end was told.
    ended: Arc<AtomicUsize>,
}

impl Ending for Told {
    type Reason = ();

    fn clear(&mut self) {
        assert_eq!(self.slot.clear(self.id), Some(self.session));
    }

    fn publish(&mut self, (): &()) {
        self.ended.fetch_or(1 << self.session, SeqCst);
    }

    fn report(&mut self, (): &()) {}

    fn abandoned(&mut self) {}
}

/// G3: whoever has learnt of an end, and then looks, waits or reads, is given another session, or none.
#[test]
fn nobody_is_given_what_has_ended() {
    sample("nobody_is_given_what_has_ended", || {
        let slot = slot::<Shuttle>(2);
        let ended = Arc::new(AtomicUsize::new(0));
        let ends = each(2, {
            let (slot, ended) = (Arc::clone(&slot), Arc::clone(&ended));
            move |number| {
                let session = 2 * number;
                let id = install(&slot, session);
                let (slot, ended) = (Arc::clone(&slot), Arc::clone(&ended));
                SessionEnd::new(Told { slot: Arc::clone(&slot), id, session, ended }).end(&());
                install(&slot, session + 1);
            }
        });
        let ask = each(3, {
            let slot = Arc::clone(&slot);
            move |number| {
                let mut reader = slot.reader();
                for _ in 0..2 {
                    let ended = ended.load(SeqCst);
                    let given = match number {
                        0 => slot.peek(),
                        1 => reader.session().copied(),
                        _ => slot.wait_blocking().ok(),
                    };
                    assert!(given.is_none_or(|session| ended & (1 << session) == 0), "{given:?} of {ended:b}");
                }
            }
        });
        join(ends);
        join(ask);
        assert_eq!(slot.live().len(), 2);
    });
}

/// A session that counts how often it is handed back, which no lock may see.
#[derive(Clone)]
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new() -> Self {
        Self(Arc::new(AtomicUsize::new(0)))
    }

    fn close(self) {
        self.0.fetch_add(1, SeqCst);
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        assert_unlocked::<Shuttle>();
    }
}

/// G6 G7 G8: two that replace, two that clear and one that stops. Each session is handed back once.
#[test]
fn each_session_is_handed_back_once() {
    sample("each_session_is_handed_back_once", || {
        let slot: Arc<SessionSlot<Counted, (), Shuttle>> = Arc::new(SessionSlot::with_primitives(2));
        let first: Vec<_> = (0..2)
            .map(|_| {
                let (mut reservation, session) = (slot.reserve(), Counted::new());
                slot.install(&mut reservation, session.clone(), load::<Shuttle>()).ok().unwrap();
                (reservation.id(), session)
            })
            .collect();
        let ids: Vec<_> = first.iter().map(|(id, _)| *id).collect();
        let replace = each(2, {
            let (slot, ids) = (Arc::clone(&slot), ids.clone());
            move |_| {
                let session = Counted::new();
                match slot.replace(ids[0], &mut slot.reserve(), session.clone(), load::<Shuttle>()) {
                    Ok(old) => {
                        old.close();
                        Some(session)
                    }
                    Err(_) => None,
                }
            }
        });
        let clear = each(2, {
            let slot = Arc::clone(&slot);
            move |number| slot.clear(ids[number as usize]).map(Counted::close)
        });
        let stop = each(1, {
            let slot = Arc::clone(&slot);
            move |_| slot.stop(()).into_iter().for_each(Counted::close)
        });
        let replaced = join(replace);
        join(clear);
        join(stop);
        let sessions = first.into_iter().map(|(_, session)| session).chain(replaced.into_iter().flatten());
        for session in sessions {
            assert_eq!(session.0.load(SeqCst), 1);
        }
    });
}
