//! What one writer has handed over, and nobody has sent yet.

use std::{collections::VecDeque, fmt, io, task::Poll};

use super::{Gate, Primitives, Std};

/// Up to this many bytes of a stream may be on their way without having waited at the gate.
const SHORT: usize = 1 << 10;

/// Why a write may go in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// There is no bound.
    Free,
    /// It is short.
    Short,
    /// It has waited.
    Waits,
}

/// The frames of one stream that were handed over to be sent, in their order.
///
/// Whoever sends them, which for evermux is the yamux crate, serves its streams in turn, so a short message waits for a
/// frame of each busy one. On a slow path these must be few: a stream that writes much waits at the [`Gate`] of its
/// session, one that writes little does not.
///
/// One task [hands over](Self::hand_over), another sees what is [sent](Self::on_frame_out), and how the stream
/// [ends](Self::end). Whatever the order, what has gone in at the gate leaves it, and leaves it once.
pub struct Handed<P: Primitives = Std>(P::Mutex<State>);

#[derive(Debug, Default)]
struct State {
    frames: VecDeque<(Class, usize)>,
    /// How many of their bytes are short.
    short: usize,
    /// The stream has ended: nothing more of it is sent.
    is_over: bool,
}

impl State {
    /// Takes this much out, and returns how much of that the gate had let in.
    fn release(&mut self, class: Class, bytes: usize) -> usize {
        match class {
            Class::Free => 0,
            Class::Short => {
                self.short -= bytes;
                0
            }
            Class::Waits => bytes,
        }
    }
}

impl<P: Primitives> Handed<P> {
    /// For a stream that has handed over nothing.
    pub fn with_primitives() -> Self {
        Self(P::mutex(State::default()))
    }

    /// Why this many bytes would go in.
    pub fn class(&self, gate: &Gate<P>, bytes: usize) -> Class {
        if gate.unit() == usize::MAX {
            Class::Free
        } else if bytes + P::lock(&self.0).short <= SHORT {
            Class::Short
        } else {
            Class::Waits
        }
    }

    /// Passes what may go in at once to `write`, which returns how much it took. Afterwards the gate must be
    /// [woken](Gate::wake), under no lock.
    pub fn hand_over(
        &self,
        gate: &Gate<P>,
        class: Class,
        bytes: &[u8],
        write: impl FnOnce(&[u8]) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let part = &bytes[..bytes.len().min(gate.unit())];
        // All of it before the write: the frame may be sent before `write` returns.
        if class == Class::Waits {
            gate.enter(part.len());
        }
        let mut state = P::lock(&self.0);
        state.short += if class == Class::Short { part.len() } else { 0 };
        state.frames.push_back((class, part.len()));
        drop(state);
        let written = write(part);
        let taken = if let Poll::Ready(Ok(taken)) = &written { *taken } else { 0 };
        let mut state = P::lock(&self.0);
        // If this frame was sent, it was the last, and is gone as a whole.
        let left = match state.frames.pop_back() {
            Some((class, bytes)) if taken < bytes => {
                if taken > 0 {
                    state.frames.push_back((class, taken));
                }
                state.release(class, bytes - taken)
            }
            Some(frame) => {
                state.frames.push_back(frame);
                0
            }
            None => 0,
        };
        let left = left + if state.is_over { state.clear() } else { 0 };
        drop(state);
        if left > 0 {
            gate.leave(left);
        }
        written
    }

    /// The next frame is sent. Afterwards the gate must be woken.
    pub fn on_frame_out(&self, gate: &Gate<P>) {
        let mut state = P::lock(&self.0);
        let left = state.frames.pop_front().map_or(0, |(class, bytes)| state.release(class, bytes));
        drop(state);
        if left > 0 {
            gate.leave(left);
        }
    }

    /// No more of them are sent: the stream has ended. Afterwards the gate must be woken.
    pub fn end(&self, gate: &Gate<P>) {
        let mut state = P::lock(&self.0);
        state.is_over = true;
        let left = state.clear();
        drop(state);
        if left > 0 {
            gate.leave(left);
        }
    }
}

impl<P: Primitives> Default for Handed<P> {
    fn default() -> Self {
        Self::with_primitives()
    }
}

impl<P: Primitives> fmt::Debug for Handed<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handed").finish_non_exhaustive()
    }
}

impl State {
    /// Forgets everything, and returns how much of it the gate had let in.
    fn clear(&mut self) -> usize {
        self.short = 0;
        self.frames.drain(..).map(|(class, bytes)| if class == Class::Waits { bytes } else { 0 }).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::Arc,
        task::{Context, Waker},
    };

    use super::*;
    use crate::sync::Ticket;

    fn takes(most: usize) -> impl FnOnce(&[u8]) -> Poll<io::Result<usize>> {
        move |part| if most == 0 { Poll::Pending } else { Poll::Ready(Ok(part.len().min(most))) }
    }

    /// Whether somebody may go in.
    fn has_room(gate: &Arc<Gate>) -> bool {
        Ticket::new(gate).poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn what_is_short_waits_for_nobody_and_stays_short() {
        let (gate, handed) = (Arc::new(Gate::new()), Handed::<Std>::default());
        assert_eq!(handed.class(&gate, 1), Class::Free);
        gate.limit(2_048, 4_096);
        assert_eq!((handed.class(&gate, SHORT), handed.class(&gate, SHORT + 1)), (Class::Short, Class::Waits));
        assert!(handed.hand_over(&gate, Class::Short, &[0; 600], takes(600)).is_ready());
        assert_eq!((handed.class(&gate, 424), handed.class(&gate, 425)), (Class::Short, Class::Waits));
        handed.on_frame_out(&gate);
        assert_eq!(handed.class(&gate, SHORT), Class::Short);
    }

    #[test]
    fn what_was_let_in_has_left_when_the_wire_has_seen_it() {
        let (gate, handed) = (Arc::new(Gate::new()), Handed::<Std>::default());
        gate.limit(2_048, 4_096);
        for _ in 0..2 {
            assert!(has_room(&gate));
            assert!(handed.hand_over(&gate, Class::Waits, &[0; 9_000], takes(9_000)).is_ready());
        }
        assert!(!has_room(&gate));
        // What is not taken, in whole or in part, does not count.
        assert!(handed.hand_over(&gate, Class::Waits, &[0; 9_000], takes(0)).is_pending());
        handed.on_frame_out(&gate);
        assert!(has_room(&gate));
        assert!(handed.hand_over(&gate, Class::Waits, &[0; 2_048], takes(1)).is_ready());
        assert!(has_room(&gate));
        handed.on_frame_out(&gate);
        assert!(handed.hand_over(&gate, Class::Waits, &[0; 2_048], takes(2_048)).is_ready());
        assert!(handed.hand_over(&gate, Class::Waits, &[0; 2_048], takes(2_048)).is_ready());
        assert!(!has_room(&gate));
        // A stream that ends leaves nothing inside, whatever is handed over afterwards.
        handed.end(&gate);
        assert!(handed.hand_over(&gate, Class::Waits, &[0; 9_000], takes(9_000)).is_ready());
        gate.limit(1, 1);
        assert!(has_room(&gate), "nothing is inside");
    }
}
