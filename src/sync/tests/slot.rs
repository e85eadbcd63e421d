//! What may go into a slot, and what comes out of it.

use super::*;

#[test]
fn a_full_slot_hands_the_newcomer_back_and_the_reservation_stays_good() {
    let slot = slot(1);
    let a = install(&slot, "a");
    let mut reservation = slot.reserve();
    assert_eq!(slot.install(&mut reservation, "b", Arc::default()), Err(Refused::Full("b")));
    slot.clear(a);
    assert_eq!(slot.install(&mut reservation, "b", Arc::default()), Ok(()));
    assert_eq!(slot.peek(), Some("b"));
    drop(reservation);
    assert_eq!(slot.peek(), Some("b"), "a used reservation does nothing when dropped");
}

#[test]
fn a_reservation_is_good_for_one_session() {
    let slot = slot(2);
    let mut reservation = slot.reserve();
    slot.install(&mut reservation, "a", Arc::default()).unwrap();
    assert_eq!(slot.install(&mut reservation, "b", Arc::default()), Err(Refused::Dead("b")));
}

#[test]
fn a_dropped_reservation_is_forgotten_also_after_a_stop() {
    let slot = slot(1);
    let first = slot.reserve();
    slot.stop("enough");
    let second = slot.reserve();
    assert_ne!(first.id(), second.id());
    assert_eq!(slot.reserved(), 2);
    drop((first, second));
    assert_eq!(slot.reserved(), 0);
}

#[test]
#[should_panic(expected = "in the slot that made it")]
fn a_reservation_of_another_slot_is_refused_by_a_panic() {
    let (slot, other) = (slot(1), self::slot(1));
    let _ = slot.install(&mut other.reserve(), "a", Arc::default());
}

#[test]
#[should_panic(expected = "at least one place")]
fn a_slot_without_places_is_refused_by_a_panic() {
    let _ = slot(0);
}

#[test]
fn no_id_is_given_out_twice() {
    let slot = slot(1);
    let mut seen = vec![SessionId::STANDALONE];
    for _ in 0..100 {
        let id = slot.reserve().id();
        assert!(!seen.contains(&id));
        seen.push(id);
    }
}

#[test]
fn a_replace_puts_the_new_session_in_the_place_of_the_old_one() {
    let slot = slot(1);
    let a = install(&slot, "a");
    let mut reservation = slot.reserve();
    assert_eq!(slot.replace(a, &mut reservation, "b", Arc::default()), Ok("a"));
    assert_eq!(slot.live(), [(reservation.id(), "b")]);
}

#[test]
fn a_replace_of_a_session_that_is_gone_says_whether_a_place_is_free() {
    let slot = slot(2);
    let a = install(&slot, "a");
    install(&slot, "b");
    slot.clear(a);
    let mut reservation = slot.reserve();
    assert_eq!(slot.replace(a, &mut reservation, "c", Arc::default()), Err(Refused::Gone("c")));
    install(&slot, "d");
    assert_eq!(slot.replace(a, &mut reservation, "c", Arc::default()), Err(Refused::Full("c")));
    slot.stop("enough");
    assert_eq!(slot.replace(a, &mut reservation, "c", Arc::default()), Err(Refused::Stopped("c", "enough")));
}

#[test]
fn the_least_loaded_session_is_given_out_and_ties_go_around() {
    let slot = slot(3);
    let loads: Vec<Arc<AtomicUsize>> = (0..3).map(|_| Arc::default()).collect();
    for (session, load) in ["a", "b", "c"].into_iter().zip(&loads) {
        install_with(&slot, session, load);
    }
    let next = || slot.peek().unwrap();
    assert_eq!([next(), next(), next(), next()], ["a", "b", "c", "a"]);
    loads[1].store(5, Ordering::Relaxed);
    assert_eq!([next(), next(), next()], ["c", "a", "c"]);
    loads[0].store(7, Ordering::Relaxed);
    loads[2].store(6, Ordering::Relaxed);
    assert_eq!([next(), next()], ["b", "b"]);
}

#[test]
fn a_reader_keeps_its_session_while_it_is_in_the_slot() {
    let slot = slot(2);
    let load = Arc::default();
    let a = install_with(&slot, "a", &load);
    let mut reader = slot.reader();
    assert_eq!(reader.session(), Some(&"a"));
    load.store(9, Ordering::Relaxed);
    let b = install(&slot, "b");
    assert_eq!(reader.session(), Some(&"a"));
    slot.clear(a);
    assert_eq!(reader.session(), Some(&"b"));
    slot.clear(b);
    assert_eq!(reader.session(), None);
}

#[test]
fn a_reader_of_an_unchanged_slot_takes_no_lock() {
    let slot = slot(1);
    install(&slot, "a");
    let mut reader = slot.reader();
    reader.session();
    let _held = slot.state.lock().unwrap();
    assert_eq!(reader.session(), Some(&"a"));
}

#[test]
fn a_reader_of_a_stopped_slot_holds_nothing() {
    let slot: Arc<SessionSlot<Arc<()>, ()>> = Arc::new(SessionSlot::new(1));
    let session = Arc::new(());
    slot.install(&mut slot.reserve(), Arc::clone(&session), Arc::default()).unwrap();
    let mut reader = slot.reader();
    assert!(reader.session().is_some());
    drop(slot.stop(()));
    assert!(reader.session().is_none());
    assert_eq!(Arc::strong_count(&session), 1);
}

#[test]
fn a_poisoned_lock_is_entered() {
    struct Bomb(Arc<AtomicUsize>);
    impl Clone for Bomb {
        fn clone(&self) -> Self {
            assert_ne!(self.0.load(Ordering::Relaxed), 1, "this clone panics");
            Self(Arc::clone(&self.0))
        }
    }
    let slot: Arc<SessionSlot<Bomb, ()>> = Arc::new(SessionSlot::new(1));
    let fuse = Arc::new(AtomicUsize::new(1));
    slot.install(&mut slot.reserve(), Bomb(Arc::clone(&fuse)), Arc::default()).ok().unwrap();
    assert!(panic::catch_unwind(AssertUnwindSafe(|| slot.peek())).is_err());
    fuse.store(0, Ordering::Relaxed);
    assert!(slot.peek().is_some());
    assert_eq!(slot.stop(()).len(), 1);
}

#[test]
fn install_after_shutdown() {
    let slot = slot(1);
    let mut early = slot.reserve();
    slot.stop("shut down");
    let mut late = slot.reserve();
    assert_eq!(slot.install(&mut early, "a", Arc::default()), Err(Refused::Stopped("a", "shut down")));
    assert_eq!(slot.install(&mut late, "b", Arc::default()), Err(Refused::Stopped("b", "shut down")));
    assert_eq!(slot.live(), []);
}

#[test]
fn dies_before_install() {
    let slot = slot(1);
    let mut reservation = slot.reserve();
    assert_eq!(slot.clear(reservation.id()), None);
    assert_eq!(slot.install(&mut reservation, "a", Arc::default()), Err(Refused::Dead("a")));
    assert_eq!(slot.peek(), None);
}

#[test]
fn replace_into_empty_slot() {
    let slot = slot(1);
    let mut reservation = slot.reserve();
    for nothing in [SessionId::STANDALONE, slot.reserve().id(), reservation.id()] {
        assert_eq!(slot.replace(nothing, &mut reservation, "a", Arc::default()), Err(Refused::Gone("a")));
    }
    assert_eq!(slot.install(&mut reservation, "a", Arc::default()), Ok(()));
}

#[test]
fn late_clear_erases_newer() {
    let slot = slot(1);
    let a = install(&slot, "a");
    assert_eq!(slot.clear(a), Some("a"));
    install(&slot, "b");
    assert_eq!(slot.clear(a), None);
    assert_eq!(slot.peek(), Some("b"));
}

#[test]
fn replace_same_session() {
    let slot = slot(1);
    let mut reservation = slot.reserve();
    slot.install(&mut reservation, "a", Arc::default()).unwrap();
    // The session's own reservation is used up, and a fresh one never has its id: there is no way to name both.
    assert_eq!(slot.replace(reservation.id(), &mut reservation, "a", Arc::default()), Err(Refused::Dead("a")));
    assert_ne!(slot.reserve().id(), reservation.id());
    assert_eq!(slot.live(), [(reservation.id(), "a")]);
}

#[test]
fn closed_session_stays_peekable() {
    let slot = slot(1);
    let mut reservation = slot.reserve();
    let hook: ClearHook<_, _> = reservation.clear_hook();
    slot.install(&mut reservation, "a", Arc::default()).unwrap();
    let mut reader: SlotReader<_, _> = slot.reader();
    assert_eq!(reader.session(), Some(&"a"));
    hook.clear();
    hook.clear();
    assert_eq!((slot.peek(), reader.session()), (None, None));
}

#[test]
fn double_close() {
    let slot = slot(1);
    let a = install(&slot, "a");
    let (mut first, mut second) = (slot.reserve(), slot.reserve());
    assert_eq!(slot.replace(a, &mut first, "b", Arc::default()), Ok("a"));
    assert_eq!(slot.replace(a, &mut second, "c", Arc::default()), Err(Refused::Full("c")));
    assert_eq!(slot.clear(a), None);
}

#[test]
fn load_outlives_its_session() {
    let slot = slot(2);
    let (dead, heir, other) = (Arc::new(AtomicUsize::new(1)), Arc::new(AtomicUsize::new(1)), Arc::default());
    let a = install_with(&slot, "a", &dead);
    install_with(&slot, "b", &other);
    slot.clear(a);
    install_with(&slot, "c", &heir);
    dead.fetch_sub(1, Ordering::Relaxed);
    assert_eq!(heir.load(Ordering::Relaxed), 1);
    assert_eq!([slot.peek(), slot.peek()], [Some("b"), Some("b")]);
}

#[test]
fn a_hook_does_not_keep_the_slot() {
    let slot = slot(1);
    let hook = slot.reserve().clear_hook();
    drop(slot);
    hook.clear();
}
