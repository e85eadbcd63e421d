//! How the life of a session ends, as those see it who use it.

use std::{fmt, sync::Arc};

use super::{Latch, Latched, Primitives, Std, steps::Steps};

/// The two moments of a session's end that others wait for: it [retires](Self::retire) from its slot, with `T`, and it
/// [closes](Self::close), for a reason `R`. It may do both at once.
///
/// # Rules
///
/// 1. It is out of its slot before anyone is told of either (G3, rule 7 of the [slot](super)): whoever cannot open a
///    stream on it, and asks the slot, is given another session.
/// 2. A reason is there before anyone is told that it has closed, retired or opens no more streams: of a session that
///    is lost, nobody learns that it merely drains.
/// 3. The first retirement counts, and the first reason.
/// 4. Each is told, even if telling another one panics, which then goes on.
pub struct Life<T: Clone, R: Clone, P: Primitives = Std> {
    retired: Arc<Latch<T, P>>,
    closed: Arc<Latch<R, P>>,
}

impl<T: Clone, R: Clone> Life<T, R> {
    /// Begins.
    pub fn new() -> Self {
        Self::with_primitives()
    }
}

impl<T: Clone, R: Clone, P: Primitives> Life<T, R, P> {
    /// As [`new`](Life::new), on a platform of the caller's choice.
    pub fn with_primitives() -> Self {
        Self { retired: Arc::default(), closed: Arc::default() }
    }

    /// Retires the session: `clear` takes it out of its slot, and `refuse` fails those who wait to open a stream.
    pub fn retire(&self, retirement: T, clear: impl FnOnce(), refuse: impl FnOnce()) {
        let mut steps = Steps::new();
        steps.run(clear);
        steps.run(refuse);
        steps.run(|| self.retired.set(retirement));
    }

    /// Closes the session, which is out of its slot: `refuse` fails those who wait to open a stream.
    pub fn close(&self, reason: R, retirement: T, refuse: impl FnOnce()) {
        let mut steps = Steps::new();
        steps.run(|| self.closed.set(reason));
        steps.run(|| self.retired.set(retirement));
        steps.run(refuse);
    }

    /// Waits for what one needs to open a stream, unless the session retires first, or has: then `None`.
    ///
    /// # Cancel safety
    ///
    /// As that of the future.
    pub async fn unless_retired<F: Future>(&self, future: F) -> Option<F::Output> {
        self.retired.unless_set(future).await.ok()
    }

    /// How it retired, if it has.
    pub fn retirement(&self) -> Option<T> {
        self.retired.get()
    }

    /// Waits until it has retired.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub fn retired(&self) -> Latched<T, P> {
        self.retired.wait()
    }

    /// Why it closed, if it has.
    pub fn reason(&self) -> Option<R> {
        self.closed.get()
    }

    /// Waits until it has closed.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub fn closed(&self) -> Latched<R, P> {
        self.closed.wait()
    }
}

impl<T: Clone, R: Clone, P: Primitives> Default for Life<T, R, P> {
    fn default() -> Self {
        Self::with_primitives()
    }
}

impl<T: Clone, R: Clone, P: Primitives> fmt::Debug for Life<T, R, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Life").finish_non_exhaustive()
    }
}
