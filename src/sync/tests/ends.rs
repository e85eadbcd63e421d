//! [`Ends`]: the end of a stream.

use super::*;

#[test]
fn the_end_of_a_stream_comes_with_all_of_its_bytes() {
    let ends = Ends::new();
    ends.carry(3);
    assert_eq!((ends.finished_at(), ends.carried(), ends.read()), (None, 3, 0));
    ends.set_read(3);
    ends.finish(2);
    assert_eq!((ends.finished_at(), ends.carried(), ends.read()), (Some(5), 5, 3));
    ends.set_read(5);
    assert_eq!(ends.read(), 5);
    assert!(!ends.is_refused());
    ends.set_refused();
    assert!(ends.is_refused() && !ends.is_reset());
}
