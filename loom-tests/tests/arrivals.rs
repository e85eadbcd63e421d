//! What waits to be taken, beside whoever takes it, refuses it or ends it all (G1 G17).

use std::{
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use evermux::sync::{LaneLimits, Over};
use loom::{
    future::block_on,
    thread::{self, JoinHandle},
};
use loom_tests::{
    Checked, Loom,
    Preemptions::{self, AtMost, Unbounded},
    assert_unlocked, explore,
};

type Arrivals = evermux::sync::Arrivals<Value, Loom>;
type Lane = evermux::sync::Lane<Value, Loom>;
type Taker = evermux::sync::Taker<Value, Loom>;

/// Is dropped by whoever has it, which no lock may see.
#[derive(Debug, PartialEq, Eq)]
struct Value(u32);

impl Drop for Value {
    fn drop(&mut self) {
        assert_unlocked::<Loom>();
    }
}

fn poll(taker: &mut Taker, waker: &Waker) -> Poll<Option<Value>> {
    let checked = Checked::<Loom>::waker(waker);
    taker.poll_take(&mut Context::from_waker(&checked))
}

fn take(taker: &mut Taker) -> Option<u32> {
    block_on(poll_fn(|cx| poll(taker, cx.waker()))).map(|value| value.0)
}

/// Takes until there is nothing any more.
fn takes_all(mut taker: Taker) -> JoinHandle<Vec<u32>> {
    thread::spawn(move || std::iter::from_fn(|| take(&mut taker)).collect())
}

/// Takes one.
fn takes(mut taker: Taker) -> JoinHandle<Option<u32>> {
    thread::spawn(move || take(&mut taker))
}

fn arrivals() -> Arc<Arrivals> {
    Arc::new(Arrivals::with_primitives(8))
}

/// A lane that is shown, from which so many may be taken at once.
fn lane(arrivals: &Arc<Arrivals>, taken: usize) -> Lane {
    let lane = arrivals.lane(LaneLimits { waiting: 8, taken });
    lane.show();
    lane
}

fn push(lane: &Lane, key: u32) {
    assert_eq!(lane.push(key, 0, Value(key)), Ok(None));
}

/// A lane with a value that cannot be taken while the one before it is in use.
fn full_lane(arrivals: &Arc<Arrivals>) -> Lane {
    let lane = lane(arrivals, 1);
    push(&lane, 1);
    push(&lane, 2);
    assert_eq!(lane.try_take(), Some(Value(1)));
    lane
}

#[derive(Clone, Copy, Debug)]
enum From {
    TheLane,
    Any,
}

impl From {
    fn taker(self, arrivals: &Arc<Arrivals>, lane: &Lane) -> Taker {
        match self {
            Self::TheLane => lane.taker(),
            Self::Any => arrivals.taker(),
        }
    }
}

/// Both kinds of takers.
fn from_each(name: &str, preemptions: Preemptions, least: usize, model: impl Fn(From) + Send + Sync + Copy + 'static) {
    for from in [From::TheLane, From::Any] {
        explore(&format!("{name}, {from:?}"), preemptions, least, move || model(from));
    }
}

/// Rule 1: a value comes before, during or after the look.
#[test]
fn a_take_beside_a_push() {
    from_each("a_take_beside_a_push", Unbounded, 6, |from| {
        let arrivals = arrivals();
        let lane = lane(&arrivals, 1);
        let taker = takes(from.taker(&arrivals, &lane));
        push(&lane, 1);
        assert_eq!(taker.join().unwrap(), Some(1));
    });
}

/// Rule 1: what came before can be taken from now on.
#[test]
fn a_take_beside_a_show() {
    from_each("a_take_beside_a_show", Unbounded, 6, |from| {
        let arrivals = arrivals();
        let lane = arrivals.lane(LaneLimits { waiting: 1, taken: 1 });
        push(&lane, 1);
        let taker = takes(from.taker(&arrivals, &lane));
        lane.show();
        assert_eq!(taker.join().unwrap(), Some(1));
    });
}

/// Rule 1: the place of a value that was taken becomes free.
#[test]
fn a_take_beside_the_end_of_another() {
    from_each("a_take_beside_the_end_of_another", Unbounded, 12, |from| {
        let arrivals = arrivals();
        let lane = full_lane(&arrivals);
        let taker = takes(from.taker(&arrivals, &lane));
        assert_eq!(lane.over(1, false), Over::Taken);
        lane.wake();
        assert_eq!(taker.join().unwrap(), Some(2));
    });
}

/// G4: whoever takes from any is told that there will be nothing.
#[test]
fn a_take_beside_a_stop() {
    explore("a_take_beside_a_stop", Unbounded, 6, || {
        let arrivals = arrivals();
        let _lane = lane(&arrivals, 1);
        let taker = takes(arrivals.taker());
        arrivals.stop();
        assert_eq!(taker.join().unwrap(), None);
    });
}

/// G4: the same where something waited that nobody may take yet, and then nobody does.
#[test]
fn a_take_after_a_stop_waits_for_nothing_that_is_gone() {
    let withdraw = |lane: &Lane| {
        assert_eq!(lane.over(2, false), Over::Withdrawn(Value(2)));
        lane.wake();
    };
    let expire = |lane: &Lane| assert_eq!(lane.expire(0), [Value(2)]);
    let close = |lane: &Lane| assert_eq!(lane.close(), [Value(2)]);
    for (how, empty) in [("withdraw", withdraw as fn(&Lane)), ("expire", expire), ("close", close)] {
        let name = format!("a_take_after_a_stop_waits_for_nothing_that_is_gone, {how}");
        explore(&name, Unbounded, 150, move || {
            let arrivals = arrivals();
            let lane = full_lane(&arrivals);
            let taker = takes(arrivals.taker());
            arrivals.stop();
            empty(&lane);
            assert_eq!(taker.join().unwrap(), None);
        });
    }
}

/// Who takes from a lane is told of its end, after what is left.
#[test]
fn a_take_beside_an_end() {
    explore("a_take_beside_an_end", Unbounded, 6, || {
        let arrivals = arrivals();
        let lane = full_lane(&arrivals);
        let taker = takes_all(lane.taker());
        assert_eq!(lane.end(true), []);
        assert_eq!(taker.join().unwrap(), [2]);
    });
}

/// Nobody has shown what was left of a lane when there was no room for it any more.
#[test]
fn a_take_beside_the_end_of_another_lane() {
    explore("a_take_beside_the_end_of_another_lane", Unbounded, 6, || {
        let arrivals = Arc::new(Arrivals::with_primitives(1));
        let hidden = arrivals.lane(LaneLimits { waiting: 1, taken: 1 });
        push(&hidden, 1);
        assert_eq!(hidden.end(true), []);
        let other = lane(&arrivals, 1);
        push(&other, 2);
        let taker = takes(hidden.taker());
        assert_eq!(other.end(true), [Value(1)]);
        assert_eq!(taker.join().unwrap(), None);
    });
}

/// Rule 3: one of two takers has it, and the other one goes on.
#[test]
fn a_value_goes_to_one_taker() {
    explore("a_value_goes_to_one_taker", AtMost(3), 8_000, || {
        let arrivals = arrivals();
        let lane = lane(&arrivals, 1);
        let takers = [takes_all(lane.taker()), takes_all(arrivals.taker())];
        push(&lane, 1);
        assert_eq!(lane.end(true), []);
        arrivals.stop();
        let taken: Vec<_> = takers.into_iter().flat_map(|taker| taker.join().unwrap()).collect();
        assert_eq!(taken, [1]);
    });
}

/// Rule 3: a value is taken, or it is handed back.
#[test]
fn a_value_is_taken_or_handed_back() {
    let over = |lane: &Lane| match lane.over(1, false) {
        Over::Taken => None,
        Over::Withdrawn(value) => Some(value),
        other => panic!("{other:?}"),
    };
    let expire = |lane: &Lane| lane.expire(0).pop();
    let close = |lane: &Lane| lane.close().pop();
    let end = |lane: &Lane| lane.end(false).pop();
    for (how, refuse) in
        [("over", over as fn(&Lane) -> Option<Value>), ("expire", expire), ("close", close), ("end", end)]
    {
        explore(&format!("a_value_is_taken_or_handed_back, {how}"), Unbounded, 2, move || {
            let arrivals = arrivals();
            let lane = lane(&arrivals, 1);
            push(&lane, 1);
            let mut taker = arrivals.taker();
            let polls = thread::spawn(move || poll(&mut taker, Waker::noop()));
            let back = refuse(&lane);
            match polls.join().unwrap() {
                Poll::Ready(value) => assert_eq!((value, back), (Some(Value(1)), None)),
                Poll::Pending => assert_eq!(back, Some(Value(1))),
            }
        });
    }
}

/// Rule 3: one that came whole is kept when its sender is done, and is taken once, with or without a place.
#[test]
fn a_value_that_is_over_is_taken_all_the_same() {
    explore("a_value_that_is_over_is_taken_all_the_same", Unbounded, 2, || {
        let arrivals = arrivals();
        let lane = lane(&arrivals, 1);
        push(&lane, 1);
        let taker = takes(lane.taker());
        assert!(matches!(lane.over(1, true), Over::Taken | Over::Kept));
        assert_eq!(taker.join().unwrap(), Some(1));
        push(&lane, 2);
        assert_eq!(lane.try_take(), Some(Value(2)), "the place is free");
    });
}

/// G9: a taker that is dropped while it is woken takes no wake-up from another, and its waker is gone.
#[test]
fn a_taker_that_is_dropped_leaves_nothing() {
    from_each("a_taker_that_is_dropped_leaves_nothing", Unbounded, 1_200, |from| {
        let arrivals = arrivals();
        let lane = lane(&arrivals, 8);
        let mut old = from.taker(&arrivals, &lane);
        let checked = Checked::<Loom>::new(Waker::noop());
        let waker = Waker::from(Arc::clone(&checked));
        assert!(old.poll_take(&mut Context::from_waker(&waker)).is_pending());
        drop(waker);
        push(&lane, 1);
        let taker = takes_all(from.taker(&arrivals, &lane));
        drop(old);
        assert_eq!(Arc::strong_count(&checked), 1);
        push(&lane, 2);
        arrivals.stop();
        assert_eq!(lane.end(true), []);
        assert_eq!(taker.join().unwrap(), [1, 2]);
    });
}

/// Rule 5: what comes while the last taker leaves waits for nobody.
#[test]
fn a_push_beside_the_drop_of_the_last_taker() {
    explore("a_push_beside_the_drop_of_the_last_taker", Unbounded, 2, || {
        let arrivals = arrivals();
        let lane = lane(&arrivals, 8);
        let taker = arrivals.taker();
        let leaves = thread::spawn(move || drop(taker));
        // Dropped by its taker, or handed back.
        drop(lane.push(1, 0, Value(1)));
        leaves.join().unwrap();
        assert_eq!(lane.oldest(), None);
        assert_eq!(lane.push(2, 0, Value(2)), Err(Value(2)));
    });
}

/// Rule 5: one that comes while the last leaves finds what comes after it.
#[test]
fn a_taker_that_comes_while_the_last_leaves() {
    explore("a_taker_that_comes_while_the_last_leaves", Unbounded, 2, || {
        let arrivals = arrivals();
        let lane = lane(&arrivals, 8);
        let old = arrivals.taker();
        let leaves = thread::spawn(move || drop(old));
        let mut new = arrivals.taker();
        push(&lane, 1);
        assert_eq!(take(&mut new), Some(1));
        leaves.join().unwrap();
        push(&lane, 2);
        assert_eq!(take(&mut new), Some(2));
    });
}
