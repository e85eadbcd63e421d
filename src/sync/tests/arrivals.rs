//! [`Arrivals`], rule by rule.

use std::{
    panic::{self, AssertUnwindSafe},
    sync::Arc,
    task::{Context, Poll, Waker},
};

use super::{super::Taker, Count, Panics};
use crate::sync::{Arrivals, Lane, LaneLimits, Over};

mod ends;

type Text = &'static str;

fn arrivals() -> Arc<Arrivals<Text>> {
    Arc::new(Arrivals::new(usize::MAX))
}

fn hidden_lane(arrivals: &Arc<Arrivals<Text>>, waiting: usize, taken: usize) -> Lane<Text> {
    arrivals.lane(LaneLimits { waiting, taken })
}

/// A lane with no limits to speak of.
fn lane(arrivals: &Arc<Arrivals<Text>>) -> Lane<Text> {
    let lane = hidden_lane(arrivals, 100, 100);
    lane.show();
    lane
}

/// A lane from which one value may be taken at a time.
fn lane_of_one(arrivals: &Arc<Arrivals<Text>>) -> Lane<Text> {
    let lane = hidden_lane(arrivals, 100, 1);
    lane.show();
    lane
}

fn push(lane: &Lane<Text>, key: u32, value: Text) {
    assert_eq!(lane.push(key, 0, value), Ok(None));
}

fn take(taker: &mut Taker<Text>, waker: &Waker) -> Poll<Option<Text>> {
    taker.poll_take(&mut Context::from_waker(waker))
}

fn take_once(taker: &mut Taker<Text>) -> Poll<Option<Text>> {
    take(taker, Waker::noop())
}

/// A waiting taker, and how often it was woken.
fn waiting(mut taker: Taker<Text>) -> (Taker<Text>, Arc<Count>) {
    let (count, waker) = Count::new();
    assert_eq!(take(&mut taker, &waker), Poll::Pending);
    (taker, count)
}

const NOTHING: Poll<Option<Text>> = Poll::Ready(None);

fn something(value: Text) -> Poll<Option<Text>> {
    Poll::Ready(Some(value))
}

#[test]
fn values_are_taken_in_order_by_whoever_comes() {
    let arrivals = arrivals();
    let lane = lane(&arrivals);
    for (key, value) in [(1, "a"), (3, "b"), (5, "c")] {
        push(&lane, key, value);
    }
    let mut of_any = arrivals.taker();
    assert_eq!(take_once(&mut lane.taker()), something("a"));
    assert_eq!(take_once(&mut of_any), something("b"));
    assert_eq!(lane.clone().try_take(), Some("c"));
    assert_eq!(lane.try_take(), None);
    assert_eq!(take_once(&mut lane.taker()), Poll::Pending);
}

#[test]
fn a_push_wakes_every_taker_once() {
    let arrivals = arrivals();
    let (lane, other) = (lane(&arrivals), lane(&arrivals));
    let mut takers = [lane.taker(), lane.taker(), arrivals.taker(), arrivals.taker()].map(waiting);
    let (_of_other, untouched) = waiting(other.taker());
    push(&lane, 1, "a");
    assert_eq!(takers.each_ref().map(|(_, count)| count.get()), [1; 4]);
    assert_eq!(untouched.get(), 0);
    assert_eq!(take_once(&mut takers[3].0), something("a"));
    for (taker, _) in &mut takers[..3] {
        assert_eq!(take_once(taker), Poll::Pending);
    }
}

#[test]
fn nothing_is_taken_before_the_lane_is_shown() {
    let arrivals = arrivals();
    let lane = hidden_lane(&arrivals, 1, 1);
    let mut takers = [lane.taker(), arrivals.taker()].map(waiting);
    push(&lane, 1, "a");
    assert_eq!(lane.try_take(), None);
    assert_eq!(takers.each_ref().map(|(_, count)| count.get()), [0; 2]);
    lane.show();
    assert_eq!(takers.each_ref().map(|(_, count)| count.get()), [1; 2]);
    assert_eq!(take_once(&mut takers[1].0), something("a"));
}

#[test]
fn a_full_lane_hands_the_value_back() {
    let lane = hidden_lane(&arrivals(), 2, 1);
    push(&lane, 1, "a");
    push(&lane, 3, "b");
    assert_eq!(lane.push(5, 0, "c"), Err("c"));
    lane.show();
    assert_eq!(lane.try_take(), Some("a"));
    push(&lane, 5, "c");
    assert_eq!(lane.push(7, 0, "d"), Err("d"), "one that was taken makes room for one");
}

#[test]
fn in_a_full_lane_the_first_that_is_over_makes_room() {
    let lane = hidden_lane(&arrivals(), 3, 1);
    for (key, value) in [(1, "a"), (3, "b"), (5, "c")] {
        push(&lane, key, value);
    }
    assert_eq!(lane.over(5, true), Over::Kept);
    assert_eq!(lane.over(3, true), Over::Kept);
    assert_eq!(lane.push(7, 0, "d"), Ok(Some("b")));
    assert_eq!(lane.push(9, 0, "e"), Ok(Some("c")));
    assert_eq!(lane.push(11, 0, "f"), Err("f"));
}

#[test]
fn while_so_many_are_taken_takers_wait() {
    let arrivals = arrivals();
    let lane = lane_of_one(&arrivals);
    push(&lane, 1, "a");
    assert_eq!(lane.try_take(), Some("a"));
    let mut takers = [lane.taker(), arrivals.taker()].map(waiting);
    push(&lane, 3, "b");
    assert_eq!(lane.try_take(), None);
    assert_eq!(lane.over(1, true), Over::Taken);
    assert_eq!(takers.each_ref().map(|(_, count)| count.get()), [0; 2], "nobody is woken under somebody's lock");
    lane.wake();
    assert_eq!(takers.each_ref().map(|(_, count)| count.get()), [1; 2]);
    assert_eq!(take_once(&mut takers[0].0), something("b"));
    assert_eq!(take_once(&mut takers[1].0), Poll::Pending);
    lane.wake();
    assert_eq!(takers[1].1.get(), 1, "there is nothing to take");
}

#[test]
fn a_lane_that_waits_for_its_limit_is_passed_over() {
    let arrivals = arrivals();
    let (full, other) = (lane_of_one(&arrivals), lane_of_one(&arrivals));
    push(&full, 1, "a");
    assert_eq!(full.try_take(), Some("a"));
    push(&full, 3, "b");
    push(&other, 1, "c");
    assert_eq!(take_once(&mut arrivals.taker()), something("c"));
    assert_eq!(take_once(&mut arrivals.taker()), Poll::Pending);
}

#[test]
fn what_became_of_a_value_is_told_once() {
    let lane = lane(&arrivals());
    for (key, value) in [(1, "a"), (3, "b"), (5, "c"), (7, "d")] {
        push(&lane, key, value);
    }
    assert_eq!(lane.try_take(), Some("a"));
    assert_eq!(lane.over(9, true), Over::Unknown);
    for (key, keep, over) in [
        (1, false, Over::Taken),
        (3, false, Over::Withdrawn("b")),
        (5, true, Over::Kept),
        // One that may still be taken is not over a second time.
        (5, false, Over::Unknown),
    ] {
        assert_eq!(lane.over(key, keep), over);
        assert_eq!(lane.over(key, keep), Over::Unknown);
    }
    assert_eq!(lane.try_take(), Some("c"));
    assert_eq!(lane.over(5, true), Over::Unknown, "it counted no more when it was taken");
    assert_eq!(lane.expire(u64::MAX), ["d"]);
    assert_eq!(lane.over(7, true), Over::Unknown);
}

#[test]
fn one_that_is_over_takes_no_place() {
    let lane = lane_of_one(&arrivals());
    for (key, value) in [(1, "a"), (3, "b"), (5, "c")] {
        push(&lane, key, value);
    }
    assert_eq!(lane.over(1, true), Over::Kept);
    assert_eq!(lane.try_take(), Some("a"));
    assert_eq!(lane.try_take(), Some("b"));
    assert_eq!(lane.try_take(), None);
}

/// A peer may reuse the id of a stream that it has finished.
#[test]
fn a_key_that_comes_again_names_the_later_value() {
    let lane = lane(&arrivals());
    push(&lane, 1, "a");
    assert_eq!(lane.over(1, true), Over::Kept);
    push(&lane, 1, "b");
    assert_eq!(lane.over(1, false), Over::Withdrawn("b"));
    assert_eq!(lane.try_take(), Some("a"));
}

#[test]
fn the_oldest_expire() {
    let lane = lane(&arrivals());
    assert_eq!(lane.oldest(), None);
    for (key, stamp, value) in [(1, 10, "a"), (3, 20, "b"), (5, 20, "c"), (7, 30, "d")] {
        assert_eq!(lane.push(key, stamp, value), Ok(None));
    }
    assert_eq!(lane.oldest(), Some(10));
    assert_eq!(lane.expire(9), Vec::<Text>::new());
    assert_eq!(lane.expire(20), ["a", "b", "c"]);
    assert_eq!(lane.oldest(), Some(30));
    assert_eq!(lane.try_take(), Some("d"));
    assert_eq!(lane.oldest(), None);
}

#[test]
fn lanes_have_turns() {
    let arrivals = arrivals();
    let lanes = [lane(&arrivals), lane(&arrivals), lane(&arrivals)];
    for (lane, values) in lanes.iter().zip([["a", "b", "c"], ["k", "l", "m"], ["x", "y", "z"]]) {
        for (key, value) in (1..).step_by(2).zip(values) {
            push(lane, key, value);
        }
    }
    let mut taker = arrivals.taker();
    let mut next = || match take_once(&mut taker) {
        Poll::Ready(Some(value)) => value,
        other => panic!("{other:?}"),
    };
    assert_eq!([next(), next(), next(), next()], ["a", "k", "x", "b"]);
    // A lane that has ended, and one that another taker has emptied, get no turn.
    assert_eq!(lanes[1].end(false), ["l", "m"]);
    assert_eq!([next(), next(), next()], ["y", "c", "z"]);
    assert_eq!(take_once(&mut taker), Poll::Pending);
}

#[test]
fn a_taker_that_is_dropped_leaves_nothing() {
    let arrivals = arrivals();
    let lane = lane(&arrivals);
    let _another = arrivals.taker();
    for taker in [lane.taker(), arrivals.taker()] {
        let (taker, count) = waiting(taker);
        assert_eq!(Arc::strong_count(&count), 2, "the waker is kept");
        drop(taker);
        assert_eq!(Arc::strong_count(&count), 1);
    }
    // The same for a taker that was woken, and whose entry in the list another has now.
    for make in [|lane: &Lane<Text>, _: &Arc<_>| lane.taker(), |_: &Lane<Text>, all: &Arc<Arrivals<Text>>| all.taker()]
    {
        let (old, _) = waiting(make(&lane, &arrivals));
        push(&lane, 1, "a");
        assert_eq!(lane.try_take(), Some("a"));
        let (_new, count) = waiting(make(&lane, &arrivals));
        drop(old);
        push(&lane, 3, "b");
        assert_eq!(count.get(), 1);
        assert_eq!(lane.try_take(), Some("b"));
    }
}

#[test]
fn a_taker_is_woken_through_its_last_waker() {
    let lane = lane(&arrivals());
    let (mut taker, first) = waiting(lane.taker());
    let (second, waker) = Count::new();
    assert_eq!(take(&mut taker, &waker), Poll::Pending);
    assert_eq!(Arc::strong_count(&first), 1);
    push(&lane, 1, "a");
    assert_eq!((first.get(), second.get()), (0, 1));
}

#[test]
fn a_waker_that_panics_keeps_no_other_from_being_woken() {
    let arrivals = arrivals();
    let lane = lane(&arrivals);
    let panics = Waker::from(Arc::new(Panics));
    let mut first = lane.taker();
    assert_eq!(take(&mut first, &panics), Poll::Pending);
    let takers = [lane.taker(), arrivals.taker()].map(waiting);
    panic::catch_unwind(AssertUnwindSafe(|| push(&lane, 1, "a"))).unwrap_err();
    assert_eq!(takers.each_ref().map(|(_, count)| count.get()), [1; 2]);
    assert_eq!(lane.try_take(), Some("a"));
}

#[test]
fn after_a_stop_what_waits_is_given_out_and_then_nothing() {
    let arrivals = arrivals();
    let lane = lane(&arrivals);
    let (mut taker, count) = waiting(arrivals.taker());
    let (mut of_lane, of_lane_count) = waiting(lane.taker());
    push(&lane, 1, "a");
    arrivals.stop();
    assert_eq!(count.get(), 1, "there was something already");
    assert_eq!(take_once(&mut taker), something("a"));
    assert_eq!(take_once(&mut taker), NOTHING);
    assert_eq!(take_once(&mut arrivals.taker()), NOTHING);
    assert_eq!(take_once(&mut of_lane), Poll::Pending, "its lane goes on");
    push(&lane, 3, "b");
    assert_eq!(of_lane_count.get(), 1);
    let (mut taker, count) = (arrivals.taker(), of_lane);
    assert_eq!(take_once(&mut taker), something("b"));
    drop(count);
}

#[test]
fn a_stop_wakes_whoever_takes_from_any() {
    let arrivals = arrivals();
    let lane = lane(&arrivals);
    let mut takers = [arrivals.taker(), arrivals.taker()].map(waiting);
    let (_of_lane, of_lane_count) = waiting(lane.taker());
    arrivals.stop();
    for (taker, count) in &mut takers {
        assert_eq!((count.get(), take_once(taker)), (1, NOTHING));
    }
    assert_eq!(of_lane_count.get(), 0);
}

/// What waits may be taken once another is over, so a taker waits for it, and is woken if that comes to nothing.
#[test]
fn after_a_stop_takers_wait_for_what_cannot_be_taken_yet_and_no_longer() {
    let withdraw = |lane: &Lane<Text>| {
        assert_eq!(lane.over(3, false), Over::Withdrawn("b"));
        lane.wake();
    };
    let give_elsewhere = |lane: &Lane<Text>| {
        assert_eq!(lane.over(1, false), Over::Taken);
        assert_eq!(lane.try_take(), Some("b"));
        lane.wake();
    };
    let expire = |lane: &Lane<Text>| assert_eq!(lane.expire(0), ["b"]);
    let close = |lane: &Lane<Text>| assert_eq!(lane.close(), ["b"]);
    let end = |lane: &Lane<Text>| assert_eq!(lane.end(false), ["b"]);
    for empty in [withdraw, give_elsewhere, expire, close, end] {
        let arrivals = arrivals();
        let lane = lane_of_one(&arrivals);
        push(&lane, 1, "a");
        assert_eq!(lane.try_take(), Some("a"));
        push(&lane, 3, "b");
        arrivals.stop();
        let (mut taker, count) = waiting(arrivals.taker());
        empty(&lane);
        assert_eq!((count.get(), take_once(&mut taker)), (1, NOTHING));
    }
}

#[test]
fn what_nobody_is_left_to_take_is_handed_back() {
    let arrivals = arrivals();
    let (lane, hidden) = (lane(&arrivals), hidden_lane(&arrivals, 100, 100));
    push(&lane, 1, "before the first taker, a value waits for it");
    let takers = [arrivals.taker(), arrivals.taker()];
    let [one, other] = takers;
    drop(one);
    push(&lane, 3, "another is left");
    push(&hidden, 1, "nobody can take it yet");
    drop(other);
    assert_eq!(lane.oldest(), None);
    assert_eq!(hidden.oldest(), None);
    assert_eq!(lane.push(5, 0, "x"), Err("x"));
    assert_eq!(hidden.push(3, 0, "x"), Err("x"));
    let mut again = arrivals.taker();
    push(&lane, 7, "a");
    assert_eq!(take_once(&mut again), something("a"));
}

#[test]
fn in_a_lane_that_somebody_serves_values_wait_for_him() {
    let arrivals = arrivals();
    let (served, other) = (lane(&arrivals), lane(&arrivals));
    drop(served.taker());
    push(&served, 1, "a");
    drop(arrivals.taker());
    push(&served, 3, "b");
    assert_eq!(other.push(1, 0, "c"), Err("c"));
    let mut of_lane = served.taker();
    assert_eq!(take_once(&mut of_lane), something("a"));
    assert_eq!(take_once(&mut of_lane), something("b"));
}

#[test]
fn a_lane_that_has_ended_is_over_when_what_is_left_in_it_is_refused() {
    let arrivals = arrivals();
    let hidden = hidden_lane(&arrivals, 100, 100);
    push(&hidden, 1, "a");
    assert!(hidden.end(true).is_empty());
    let (mut of_lane, count) = waiting(hidden.taker());
    assert_eq!(arrivals.refuse(), ["a"]);
    assert_eq!(count.get(), 1);
    assert_eq!(take_once(&mut of_lane), NOTHING);
}

#[test]
fn what_is_refused_reaches_nobody() {
    let arrivals = arrivals();
    let lane = lane(&arrivals);
    push(&lane, 1, "a");
    assert_eq!(arrivals.refuse(), ["a"]);
    assert_eq!(lane.push(3, 0, "b"), Err("b"));
    let (mut taker, count) = waiting(arrivals.taker());
    assert_eq!(lane.push(5, 0, "c"), Err("c"));
    assert_eq!(count.get(), 0);
    arrivals.stop();
    assert_eq!(take_once(&mut taker), NOTHING);
}
