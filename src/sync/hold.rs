//! A value that is held until an end, which may come first.

use std::{fmt, mem};

use super::{Primitives, Std};

/// A value that is held until an end, which may come before it is put.
///
/// One side puts it, and may take it away again; the other side ends in its own time. Whatever the order, nothing is
/// held after the end, and nothing is held twice.
///
/// A hold begins empty. [`put`](Self::put) makes it hold something, [`take`](Self::take) empties it again, and
/// [`leave`](Self::leave) ends it forever. What is no longer held is dropped at once, after the lock (G7).
///
/// ```
/// use std::sync::Arc;
/// use evermux::sync::Hold;
///
/// let (hold, permit) = (Hold::new(), Arc::new("a permit"));
/// hold.put(Arc::clone(&permit));
/// assert_eq!(Arc::strong_count(&permit), 2);
/// hold.leave();
/// assert_eq!(Arc::strong_count(&permit), 1);
///
/// // Too late: it is dropped at once.
/// hold.put(Arc::clone(&permit));
/// assert_eq!(Arc::strong_count(&permit), 1);
/// ```
pub struct Hold<T, P: Primitives = Std>(P::Mutex<State<T>>);

/// `Nothing → Held` by `put`, `Held → Nothing` by `take`, and `Left` from both by `leave`.
enum State<T> {
    Nothing,
    Held(T),
    /// The end. It stays.
    Left,
}

impl<T> Hold<T> {
    /// Makes an empty hold.
    pub fn new() -> Self {
        Self::with_primitives()
    }
}

impl<T> Default for Hold<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T, P: Primitives> Hold<T, P> {
    /// As [`new`](Hold::new), on a platform of the caller's choice.
    pub fn with_primitives() -> Self {
        Self(P::mutex(State::Nothing))
    }

    /// Holds `held` in place of what was held before. After the end, drops it.
    pub fn put(&self, held: T) {
        let mut state = P::lock(&self.0);
        let unheld = match *state {
            State::Left => State::Held(held),
            State::Nothing | State::Held(_) => mem::replace(&mut *state, State::Held(held)),
        };
        drop(state);
        drop(unheld);
    }

    /// Takes what is held, if anything is.
    pub fn take(&self) -> Option<T> {
        let mut state = P::lock(&self.0);
        match mem::replace(&mut *state, State::Nothing) {
            State::Held(held) => Some(held),
            other => {
                *state = other;
                None
            }
        }
    }

    /// The end: drops what is held, and makes every later [`put`](Self::put) drop what it is given.
    pub fn leave(&self) {
        let unheld = mem::replace(&mut *P::lock(&self.0), State::Left);
        drop(unheld);
    }
}

impl<T, P: Primitives> fmt::Debug for Hold<T, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hold").finish_non_exhaustive()
    }
}
