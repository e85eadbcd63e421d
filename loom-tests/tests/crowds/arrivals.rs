//! G4 G9 G17: what waits to be taken, beside many who take it, refuse it and end it.

use std::{
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use evermux::sync::{LaneLimits, Latch, Over};
use loom_tests::{Checked, Shuttle, assert_unlocked, sample};
use shuttle::{
    future::block_on,
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
};

use super::{each, join};

type Arrivals = evermux::sync::Arrivals<Value, Shuttle>;
type Lane = evermux::sync::Lane<Value, Shuttle>;
type Taker = evermux::sync::Taker<Value, Shuttle>;

/// Its key, and how many there are. Is dropped by whoever has it, which no lock may see.
#[derive(Debug)]
struct Value(u32, Arc<AtomicUsize>);

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Value {
    fn new(key: u32, count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, SeqCst);
        Self(key, Arc::clone(count))
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        assert_unlocked::<Shuttle>();
        self.1.fetch_sub(1, SeqCst);
    }
}

fn poll(taker: &mut Taker, waker: &Waker) -> Poll<Option<u32>> {
    let polled = taker.poll_take(&mut Context::from_waker(&Checked::<Shuttle>::waker(waker)));
    polled.map(|value| value.map(|value| value.0))
}

fn take(taker: &mut Taker) -> Option<u32> {
    block_on(poll_fn(|cx| poll(taker, cx.waker())))
}

/// Two lanes that are shown, from each of which one may be taken at once.
fn lanes(arrivals: &Arc<Arrivals>) -> [Lane; 2] {
    [(); 2].map(|()| {
        let lane = arrivals.lane(LaneLimits { waiting: 8, taken: 1 });
        lane.show();
        lane
    })
}

/// Rule 3: two takers of any and one of a lane share what two peers send. Of each lane one may be taken at once: the
/// end of one makes room for the next, and nothing else does.
#[test]
fn takers_share_what_comes() {
    sample("takers_share_what_comes", || {
        let (arrivals, count) = (Arc::new(Arrivals::with_primitives(8)), Arc::default());
        let (lanes, all) = (lanes(&arrivals), Arc::new(Latch::<(), Shuttle>::with_primitives()));
        let taken = Arc::new(AtomicUsize::new(0));
        let takers: Vec<_> = [arrivals.taker(), arrivals.taker(), lanes[0].taker()]
            .into_iter()
            .map(|mut taker| {
                let (lanes, all, taken) = (lanes.clone(), Arc::clone(&all), Arc::clone(&taken));
                shuttle::thread::spawn(move || {
                    let mut keys = Vec::new();
                    while let Some(key) = take(&mut taker) {
                        let lane = &lanes[key as usize / 10];
                        assert_eq!(lane.over(key, false), Over::Taken);
                        lane.wake();
                        keys.push(key);
                        if taken.fetch_add(1, SeqCst) == 3 {
                            all.set(());
                        }
                    }
                    keys
                })
            })
            .collect();
        let peers = each(2, {
            let (lanes, count) = (lanes.clone(), Arc::clone(&count));
            move |number| {
                for key in [10 * number, 10 * number + 1] {
                    assert_eq!(lanes[number as usize].push(key, 0, Value::new(key, &count)), Ok(None));
                }
            }
        });
        join(peers);
        block_on(all.wait());
        for lane in &lanes {
            assert_eq!(lane.end(true), []);
        }
        arrivals.stop();
        let mut keys: Vec<_> = join(takers).into_iter().flatten().collect();
        keys.sort_unstable();
        assert_eq!((keys.as_slice(), count.load(SeqCst)), ([0, 1, 10, 11].as_slice(), 0));
    });
}

/// G9: takers that look once and leave, or take one and leave, beside one that stays. It is given the rest.
#[test]
fn takers_come_and_go() {
    sample("takers_come_and_go", || {
        let (arrivals, count) = (Arc::new(Arrivals::with_primitives(8)), Arc::default());
        let lane = arrivals.lane(LaneLimits { waiting: 8, taken: 8 });
        lane.show();
        let mut stays = arrivals.taker();
        let stays = shuttle::thread::spawn(move || std::iter::from_fn(|| take(&mut stays)).count());
        let leave = each(3, {
            let (arrivals, lane) = (Arc::clone(&arrivals), lane.clone());
            move |number| {
                let mut taker = if number == 0 { lane.taker() } else { arrivals.taker() };
                matches!(poll(&mut taker, Waker::noop()), Poll::Ready(Some(_)))
            }
        });
        for key in 0..4 {
            assert!(lane.push(key, 0, Value::new(key, &count)).is_ok());
        }
        let taken = join(leave).into_iter().filter(|taken| *taken).count();
        assert!(lane.end(true).is_empty());
        arrivals.stop();
        assert_eq!(stays.join().unwrap() + taken, 4);
    });
}

/// Rule 5: the takers leave while peers send and a session retires. What nobody took is handed back, and nothing waits.
#[test]
fn what_comes_while_the_takers_leave() {
    sample("what_comes_while_the_takers_leave", || {
        let (arrivals, count) = (Arc::new(Arrivals::with_primitives(8)), Arc::<AtomicUsize>::default());
        let lanes = lanes(&arrivals);
        let takers = [(); 3].map(|()| arrivals.taker());
        let leave: Vec<_> = takers
            .into_iter()
            .map(|mut taker| shuttle::thread::spawn(move || poll(&mut taker, Waker::noop()).is_ready()))
            .collect();
        let peers = each(2, {
            let (lanes, count) = (lanes.clone(), Arc::clone(&count));
            move |number| {
                for key in 0..2 {
                    drop(lanes[number as usize].push(key, 0, Value::new(key, &count)));
                }
            }
        });
        drop(lanes[0].close());
        drop(lanes[0].end(false));
        join(leave);
        join(peers);
        assert_eq!((lanes[1].oldest(), count.load(SeqCst)), (None, 0));
        assert!(lanes.iter().all(|lane| lane.push(9, 0, Value::new(9, &count)).is_err()));
    });
}

/// Rule 3: a value is taken, or expires, or is withdrawn by its sender, or is refused with all others: one of these.
#[test]
fn each_value_has_one_fate() {
    sample("each_value_has_one_fate", || {
        let (arrivals, count) = (Arc::new(Arrivals::with_primitives(8)), Arc::default());
        let lane = arrivals.lane(LaneLimits { waiting: 8, taken: 8 });
        lane.show();
        for key in 0..3 {
            assert!(lane.push(key, key.into(), Value::new(key, &count)).is_ok());
        }
        let mut taker = arrivals.taker();
        let served = shuttle::thread::spawn(move || std::iter::from_fn(|| take(&mut taker)).collect::<Vec<_>>());
        let mut fates = each(4, {
            let (arrivals, lane) = (Arc::clone(&arrivals), lane.clone());
            move |number| match number {
                0 => lane.expire(1).into_iter().map(|value| value.0).collect(),
                1 => match lane.over(2, false) {
                    Over::Withdrawn(value) => vec![value.0],
                    Over::Taken | Over::Kept | Over::Unknown => vec![],
                },
                2 => arrivals.refuse().into_iter().map(|value| value.0).collect(),
                _ => {
                    arrivals.stop();
                    vec![]
                }
            }
        });
        fates.push(served);
        let mut all: Vec<_> = join(fates).into_iter().flatten().collect();
        all.sort_unstable();
        assert_eq!(all, [0, 1, 2]);
        assert_eq!(count.load(SeqCst), 0);
    });
}
