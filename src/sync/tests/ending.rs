//! The order in which a session and a provider end.

use super::*;

/// Records each step, and panics in one of them.
struct Steps {
    done: Arc<Mutex<Vec<String>>>,
    panics_in: Option<&'static str>,
}

impl Steps {
    fn note(&self, step: &str, reason: Option<&str>) {
        self.done.lock().unwrap().push([Some(step), reason].into_iter().flatten().collect::<Vec<_>>().join(" "));
        assert_ne!(self.panics_in, Some(step), "this step panics");
    }
}

impl Ending for Steps {
    type Reason = &'static str;

    fn clear(&mut self) {
        self.note("clear", None);
    }

    fn publish(&mut self, reason: &Self::Reason) {
        self.note("publish", Some(reason));
    }

    fn report(&mut self, reason: &Self::Reason) {
        self.note("report", Some(reason));
    }

    fn abandoned(&mut self) -> Self::Reason {
        if thread::panicking() { "panicked" } else { "aborted" }
    }
}

fn steps(panics_in: Option<&'static str>) -> (Arc<Mutex<Vec<String>>>, SessionEnd<Steps>) {
    let done = Arc::default();
    (Arc::clone(&done), SessionEnd::new(Steps { done, panics_in }))
}

#[test]
fn a_session_ends_in_the_order_clear_publish_report() {
    let (done, guard) = steps(None);
    guard.end(&"lost");
    assert_eq!(*done.lock().unwrap(), ["clear", "publish lost", "report lost"]);
}

#[test]
fn a_session_whose_driver_is_dropped_or_panics_ends_in_the_same_order() {
    let (done, guard) = steps(None);
    drop(guard);
    assert_eq!(*done.lock().unwrap(), ["clear", "publish aborted", "report aborted"]);
    let (done, guard) = steps(None);
    let driver = thread::spawn(move || {
        let _guard = guard;
        panic!("the driver panics");
    });
    assert!(driver.join().is_err());
    assert_eq!(*done.lock().unwrap(), ["clear", "publish panicked", "report panicked"]);
}

#[test]
fn a_panic_in_one_step_of_the_end_skips_none_of_the_others() {
    for step in ["clear", "publish", "report"] {
        let (done, guard) = steps(Some(step));
        assert!(panic::catch_unwind(AssertUnwindSafe(|| guard.end(&"lost"))).is_err());
        assert_eq!(*done.lock().unwrap(), ["clear", "publish lost", "report lost"], "{step} panicked");
    }
}

#[test]
fn a_stop_guard_stops_the_slot_and_ends_each_session_outside_the_lock() {
    let slot = slot(2);
    install(&slot, "a");
    install(&slot, "b");
    let ended = Mutex::new(Vec::new());
    let mut guard = StopGuard::new(Arc::clone(&slot), "aborted", |session| {
        assert_eq!(slot.peek(), None);
        ended.lock().unwrap().push(session);
    });
    guard.set_reason("exhausted");
    drop(guard);
    assert_eq!(*ended.lock().unwrap(), ["a", "b"]);
    assert_eq!(slot.stopped(), Some("exhausted"));
}

#[test]
fn provider_death_hangs_callers() {
    let slot = slot(1);
    let thread = blocked(&slot, Slot::wait_blocking);
    let guard = StopGuard::new(Arc::clone(&slot), "aborted", |_| {});
    let provider = thread::spawn(move || {
        let _guard = guard;
        panic!("the provider panics");
    });
    assert!(provider.join().is_err());
    assert_eq!(thread.join().unwrap(), Err("aborted"));
}

#[test]
fn a_panic_while_a_provider_ends_leaves_no_session_running() {
    let slot = slot(3);
    for session in ["a", "b", "c"] {
        install(&slot, session);
    }
    let ended = Mutex::new(Vec::new());
    let guard = StopGuard::new(Arc::clone(&slot), "aborted", |session| {
        ended.lock().unwrap().push(session);
        assert_ne!(session, "a", "ending this one panics");
    });
    assert!(panic::catch_unwind(AssertUnwindSafe(|| drop(guard))).is_err());
    assert_eq!(*ended.lock().unwrap_or_else(std::sync::PoisonError::into_inner), ["a", "b", "c"]);
}
