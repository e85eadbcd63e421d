//! What runs for somebody: who is asked to end, what is dropped when time is up, and who waits until nothing runs.

use std::{fmt, sync::Arc};

use super::{Latch, Latched, Primitives, Std, steps::Steps};

/// The tasks of one owner, and their end: they are asked to [stop](Self::stop), what does not is dropped by a
/// [kill](Self::kill), and [`join`](Self::join) waits until none is left.
///
/// # Rules
///
/// 1. A task counts from the call of [`run`](Self::run), polled or not, until after its future is dropped. So one that
///    was begun by another, before that ended, is joined as well.
/// 2. It is over when there was a stop and nothing runs, which is one step under the lock. Then nothing begins any
///    more (G5).
/// 3. What was killed is dropped in its next poll, and what begins after that is not polled at all.
/// 4. Whoever joins learns that it is over after everything was dropped, and always learns it (G4).
pub struct Tracker<P: Primitives = Std> {
    state: P::Mutex<State>,
    stopped: Arc<Latch<(), P>>,
    killed: Arc<Latch<(), P>>,
    over: Arc<Latch<(), P>>,
}

struct State {
    running: usize,
    is_stopped: bool,
}

impl State {
    fn is_over(&self) -> bool {
        self.is_stopped && self.running == 0
    }
}

impl<P: Primitives> Tracker<P> {
    /// Nothing runs yet.
    pub fn with_primitives() -> Self {
        Self {
            state: P::mutex(State { running: 0, is_stopped: false }),
            stopped: Arc::default(),
            killed: Arc::default(),
            over: Arc::default(),
        }
    }

    /// Counts a future, to be spawned or polled anywhere, until it ends or is dropped. Its output is `None` if it was
    /// killed, or came too late: then it is dropped now.
    pub fn run<F: Future>(self: &Arc<Self>, future: F) -> impl Future<Output = Option<F::Output>> + use<F, P> {
        // One value: if it is dropped before it is polled, the future goes before it ceases to count.
        let begun = self.begin().map(|tracked| (future, tracked));
        async move {
            let (future, tracked) = begun?;
            let output = tracked.0.killed.unless_set(future).await.ok();
            drop(tracked);
            output
        }
    }

    fn begin(self: &Arc<Self>) -> Option<Tracked<P>> {
        let mut state = P::lock(&self.state);
        if state.is_over() {
            return None;
        }
        state.running += 1;
        drop(state);
        Some(Tracked(Arc::clone(self)))
    }

    /// Asks those who run to end.
    pub fn stop(&self) {
        let mut state = P::lock(&self.state);
        state.is_stopped = true;
        let is_over = state.is_over();
        drop(state);
        let mut steps = Steps::new();
        steps.run(|| self.stopped.set(()));
        if is_over {
            steps.run(|| self.over.set(()));
        }
    }

    /// Whether those who run were asked to end.
    pub fn is_stopped(&self) -> bool {
        self.stopped.get().is_some()
    }

    /// Waits until those who run are asked to end.
    pub fn stopped(&self) -> Latched<(), P> {
        self.stopped.wait()
    }

    /// Drops what runs.
    pub fn kill(&self) {
        self.killed.set(());
    }

    /// Waits until nothing runs, nor will: for ever, if there is no stop.
    pub fn join(&self) -> Latched<(), P> {
        self.over.wait()
    }
}

impl<P: Primitives> Default for Tracker<P> {
    fn default() -> Self {
        Self::with_primitives()
    }
}

impl<P: Primitives> fmt::Debug for Tracker<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let running = P::lock(&self.state).running;
        f.debug_struct("Tracker").field("running", &running).finish_non_exhaustive()
    }
}

/// Counts as one that runs, until it is dropped.
struct Tracked<P: Primitives>(Arc<Tracker<P>>);

impl<P: Primitives> Drop for Tracked<P> {
    fn drop(&mut self) {
        let mut state = P::lock(&self.0.state);
        state.running -= 1;
        let is_over = state.is_over();
        drop(state);
        if is_over {
            self.0.over.set(());
        }
    }
}
