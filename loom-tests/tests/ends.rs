//! How a stream ended, as the wire tells it and a handle reads it.

use std::sync::Arc;

use evermux::sync::Ends;
use loom::thread;
use loom_tests::{Loom, Preemptions::Unbounded, explore};

fn ends() -> Arc<Ends<Loom>> {
    Arc::new(Ends::with_primitives())
}

/// G17: who finds a stream at its end knows all of its bytes.
#[test]
fn an_early_end_of_file() {
    explore("an_early_end_of_file", Unbounded, 3, || {
        let ends = ends();
        let wire = thread::spawn({
            let ends = Arc::clone(&ends);
            move || {
                ends.carry(4);
                ends.finish(3);
            }
        });
        assert!(matches!(ends.finished_at(), None | Some(7)), "{:?}", ends.finished_at());
        wire.join().unwrap();
        assert_eq!(ends.finished_at(), Some(7));
    });
}

/// G17: of a stream whose user has sent its FIN and dropped it, the wire does not think that it was cut.
#[test]
fn a_fin_is_queued_before_its_stream_is_gone() {
    explore("a_fin_is_queued_before_its_stream_is_gone", Unbounded, 5, || {
        let ends = ends();
        let user = thread::spawn({
            let ends = Arc::clone(&ends);
            move || {
                ends.set_fin_queued();
                ends.set_gone();
            }
        });
        assert!(!ends.is_gone() || ends.is_fin_queued());
        user.join().unwrap();
        assert!(ends.is_gone() && ends.is_fin_queued());
    });
}

/// G17: what the wire and the user tell at the same time is kept, all of it.
#[test]
fn facts_told_at_once_are_kept() {
    explore("facts_told_at_once_are_kept", Unbounded, 3, || {
        let ends = ends();
        let wire = thread::spawn({
            let ends = Arc::clone(&ends);
            move || {
                ends.finish(1);
                ends.set_reset();
            }
        });
        ends.set_gone();
        wire.join().unwrap();
        assert!(ends.is_finished() && ends.is_reset() && ends.is_gone());
        assert!(!ends.is_flooded() && !ends.is_fin_queued());
    });
}

/// G19: the wire never thinks that all was read while something is unread.
#[test]
fn unread_bytes_are_not_taken_for_read() {
    explore("unread_bytes_are_not_taken_for_read", Unbounded, 3, || {
        let ends = ends();
        ends.carry(2);
        let user = thread::spawn({
            let ends = Arc::clone(&ends);
            move || {
                ends.set_read(1);
                ends.set_read(2);
            }
        });
        ends.carry(1);
        assert!(ends.read() < ends.carried());
        user.join().unwrap();
        ends.set_read(3);
        assert_eq!(ends.read(), ends.carried());
    });
}
