//! G5 G14: claims to several places, by more sessions than there are.

use std::sync::Arc;

use evermux::sync::{Claim, Refused};
use loom_tests::{Shuttle, load, sample, slot};
use shuttle::thread;

use super::{Slot, each, join};

type Permit = loom_tests::Permit<Shuttle>;
type Permits = loom_tests::Permits<Shuttle>;
type Candidate = Claim<u32, &'static str, Permit, Shuttle>;

/// A slot and its permits.
fn places(count: usize) -> (Arc<Slot>, Arc<Permits>) {
    (slot::<Shuttle>(count), Permits::new(count))
}

/// A session in the slot.
fn live(slot: &Arc<Slot>, permits: &Arc<Permits>, session: u32) -> Candidate {
    let mut claim = Claim::new(slot);
    claim.install(permits.take().expect("a permit is free"), session, load::<Shuttle>()).unwrap();
    claim
}

/// Who has a permit finds a place, whoever comes and goes at the same time.
#[test]
fn a_permit_always_finds_its_place() {
    sample("a_permit_always_finds_its_place", || {
        let (slot, permits) = places(2);
        let sessions = each(4, {
            let (slot, permits) = (Arc::clone(&slot), Arc::clone(&permits));
            move |number| {
                let mut claim = Candidate::new(&slot);
                let departure = claim.departure();
                // Half of them may die before they are installed.
                let dies = (number % 2 == 0).then(|| thread::spawn(move || departure.leave()));
                if let Some(permit) = permits.take() {
                    match claim.install(permit, number, load::<Shuttle>()) {
                        Ok(()) | Err(Refused::Dead(_)) => {}
                        Err(refused) => panic!("{refused:?}"),
                    }
                }
                if let Some(dies) = dies {
                    dies.join().unwrap();
                }
                claim
            }
        });
        let claims = join(sessions);
        permits.assert_balanced(&slot);
        for claim in &claims {
            claim.departure().leave();
        }
        assert_eq!((slot.peek(), permits.free()), (None, 2));
    });
}

/// Two ghosts with three heirs, of whom two want the same place; a ghost and an heir die, and another session comes.
#[test]
fn ghosts_and_their_heirs() {
    sample("ghosts_and_their_heirs", || {
        let (slot, permits) = places(2);
        let ghosts = [live(&slot, &permits, 0), live(&slot, &permits, 1)];
        let of = |number: u32| usize::from(number != 0);
        let holds: Vec<_> = ghosts.iter().map(|ghost| (ghost.id(), Arc::clone(ghost.hold()))).collect();
        let new: Vec<_> = (0..3).map(|_| Candidate::new(&slot)).collect();
        let mut leave: Vec<_> = [ghosts[1].departure(), new[1].departure()].into();
        let leave = each(2, {
            let departures = Arc::new([leave.remove(0), leave.remove(0)]);
            move |number| departures[number as usize].leave()
        });
        let comes = each(1, {
            let (slot, permits) = (Arc::clone(&slot), Arc::clone(&permits));
            move |_| permits.take().map(|permit| (Candidate::new(&slot), permit))
        });
        let heirs: Vec<_> = (0..)
            .zip(new)
            .map(|(number, mut heir)| {
                let (id, hold) = holds[of(number)].clone();
                thread::spawn(move || {
                    let has_it = heir.replace((id, &hold), 2 + number, load::<Shuttle>()).is_ok();
                    (has_it, heir)
                })
            })
            .collect();
        let heirs = join(heirs);
        let mut all: Vec<_> = ghosts.into_iter().chain(heirs.into_iter().map(|(_, heir)| heir)).collect();
        for comer in join(comes).into_iter().flatten() {
            let (mut claim, permit) = comer;
            claim.install(permit, 9, load::<Shuttle>()).expect("a permit stands for a free place");
            all.push(claim);
        }
        join(leave);
        permits.assert_balanced(&slot);
        for claim in &all {
            claim.departure().leave();
        }
        assert_eq!((slot.peek(), permits.free()), (None, 2));
    });
}

/// G5: heirs and newcomers beside a stop. Nothing is installed afterwards, and every permit comes back.
#[test]
fn claims_beside_a_stop() {
    sample("claims_beside_a_stop", || {
        let (slot, permits) = places(2);
        let ghost = live(&slot, &permits, 0);
        let (id, hold) = (ghost.id(), Arc::clone(ghost.hold()));
        let heirs = each(2, {
            let slot = Arc::clone(&slot);
            move |number| {
                let mut heir = Candidate::new(&slot);
                let taken = heir.replace((id, &hold), 1 + number, load::<Shuttle>()).map(|_| ());
                (taken, heir)
            }
        });
        let newcomers = each(2, {
            let (slot, permits) = (Arc::clone(&slot), Arc::clone(&permits));
            move |number| {
                let mut claim = Candidate::new(&slot);
                let permit = permits.take();
                let taken = permit.map(|permit| claim.install(permit, 3 + number, load::<Shuttle>()));
                (taken.unwrap_or(Ok(())), claim)
            }
        });
        let stopped = slot.stop("shut down");
        assert!(stopped.len() <= 2, "{stopped:?}");
        let mut all = join(heirs);
        all.extend(join(newcomers));
        assert_eq!(slot.live().len(), 0, "something was installed after the stop");
        for (taken, claim) in &all {
            assert!(matches!(taken, Ok(()) | Err(Refused::Full(_) | Refused::Stopped(_, "shut down"))), "{taken:?}");
            claim.departure().leave();
        }
        ghost.departure().leave();
        assert_eq!((slot.live().len(), permits.free()), (0, 2));
    });
}
