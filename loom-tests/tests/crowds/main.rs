//! More threads than loom can finish: every kind of caller beside everything that changes what they wait for.
//!
//! Each model is drawn by shuttle, [`loom_tests::SCHEDULES`] times and as often again by priorities.

use loom_tests::Shuttle;
use shuttle::thread::{self, JoinHandle};

mod arrivals;
mod gate;
mod life;
mod places;
mod relay;
mod sessions;
mod tasks;
mod waiters;

type Slot = loom_tests::Slot<Shuttle>;

/// As many threads that each do the same.
fn each<T: Send + 'static>(count: u32, thread: impl Fn(u32) -> T + Clone + Send + 'static) -> Vec<JoinHandle<T>> {
    let spawn = |number| {
        let thread = thread.clone();
        thread::spawn(move || thread(number))
    };
    (0..count).map(spawn).collect()
}

/// What they return, in their order.
fn join<T>(threads: Vec<JoinHandle<T>>) -> Vec<T> {
    threads.into_iter().map(|thread| thread.join().expect("a thread of a model panicked")).collect()
}
