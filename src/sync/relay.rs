//! Values that several tasks send in one order, outside the lock.

use std::fmt;

use super::{Primitives, Std};

/// Where values wait to be sent.
pub trait Queue {
    /// What is sent.
    type Item;

    /// The next value to be sent now. None if there is none, or the first has to wait.
    fn next(&mut self) -> Option<Self::Item>;
}

/// A queue that whoever adds to it sends from, as long as nobody else does.
///
/// # Rules
///
/// 1. Values are sent outside the lock, and in the order in which the queue gives them out: one task at a time sends.
/// 2. That task does not stop while there is something to send. Whoever [changes](Self::change) the queue calls
///    [`send_all`](Self::send_all) afterwards: it sends, or somebody else does.
/// 3. If sending panics, the next one goes on.
pub struct Relay<Q: Queue, P: Primitives = Std>(P::Mutex<State<Q>>);

struct State<Q> {
    queue: Q,
    /// Somebody sends, and looks at the queue once more before this is false.
    is_sending: bool,
}

impl<Q: Queue> Relay<Q> {
    /// Makes a relay of this queue.
    pub fn new(queue: Q) -> Self {
        Self::with_primitives(queue)
    }
}

impl<Q: Queue, P: Primitives> Relay<Q, P> {
    /// As [`new`](Relay::new), on a platform of the caller's choice.
    pub fn with_primitives(queue: Q) -> Self {
        Self(P::mutex(State { queue, is_sending: false }))
    }

    /// Changes the queue. No foreign code may run in `change`, which has the lock (G7).
    pub fn change<T>(&self, change: impl FnOnce(&mut Q) -> T) -> T {
        change(&mut P::lock(&self.0).queue)
    }

    /// Sends what is in the queue, unless somebody is already doing so.
    pub fn send_all(&self, mut send: impl FnMut(Q::Item)) {
        if std::mem::replace(&mut P::lock(&self.0).is_sending, true) {
            return;
        }
        let mut sending = Sending(Some(self));
        while let Some(item) = self.next() {
            send(item);
        }
        sending.0 = None;
    }

    /// The next value to send. If there is none, the sender is done: that is one step.
    fn next(&self) -> Option<Q::Item> {
        let mut state = P::lock(&self.0);
        let next = state.queue.next();
        state.is_sending = next.is_some();
        next
    }
}

impl<Q: Queue, P: Primitives> fmt::Debug for Relay<Q, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay").finish_non_exhaustive()
    }
}

/// The one that sends, until it is done.
struct Sending<'a, Q: Queue, P: Primitives>(Option<&'a Relay<Q, P>>);

impl<Q: Queue, P: Primitives> Drop for Sending<'_, Q, P> {
    fn drop(&mut self) {
        // Sending has panicked.
        if let Some(relay) = self.0 {
            P::lock(&relay.0).is_sending = false;
        }
    }
}
