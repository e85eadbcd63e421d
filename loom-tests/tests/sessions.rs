//! Sessions that come, are replaced, die and are stopped, all at once.

use std::sync::Arc;

use evermux::sync::{Ending, Refused, SessionEnd, SessionSlot, SlotReader, StopGuard};
use loom::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
};
use loom_tests::{Loom, Preemptions::Unbounded, Slot, assert_unlocked, explore, install, load, slot, try_install};

type Reader = SlotReader<u32, &'static str, Loom>;

/// G3: whoever knows of a death through an acquiring load is not given the session by a cached reader.
#[test]
fn generation_before_lock() {
    explore("generation_before_lock", Unbounded, 60, || {
        let slot = slot::<Loom>(1);
        let id = install(&slot, 1);
        let told = Arc::new(AtomicBool::new(false));
        let looks = thread::spawn({
            let (mut reader, told) = (slot.reader(), Arc::clone(&told));
            move || {
                assert!(matches!(reader.session(), Some(1) | None));
                if told.load(Ordering::Acquire) {
                    assert_eq!(reader.session(), None);
                }
            }
        });
        assert_eq!(slot.clear(id), Some(1));
        told.store(true, Ordering::Release);
        looks.join().unwrap();
    });
}

/// G3: a reader across a replace never goes back to the older session, and does not stay with it.
#[test]
fn a_reader_never_goes_back() {
    explore("a_reader_never_goes_back", Unbounded, 80, || {
        let slot = slot::<Loom>(1);
        let old = install(&slot, 1);
        let looks = thread::spawn({
            let mut reader = slot.reader();
            move || {
                let seen = [(); 3].map(|()| reader.session().copied().unwrap());
                assert!(seen.is_sorted(), "{seen:?}");
                reader
            }
        });
        assert_eq!(slot.replace(old, &mut slot.reserve(), 2, load::<Loom>()), Ok(1));
        assert_eq!(looks.join().unwrap().session(), Some(&2));
    });
}

/// G1 G3: a reader that looked during an install and a stop has seen both once they are over.
#[test]
fn a_reader_misses_no_change() {
    explore("a_reader_misses_no_change", Unbounded, 100, || {
        let slot = slot::<Loom>(1);
        let looks = |mut reader: Reader| {
            thread::spawn(move || {
                assert!(matches!(reader.session(), Some(1) | None));
                reader
            })
        };
        let during_install = looks(slot.reader());
        install(&slot, 1);
        let mut reader = during_install.join().unwrap();
        assert_eq!(reader.session(), Some(&1));
        let during_stop = looks(reader);
        assert_eq!(slot.stop("shut down"), [1]);
        assert_eq!(during_stop.join().unwrap().session(), None);
    });
}

/// G1 G3: the driver dies between the proof and the install.
#[test]
fn dies_before_install() {
    explore("dies_before_install", Unbounded, 3, || {
        let slot = slot::<Loom>(1);
        let mut reservation = slot.reserve();
        let driver = thread::spawn({
            let hook = reservation.clear_hook();
            move || hook.clear()
        });
        match slot.install(&mut reservation, 1, load::<Loom>()) {
            Ok(()) | Err(Refused::Dead(1)) => {}
            Err(refused) => panic!("{refused:?}"),
        }
        driver.join().unwrap();
        assert_eq!(slot.peek(), None, "a corpse was published");
        assert_eq!(slot.reserved(), 0);
    });
}

/// What a driver does at its session's end; `told` stands for `closed` and `failed` for what its streams say.
struct Driver {
    slot: Arc<Slot>,
    id: evermux::SessionId,
    told: Arc<AtomicBool>,
    failed: Arc<AtomicBool>,
}

impl Ending for Driver {
    type Reason = &'static str;

    fn clear(&mut self) {
        self.slot.clear(self.id);
    }

    fn publish(&mut self, _: &Self::Reason) {
        self.told.store(true, Ordering::Release);
    }

    fn report(&mut self, _: &Self::Reason) {
        self.failed.store(true, Ordering::Release);
    }

    fn abandoned(&mut self) -> Self::Reason {
        "aborted"
    }
}

/// G3: whoever hears of a death in either way asks again and is not handed the dead session. The driver is dropped, as
/// an aborted task is.
#[test]
fn death_told_before_clear() {
    explore("death_told_before_clear", Unbounded, 9, || {
        let slot = slot::<Loom>(1);
        let (told, failed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let id = install(&slot, 1);
        let mut reader = slot.reader();
        assert_eq!(reader.session(), Some(&1));
        let end = SessionEnd::new(Driver {
            slot: Arc::clone(&slot),
            id,
            told: Arc::clone(&told),
            failed: Arc::clone(&failed),
        });
        let driver = thread::spawn(move || drop(end));
        if failed.load(Ordering::Acquire) {
            assert!(told.load(Ordering::Acquire), "a stream failed before the session's end was told");
            assert_eq!(reader.session(), None);
        }
        if told.load(Ordering::Acquire) {
            assert_eq!(slot.peek(), None);
            assert_eq!(reader.session(), None);
        }
        driver.join().unwrap();
    });
}

/// G3: the caller aborts its session and asks at once, while the driver comes to its own end.
#[test]
fn abort_then_ask() {
    explore("abort_then_ask", Unbounded, 8, || {
        let slot = slot::<Loom>(1);
        let mut reservation = slot.reserve();
        slot.install(&mut reservation, 1, load::<Loom>()).unwrap();
        let hook = reservation.clear_hook();
        let driver = thread::spawn({
            let hook = hook.clone();
            move || hook.clear()
        });
        hook.clear();
        assert_eq!(slot.peek(), None);
        assert_eq!(slot.reader().session(), None);
        driver.join().unwrap();
    });
}

/// G8: news of the old session's death comes while a newer one takes its place.
#[test]
fn late_clear_erases_newer() {
    explore("late_clear_erases_newer", Unbounded, 5, || {
        let slot = slot::<Loom>(1);
        let old = install(&slot, 1);
        let driver = thread::spawn({
            let slot = Arc::clone(&slot);
            move || slot.clear(old)
        });
        let mut reservation = slot.reserve();
        let replaced = match slot.replace(old, &mut reservation, 2, load::<Loom>()) {
            Ok(session) => Some(session),
            Err(Refused::Gone(session)) => {
                slot.install(&mut reservation, session, load::<Loom>()).unwrap();
                None
            }
            Err(refused) => panic!("{refused:?}"),
        };
        let cleared = driver.join().unwrap();
        assert_eq!((replaced.or(cleared), replaced.and(cleared)), (Some(1), None), "not returned exactly once");
        assert_eq!(slot.peek(), Some(2));
    });
}

/// G6: two replacers of one session.
#[test]
fn double_close() {
    explore("double_close", Unbounded, 7, || {
        let slot = slot::<Loom>(1);
        let old = install(&slot, 1);
        let other = thread::spawn({
            let slot = Arc::clone(&slot);
            move || slot.replace(old, &mut slot.reserve(), 2, load::<Loom>())
        });
        let mine = slot.replace(old, &mut slot.reserve(), 3, load::<Loom>());
        let theirs = other.join().unwrap();
        match (mine, theirs) {
            (Ok(1), Err(Refused::Full(2))) => assert_eq!(slot.peek(), Some(3)),
            (Err(Refused::Full(3)), Ok(1)) => assert_eq!(slot.peek(), Some(2)),
            other => panic!("{other:?}"),
        }
    });
}

/// G5: a provider installs while the slot is stopped. Whatever was stored is returned to whoever closes it.
#[test]
fn install_after_shutdown() {
    explore("install_after_shutdown", Unbounded, 3, || {
        let slot = slot::<Loom>(1);
        let provider = thread::spawn({
            let slot = Arc::clone(&slot);
            move || try_install(&slot, 1)
        });
        let stopped = slot.stop("shut down");
        match provider.join().unwrap() {
            Ok(()) => assert_eq!(stopped, [1]),
            Err(Refused::Stopped(1, "shut down")) => assert!(stopped.is_empty()),
            Err(refused) => panic!("{refused:?}"),
        }
        assert_eq!(slot.live(), []);
    });
}

/// G5 G6: a replace and a stop.
#[test]
fn replace_after_shutdown() {
    explore("replace_after_shutdown", Unbounded, 3, || {
        let slot = slot::<Loom>(1);
        let old = install(&slot, 1);
        let replacer = thread::spawn({
            let slot = Arc::clone(&slot);
            move || slot.replace(old, &mut slot.reserve(), 2, load::<Loom>())
        });
        let stopped = slot.stop("shut down");
        match replacer.join().unwrap() {
            Ok(1) => assert_eq!(stopped, [2]),
            Err(Refused::Stopped(2, "shut down")) => assert_eq!(stopped, [1]),
            other => panic!("{other:?}"),
        }
        assert_eq!(slot.peek(), None);
    });
}

/// G4: two stops. One reason is told to everyone, and one caller gets the sessions.
#[test]
fn the_first_reason_wins() {
    explore("the_first_reason_wins", Unbounded, 7, || {
        let slot = slot::<Loom>(1);
        install(&slot, 1);
        let other = thread::spawn({
            let slot = Arc::clone(&slot);
            move || (slot.stop("gave up"), slot.stopped())
        });
        let mine = (slot.stop("shut down"), slot.stopped());
        let theirs = other.join().unwrap();
        assert_eq!(mine.1, theirs.1);
        assert_eq!([mine.0, theirs.0].concat(), [1]);
    });
}

/// G5 G12: a provider ends while one of its handshakes installs and a caller waits.
#[test]
fn provider_death_hangs_callers() {
    explore("provider_death_hangs_callers", Unbounded, 200, || {
        let slot = slot::<Loom>(1);
        let ended = Arc::new(AtomicUsize::new(0));
        let guard = StopGuard::new(Arc::clone(&slot), "gave up", {
            let ended = Arc::clone(&ended);
            move |session: u32| {
                assert_unlocked::<Loom>();
                assert_eq!((session, ended.fetch_add(1, Ordering::Relaxed)), (1, 0));
            }
        });
        let handshake = thread::spawn({
            let slot = Arc::clone(&slot);
            move || try_install(&slot, 1).is_ok()
        });
        let caller = thread::spawn({
            let slot = Arc::clone(&slot);
            move || slot.wait_blocking()
        });
        drop(guard);
        let installed = handshake.join().unwrap();
        match caller.join().unwrap() {
            Ok(session) => assert!(installed && session == 1),
            Err(reason) => assert_eq!(reason, "gave up"),
        }
        assert_eq!(ended.load(Ordering::Relaxed), usize::from(installed));
    });
}

/// A session that is leaked if it is forgotten, and of which no clone may be dropped under the lock.
#[derive(Clone)]
struct Tracked(#[expect(dead_code, reason = "loom counts it")] loom::sync::Arc<()>);

impl Drop for Tracked {
    fn drop(&mut self) {
        assert_unlocked::<Loom>();
    }
}

fn tracked() -> Tracked {
    Tracked(loom::sync::Arc::new(()))
}

/// G6 G7: whichever of replace, clear and stop comes last, each session is returned, and dropped outside the lock.
#[test]
fn close_under_lock() {
    explore("close_under_lock", Unbounded, 4_000, || {
        let slot: Arc<SessionSlot<Tracked, (), Loom>> = Arc::new(SessionSlot::with_primitives(1));
        let mut first = slot.reserve();
        slot.install(&mut first, tracked(), load::<Loom>()).ok().unwrap();
        let mut reader = slot.reader();
        assert!(reader.session().is_some());
        let replacer = thread::spawn({
            let (slot, old) = (Arc::clone(&slot), first.id());
            move || drop(slot.replace(old, &mut slot.reserve(), tracked(), load::<Loom>()))
        });
        let stopper = thread::spawn({
            let slot = Arc::clone(&slot);
            move || drop(slot.stop(()))
        });
        drop(slot.clear(first.id()));
        let _ = reader.session();
        replacer.join().unwrap();
        stopper.join().unwrap();
        assert!(reader.session().is_none());
    });
}
