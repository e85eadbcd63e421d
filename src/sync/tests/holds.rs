//! [`Hold`] and [`Claim`]: who has the permit for a place.

use super::*;

/// Records its drop, and looks into the hold that drops it, which must not be locked.
struct Note(Arc<Hold<Self>>, Arc<AtomicUsize>);

impl Drop for Note {
    fn drop(&mut self) {
        assert!(self.0.take().is_none());
        self.1.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn what_is_no_longer_held_is_dropped_at_once_and_outside_the_lock() {
    let (hold, dropped) = (Arc::new(Hold::new()), Arc::new(AtomicUsize::new(0)));
    let note = || Note(Arc::clone(&hold), Arc::clone(&dropped));
    let count = || dropped.load(Ordering::Relaxed);
    hold.put(note());
    let permit = hold.take();
    assert!(permit.is_some() && hold.take().is_none());
    assert_eq!(count(), 0);
    drop(permit);
    hold.put(note());
    hold.leave();
    assert_eq!(count(), 2, "the end");
    hold.put(note());
    assert_eq!(count(), 3, "put after the end");
    hold.put(note());
    assert_eq!(count(), 4, "a take does not undo the end");
}

#[test]
fn what_is_put_takes_the_place_of_what_was_held() {
    let (hold, first, second) = (Hold::new(), Arc::new(1), Arc::new(2));
    hold.put(Arc::clone(&first));
    hold.put(Arc::clone(&second));
    assert_eq!(Arc::strong_count(&first), 1);
    assert_eq!(hold.take(), Some(second));
}

type Candidate = Claim<&'static str, &'static str, Arc<()>>;

/// A candidate, and an `Arc` whose other clones are the permits that are held.
fn candidate(slot: &Arc<Slot>) -> (Candidate, Arc<()>) {
    (Claim::new(slot), Arc::new(()))
}

#[test]
fn a_session_holds_its_permit_until_it_has_left() {
    let slot = slot(1);
    let (mut claim, permit) = candidate(&slot);
    claim.install(Arc::clone(&permit), "a", Arc::default()).unwrap();
    assert_eq!(Arc::strong_count(&permit), 2);
    let departure = claim.departure();
    drop(claim);
    assert_eq!((slot.peek(), Arc::strong_count(&permit)), (Some("a"), 2));
    departure.leave();
    assert_eq!((slot.peek(), Arc::strong_count(&permit)), (None, 1));
}

#[test]
fn a_session_that_is_refused_keeps_no_permit() {
    let slot = slot(1);
    let (mut dead, permit) = candidate(&slot);
    dead.departure().leave();
    assert_eq!(dead.install(Arc::clone(&permit), "a", Arc::default()), Err(Refused::Dead("a")));
    let (mut late, _) = candidate(&slot);
    slot.stop("shut down");
    assert_eq!(late.install(Arc::clone(&permit), "b", Arc::default()), Err(Refused::Stopped("b", "shut down")));
    assert_eq!(Arc::strong_count(&permit), 1);
}

#[test]
fn a_session_that_is_replaced_gives_its_permit_to_its_heir() {
    let slot = slot(1);
    let ((mut ghost, permit), (mut heir, _), (mut late, _)) = (candidate(&slot), candidate(&slot), candidate(&slot));
    ghost.install(Arc::clone(&permit), "a ghost", Arc::default()).unwrap();
    assert_eq!(heir.replace((ghost.id(), ghost.hold()), "its heir", Arc::default()), Ok(Some("a ghost")));
    ghost.departure().leave();
    assert_eq!((slot.peek(), Arc::strong_count(&permit)), (Some("its heir"), 2));
    assert_eq!(late.replace((ghost.id(), ghost.hold()), "late", Arc::default()), Err(Refused::Full("late")));
    heir.departure().leave();
    assert_eq!((slot.peek(), Arc::strong_count(&permit)), (None, 1));
}

#[test]
fn a_session_whose_heir_is_refused_keeps_its_permit() {
    let slot = slot(1);
    let ((mut ghost, permit), (mut dead, _), (mut late, _)) = (candidate(&slot), candidate(&slot), candidate(&slot));
    ghost.install(Arc::clone(&permit), "a ghost", Arc::default()).unwrap();
    dead.departure().leave();
    assert_eq!(dead.replace((ghost.id(), ghost.hold()), "dead", Arc::default()), Err(Refused::Dead("dead")));
    assert_eq!((slot.peek(), Arc::strong_count(&permit)), (Some("a ghost"), 2));
    slot.stop("shut down");
    let refused = late.replace((ghost.id(), ghost.hold()), "late", Arc::default());
    assert_eq!(refused, Err(Refused::Stopped("late", "shut down")));
    assert!(ghost.hold().take().is_some());
}

#[test]
fn a_session_that_left_while_its_permit_was_taken_has_left_a_free_place() {
    let slot = slot(1);
    let ((mut ghost, permit), (mut heir, _)) = (candidate(&slot), candidate(&slot));
    ghost.install(Arc::clone(&permit), "a ghost", Arc::default()).unwrap();
    // Its permit is out of its hold until the replace is over, so an end in between amounts to this.
    slot.clear(ghost.id());
    assert_eq!(heir.replace((ghost.id(), ghost.hold()), "its heir", Arc::default()), Ok(None));
    ghost.departure().leave();
    assert_eq!((slot.peek(), Arc::strong_count(&permit)), (Some("its heir"), 2));
}

#[test]
#[should_panic(expected = "a permit stands for a free place")]
fn more_permits_than_places_are_a_mistake() {
    let slot = slot(1);
    install(&slot, "a");
    let (mut claim, permit) = candidate(&slot);
    let _ = claim.install(permit, "b", Arc::default());
}
