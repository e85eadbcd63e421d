//! The permit for a place, beside sessions that come and die (G5 G14).

use std::sync::Arc;

use evermux::sync::{Claim, Hold, Refused};
use loom::thread::{self, JoinHandle};
use loom_tests::{Loom, Preemptions::Unbounded, Slot, explore, load, slot};

type Permit = loom_tests::Permit<Loom>;
type Permits = loom_tests::Permits<Loom>;
type Candidate = Claim<u32, &'static str, Permit, Loom>;
type Departure = evermux::sync::Departure<u32, &'static str, Permit, Loom>;

/// A slot with one place, and the permit for it.
fn place() -> (Arc<Slot>, Arc<Permits>) {
    (slot::<Loom>(1), Permits::new(1))
}

/// A session in the slot.
fn live(slot: &Arc<Slot>, permits: &Arc<Permits>, session: u32) -> Candidate {
    let mut claim = Claim::new(slot);
    claim.install(permits.take().expect("a permit is free"), session, load::<Loom>()).unwrap();
    claim
}

/// A session that leaves at any moment.
fn leaves(departure: Departure) -> JoinHandle<()> {
    thread::spawn(move || departure.leave())
}

/// A session that is installed if there is a permit for it: then a place must be free.
fn comes(slot: &Arc<Slot>, permits: &Arc<Permits>, session: u32) -> JoinHandle<Option<Candidate>> {
    let (slot, permits) = (Arc::clone(slot), Arc::clone(permits));
    thread::spawn(move || {
        let permit = permits.take()?;
        let mut claim = Claim::new(&slot);
        claim.install(permit, session, load::<Loom>()).unwrap();
        Some(claim)
    })
}

/// A session that takes the place of another. Says whether it has it, and hands back what must live as long as it.
fn replaces(mut new: Candidate, old: &Candidate, session: u32) -> JoinHandle<(bool, Candidate)> {
    let (id, hold) = (old.id(), Arc::clone(old.hold()));
    thread::spawn(move || (new.replace((id, &hold), session, load::<Loom>()).is_ok(), new))
}

/// What was put is dropped or taken, whenever the end comes.
#[test]
fn nothing_is_held_after_the_end() {
    explore("nothing_is_held_after_the_end", Unbounded, 45, || {
        let permits = Permits::new(1);
        let hold = Arc::new(Hold::<Permit, Loom>::with_primitives());
        let leaver = thread::spawn({
            let hold = Arc::clone(&hold);
            move || hold.leave()
        });
        let other = thread::spawn({
            let hold = Arc::clone(&hold);
            move || hold.take()
        });
        hold.put(permits.take().unwrap());
        leaver.join().unwrap();
        let taken = other.join().unwrap();
        assert_eq!(permits.free(), usize::from(taken.is_none()));
        assert!(hold.take().is_none());
    });
}

/// A session dies while another waits for its place.
#[test]
fn a_place_is_free_before_its_permit() {
    explore("a_place_is_free_before_its_permit", Unbounded, 8, || {
        let (slot, permits) = place();
        let old = leaves(live(&slot, &permits, 1).departure());
        let new = comes(&slot, &permits, 2).join().unwrap();
        old.join().unwrap();
        assert_eq!(slot.peek(), new.is_some().then_some(2));
        permits.assert_balanced(&slot);
    });
}

/// A session dies while it is installed.
#[test]
fn a_session_that_has_left_keeps_no_permit() {
    explore("a_session_that_has_left_keeps_no_permit", Unbounded, 7, || {
        let (slot, permits) = place();
        let mut new = Candidate::new(&slot);
        let new_leaves = leaves(new.departure());
        match new.install(permits.take().unwrap(), 1, load::<Loom>()) {
            Ok(()) | Err(Refused::Dead(1)) => {}
            Err(refused) => panic!("{refused:?}"),
        }
        new_leaves.join().unwrap();
        assert_eq!((slot.peek(), permits.free()), (None, 1));
    });
}

/// A ghost dies while it is replaced, and a third session looks for a place.
#[test]
fn a_ghost_dies_while_it_is_replaced() {
    explore("a_ghost_dies_while_it_is_replaced", Unbounded, 150, || {
        let (slot, permits) = place();
        let ghost = live(&slot, &permits, 1);
        let ghost_leaves = leaves(ghost.departure());
        let third = comes(&slot, &permits, 3);
        let mut new = Candidate::new(&slot);
        match new.replace((ghost.id(), ghost.hold()), 2, load::<Loom>()) {
            Ok(Some(1) | None) => assert_eq!(slot.peek(), Some(2)),
            Err(Refused::Full(2)) => {}
            other => panic!("{other:?}"),
        }
        ghost_leaves.join().unwrap();
        let _third = third.join().unwrap();
        permits.assert_balanced(&slot);
    });
}

/// A session dies while it replaces another, which keeps its place then, and a third one looks for a place.
#[test]
fn a_ghost_keeps_its_permit_when_its_heir_dies() {
    explore("a_ghost_keeps_its_permit_when_its_heir_dies", Unbounded, 120, || {
        let (slot, permits) = place();
        let ghost = live(&slot, &permits, 1);
        let mut new = Candidate::new(&slot);
        let new_leaves = leaves(new.departure());
        let third = comes(&slot, &permits, 3);
        match new.replace((ghost.id(), ghost.hold()), 2, load::<Loom>()) {
            Ok(Some(1)) => {}
            Err(Refused::Dead(2)) => assert_eq!(slot.peek(), Some(1)),
            other => panic!("{other:?}"),
        }
        new_leaves.join().unwrap();
        let _third = third.join().unwrap();
        permits.assert_balanced(&slot);
        ghost.departure().leave();
        permits.assert_balanced(&slot);
    });
}

/// A ghost and the session that replaces it die both.
#[test]
fn a_ghost_and_its_heir_die() {
    explore("a_ghost_and_its_heir_die", Unbounded, 4_000, || {
        let (slot, permits) = place();
        let ghost = live(&slot, &permits, 1);
        let new = Candidate::new(&slot);
        let leave = [leaves(ghost.departure()), leaves(new.departure())];
        let _new = replaces(new, &ghost, 2).join().unwrap();
        for thread in leave {
            thread.join().unwrap();
        }
        assert_eq!((slot.peek(), permits.free()), (None, 1));
    });
}

/// Two sessions want the place of one: its permit goes to one of them.
#[test]
fn two_replace_one_ghost() {
    explore("two_replace_one_ghost", Unbounded, 350, || {
        let (slot, permits) = place();
        let ghost = live(&slot, &permits, 1);
        let (second, third) = (Candidate::new(&slot), Candidate::new(&slot));
        let heirs = [(second, 2), (third, 3)].map(|(new, session)| replaces(new, &ghost, session));
        ghost.departure().leave();
        let heirs = heirs.map(|thread| thread.join().unwrap());
        assert!(heirs.iter().filter(|(has_it, _)| *has_it).count() <= 1, "{heirs:?}");
        permits.assert_balanced(&slot);
        drop(heirs);
    });
}

/// A session is replaced while its slot is stopped: it is closed, or it keeps its permit until it leaves.
#[test]
fn a_replace_beside_a_stop() {
    explore("a_replace_beside_a_stop", Unbounded, 6, || {
        let (slot, permits) = place();
        let ghost = live(&slot, &permits, 1);
        let stops = thread::spawn({
            let slot = Arc::clone(&slot);
            move || slot.stop("shut down")
        });
        let mut new = Candidate::new(&slot);
        match new.replace((ghost.id(), ghost.hold()), 2, load::<Loom>()) {
            Ok(Some(1)) => assert_eq!(stops.join().unwrap(), [2]),
            Err(Refused::Stopped(2, "shut down")) => assert_eq!(stops.join().unwrap(), [1]),
            other => panic!("{other:?}"),
        }
        assert_eq!(permits.free(), 0);
        for claim in [ghost, new] {
            claim.departure().leave();
        }
        assert_eq!(permits.free(), 1);
    });
}
