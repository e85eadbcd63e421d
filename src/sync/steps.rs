//! Steps of which each concerns somebody else: one that panics hurts nobody but its own.

use std::{
    any::Any,
    mem,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    thread,
};

/// Runs steps one after another, each whatever those before it did. The first panic goes on once this is dropped.
///
/// Wakers are foreign code: the one of a task may panic, and those that are woken after it must not wait forever for
/// that. A panic during another one, which would abort the process, ends here: it was reported when it happened.
#[derive(Default)]
#[must_use = "a panic of its steps goes on when it is dropped"]
pub struct Steps {
    panic: Option<Box<dyn Any + Send>>,
}

impl Steps {
    /// None has run.
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs the next one.
    pub fn run(&mut self, step: impl FnOnce()) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(step)) {
            let later = if self.panic.is_none() { self.panic.replace(panic) } else { Some(panic) };
            // Its drop is foreign code as well.
            mem::forget(later);
        }
    }
}

impl Drop for Steps {
    fn drop(&mut self) {
        match self.panic.take() {
            Some(panic) if thread::panicking() => mem::forget(panic),
            Some(panic) => resume_unwind(panic),
            None => {}
        }
    }
}
