//! G5: a shutdown waits until the last task has gone, whatever else begins, ends or is dropped meanwhile (G4 G9).

use std::{
    future::{pending, poll_fn, ready},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Waker},
};

use evermux::sync::{Earliest, Latch, Tracker};
use loom::{
    future::block_on,
    sync::atomic::{
        AtomicBool, AtomicUsize,
        Ordering::{Relaxed, SeqCst},
    },
    thread::{self, JoinHandle},
};
use loom_tests::{
    Checked, Loom,
    Preemptions::{AtMost, Unbounded},
    explore,
};

/// The tasks of a manager, and how many of their futures are there.
struct Manager {
    tracker: Arc<Tracker<Loom>>,
    held: AtomicUsize,
}

/// What a task holds: a socket, for example.
struct Held(Arc<Manager>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.held.fetch_sub(1, SeqCst);
    }
}

impl Manager {
    fn new() -> Arc<Self> {
        Arc::new(Self { tracker: Arc::default(), held: AtomicUsize::new(0) })
    }

    /// A task that holds something while it does this.
    fn task<F: Future>(self: &Arc<Self>, task: F) -> impl Future<Output = Option<F::Output>> + use<F> {
        self.held.fetch_add(1, SeqCst);
        let held = Held(Arc::clone(self));
        self.tracker.run(async move {
            let _held = held;
            task.await
        })
    }

    /// Asks every task to end, and waits until they have.
    fn shut_down(&self) {
        self.tracker.stop();
        self.join();
    }

    fn join(&self) {
        wait(self.tracker.join());
        assert_eq!(self.held.load(SeqCst), 0, "something is held when the shutdown returns");
    }
}

/// Waits with a waker that no lock may see.
fn wait<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    block_on(poll_fn(|cx| future.as_mut().poll(&mut Context::from_waker(&Checked::<Loom>::waker(cx.waker())))))
}

/// A worker of the runtime.
fn spawn<T: 'static>(task: impl Future<Output = T> + 'static) -> JoinHandle<T> {
    thread::spawn(move || wait(task))
}

/// One ends by itself, another when it is asked to.
#[test]
fn a_shutdown_waits_for_the_last_task() {
    explore("a_shutdown_waits_for_the_last_task", AtMost(3), 1_000, || {
        let manager = Manager::new();
        let stopped = manager.tracker.stopped();
        let tasks = [spawn(manager.task(ready(()))), spawn(manager.task(stopped))];
        manager.shut_down();
        for task in tasks {
            assert_eq!(task.join().unwrap(), Some(()));
        }
    });
}

/// One that begins beside the shutdown is joined, or does nothing.
#[test]
fn a_task_that_begins_beside_a_shutdown_is_joined_or_refused() {
    explore("a_task_that_begins_beside_a_shutdown_is_joined_or_refused", Unbounded, 50, || {
        let (manager, is_over) = (Manager::new(), Arc::new(AtomicBool::new(false)));
        let task = thread::spawn({
            let (manager, is_over) = (Arc::clone(&manager), Arc::clone(&is_over));
            move || {
                let runs = async { assert!(!is_over.load(SeqCst), "it runs after the shutdown") };
                wait(manager.tracker.run(runs))
            }
        });
        manager.shut_down();
        is_over.store(true, SeqCst);
        let _ = task.join().unwrap();
        assert_eq!(wait(manager.tracker.run(ready(()))), None, "nothing begins any more");
    });
}

/// A provider whose last act is to begin the driver of a session, which another worker runs.
#[test]
fn a_task_that_a_task_begins_is_joined() {
    explore("a_task_that_a_task_begins_is_joined", AtMost(4), 300, || {
        let manager = Manager::new();
        let provider = spawn(manager.task({
            let manager = Arc::clone(&manager);
            async move { spawn(manager.task(ready("driven"))) }
        }));
        manager.shut_down();
        let driver = provider.join().unwrap().expect("nobody has killed it");
        assert_eq!(driver.join().unwrap(), Some("driven"));
    });
}

/// A task that never ends is dropped when time is up, whether it is polled before, meanwhile, or later.
#[test]
fn a_kill_ends_what_does_not_end() {
    explore("a_kill_ends_what_does_not_end", Unbounded, 50, || {
        let manager = Manager::new();
        let task = spawn(manager.task(pending::<()>()));
        manager.tracker.stop();
        manager.tracker.kill();
        manager.join();
        assert_eq!(task.join().unwrap(), None);
    });
}

/// A task that ends by itself as it is killed: it was finished, or not.
#[test]
fn a_kill_beside_an_end() {
    explore("a_kill_beside_an_end", AtMost(4), 1_000, || {
        let (manager, asked) = (Manager::new(), Arc::new(Latch::<u32, Loom>::default()));
        let task = spawn(manager.task(asked.wait()));
        let killer = thread::spawn({
            let manager = Arc::clone(&manager);
            move || manager.tracker.kill()
        });
        asked.set(1);
        manager.shut_down();
        assert!(matches!(task.join().unwrap(), Some(1) | None));
        killer.join().unwrap();
    });
}

/// G4 G9: two who ask for the shutdown, one of whom has given up once before; both return when it is complete.
#[test]
fn everybody_who_shuts_down_is_told() {
    explore("everybody_who_shuts_down_is_told", AtMost(3), 1_000, || {
        let manager = Manager::new();
        let task = spawn(manager.task(ready(())));
        let other = thread::spawn({
            let manager = Arc::clone(&manager);
            move || {
                let mut given_up = manager.tracker.join();
                let _ = Pin::new(&mut given_up).poll(&mut Context::from_waker(Waker::noop()));
                drop(given_up);
                manager.shut_down();
            }
        });
        manager.shut_down();
        other.join().unwrap();
        task.join().unwrap();
    });
}

/// The runtime ends, and drops the one that watches over the shutdown before the rest: whoever waits for the shutdown
/// learns it from that one's drop, and then still waits for the rest.
#[test]
fn a_runtime_that_ends_during_a_shutdown() {
    explore("a_runtime_that_ends_during_a_shutdown", Unbounded, 50, || {
        let (manager, finished) = (Manager::new(), Arc::new(Latch::<(), Loom>::default()));
        let tasks = [manager.task(pending::<()>()), manager.task(pending())];
        let runtime = thread::spawn({
            let (manager, finished) = (Arc::clone(&manager), Arc::clone(&finished));
            move || {
                let [polled, unpolled] = tasks;
                let mut polled = Box::pin(polled);
                let _ = polled.as_mut().poll(&mut Context::from_waker(Waker::noop()));
                manager.tracker.stop();
                manager.tracker.kill();
                finished.set(());
                // The one that was never polled goes last.
                drop((polled, unpolled));
            }
        });
        wait(finished.wait());
        manager.join();
        runtime.join().unwrap();
    });
}

/// A second call with an earlier deadline, beside the supervisor that has begun with the first: it ends by the earlier.
#[test]
fn an_earlier_deadline_reaches_the_supervisor() {
    explore("an_earlier_deadline_reaches_the_supervisor", Unbounded, 1_000, || {
        let deadline = Arc::new(Earliest::<u32, Loom>::default());
        let supervisor = thread::spawn({
            let deadline = Arc::clone(&deadline);
            move || {
                let mut until = wait(deadline.before(None));
                let mut told = vec![until];
                while until > 1 {
                    until = wait(deadline.before(Some(until)));
                    told.push(until);
                }
                told
            }
        });
        let other = thread::spawn({
            let deadline = Arc::clone(&deadline);
            move || deadline.set(2)
        });
        deadline.set(1);
        other.join().unwrap();
        assert_eq!(deadline.get(), Some(1));
        let told = supervisor.join().unwrap();
        assert!(told.is_sorted_by(|one, next| one > next), "{told:?}");
    });
}

/// G9: one who waits for an earlier deadline and gives up takes nothing from another.
#[test]
fn a_wait_for_a_deadline_that_is_dropped_takes_nothing_along() {
    explore("a_wait_for_a_deadline_that_is_dropped_takes_nothing_along", Unbounded, 100, || {
        let deadline = Arc::new(Earliest::<u32, Loom>::default());
        let mut given_up = deadline.before(None);
        let checked = Checked::<Loom>::new(Waker::noop());
        let waker = Waker::from(Arc::clone(&checked));
        assert!(Pin::new(&mut given_up).poll(&mut Context::from_waker(&waker)).is_pending());
        drop(waker);
        let waiter = spawn(deadline.before(None));
        let setter = thread::spawn({
            let deadline = Arc::clone(&deadline);
            move || deadline.set(1)
        });
        drop(given_up);
        setter.join().unwrap();
        assert_eq!(Arc::strong_count(&checked), 1);
        assert_eq!(waiter.join().unwrap(), 1);
    });
}

/// Whoever is asked to stop, and looks, finds that it was.
#[test]
fn a_stop_is_seen_by_whoever_it_wakes() {
    explore("a_stop_is_seen_by_whoever_it_wakes", Unbounded, 6, || {
        let manager = Manager::new();
        let task = spawn({
            let tracker = Arc::clone(&manager.tracker);
            async move {
                tracker.stopped().await;
                assert!(tracker.is_stopped());
            }
        });
        let is_polled = AtomicBool::new(false);
        let mut runs = pin!(manager.tracker.run(poll_fn(|_| {
            is_polled.store(true, Relaxed);
            Poll::<()>::Pending
        })));
        assert!(runs.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        manager.tracker.stop();
        task.join().unwrap();
        assert!(is_polled.load(Relaxed), "a stop alone drops nothing");
    });
}
