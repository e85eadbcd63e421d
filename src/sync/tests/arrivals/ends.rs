//! Lanes that are closed, and that end: what becomes of what is left in them.

use super::*;

#[test]
fn a_lane_that_is_closed_hands_back_and_takes_no_more() {
    let arrivals = arrivals();
    let lane = lane_of_one(&arrivals);
    for (key, value) in [(1, "a"), (3, "b"), (5, "c")] {
        push(&lane, key, value);
    }
    assert_eq!(lane.try_take(), Some("a"));
    let (mut taker, count) = waiting(lane.taker());
    assert_eq!(lane.close(), ["b", "c"]);
    assert_eq!(lane.push(7, 0, "d"), Err("d"));
    assert_eq!(lane.over(1, false), Over::Taken);
    assert_eq!((count.get(), take_once(&mut taker)), (0, Poll::Pending), "it ends with the lane");
    assert_eq!(lane.end(true), Vec::<Text>::new());
    assert_eq!(take_once(&mut taker), NOTHING);
    assert_eq!(lane.close(), Vec::<Text>::new());
}

#[test]
fn what_is_kept_at_the_end_can_be_taken_without_limit() {
    let arrivals = arrivals();
    let lane = lane_of_one(&arrivals);
    for (key, value) in [(1, "a"), (3, "b"), (5, "c"), (7, "d")] {
        push(&lane, key, value);
    }
    assert_eq!(lane.try_take(), Some("a"));
    let mut takers = [lane.taker(), arrivals.taker()].map(waiting);
    assert_eq!(lane.end(true), Vec::<Text>::new());
    assert_eq!(takers.each_ref().map(|(_, count)| count.get()), [1; 2]);
    assert_eq!(lane.push(9, 0, "e"), Err("e"));
    assert_eq!(lane.over(1, true), Over::Unknown, "those taken count no more");
    assert_eq!(take_once(&mut takers[0].0), something("b"));
    assert_eq!(take_once(&mut takers[1].0), something("c"));
    assert_eq!(lane.try_take(), Some("d"));
    assert_eq!(take_once(&mut takers[0].0), NOTHING);
    assert_eq!(take_once(&mut lane.taker()), NOTHING);
    assert_eq!(take_once(&mut takers[1].0), Poll::Pending);
}

#[test]
fn what_is_not_kept_at_the_end_is_handed_back() {
    let arrivals = arrivals();
    let lane = hidden_lane(&arrivals, 2, 1);
    push(&lane, 1, "a");
    push(&lane, 3, "b");
    let (mut taker, count) = waiting(lane.taker());
    assert_eq!(lane.end(false), ["a", "b"]);
    assert_eq!(count.get(), 1);
    assert_eq!(take_once(&mut taker), NOTHING);
    assert_eq!(lane.end(false), Vec::<Text>::new());
    assert_eq!(lane.expire(u64::MAX), Vec::<Text>::new());
    assert_eq!((lane.oldest(), lane.try_take()), (None, None));
    lane.show();
    lane.wake();
}

#[test]
fn what_is_kept_at_the_end_waits_to_be_shown() {
    let arrivals = arrivals();
    let lane = hidden_lane(&arrivals, 2, 1);
    push(&lane, 1, "a");
    assert_eq!(lane.end(true), Vec::<Text>::new());
    let (mut taker, count) = waiting(lane.taker());
    lane.show();
    assert_eq!(count.get(), 1);
    assert_eq!(take_once(&mut taker), something("a"));
    assert_eq!(take_once(&mut taker), NOTHING);
}

#[test]
fn lanes_that_have_ended_leave_so_many_and_the_oldest_are_handed_back() {
    let arrivals = Arc::new(Arrivals::new(3));
    let (first, second, open) = (lane(&arrivals), lane(&arrivals), lane(&arrivals));
    for (key, values) in [(1, ["a", "d", "x"]), (3, ["b", "e", "y"])] {
        for (lane, value) in [&first, &second, &open].into_iter().zip(values) {
            push(lane, key, value);
        }
    }
    assert_eq!(first.end(true), Vec::<Text>::new());
    assert_eq!(second.end(true), ["a"], "what waits in an open lane does not count");
    assert_eq!(open.end(true), ["b", "d"]);
    assert_eq!(take_once(&mut first.taker()), NOTHING);
    assert_eq!(second.try_take(), Some("e"));
    assert_eq!(open.try_take(), Some("x"));
}

/// Its values were never shown, and then there is no room for them.
#[test]
fn who_waits_for_what_is_left_of_a_lane_is_told_when_it_is_handed_back() {
    let arrivals = Arc::new(Arrivals::new(1));
    let (first, second) = (hidden_lane(&arrivals, 1, 1), lane(&arrivals));
    push(&first, 1, "a");
    assert_eq!(first.end(true), Vec::<Text>::new());
    let (mut taker, count) = waiting(first.taker());
    push(&second, 1, "b");
    assert_eq!(second.end(true), ["a"]);
    assert_eq!((count.get(), take_once(&mut taker)), (1, NOTHING));
}

/// Whichever of these comes after the end, the lane is done with its last value.
#[test]
fn a_lane_that_has_ended_is_done_with_its_last_value_whoever_has_it() {
    let withdraw = |lane: &Lane<Text>| {
        assert_eq!(lane.over(1, false), Over::Withdrawn("a"));
        lane.wake();
    };
    let expire = |lane: &Lane<Text>| assert_eq!(lane.expire(0), ["a"]);
    let close = |lane: &Lane<Text>| assert_eq!(lane.close(), ["a"]);
    let end = |lane: &Lane<Text>| assert_eq!(lane.end(false), ["a"]);
    for empty in [withdraw, expire, close, end] {
        let lane = hidden_lane(&arrivals(), 1, 1);
        push(&lane, 1, "a");
        assert_eq!(lane.end(true), Vec::<Text>::new());
        let (mut taker, count) = waiting(lane.taker());
        empty(&lane);
        assert_eq!((count.get(), take_once(&mut taker)), (1, NOTHING));
    }
}
