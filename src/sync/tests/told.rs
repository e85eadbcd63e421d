//! Who is told of something, and that nobody is forgotten over one whose waker panics (G1 G4).

use super::*;

type Named = (&'static str, fn(&mut Tasks));

/// Several tasks that wait for one thing: each poll is of another one. Every second waker panics.
struct Tasks {
    woken: Arc<Count>,
    polled: usize,
}

impl Tasks {
    /// A task begins to wait.
    fn wait<T>(&mut self, poll: impl FnOnce(&mut Context<'_>) -> Poll<T>) {
        let waker =
            Waker::from(Arc::new(Harsh { woken: Arc::clone(&self.woken), panics: self.polled.is_multiple_of(2) }));
        self.polled += 1;
        assert!(poll(&mut Context::from_waker(&waker)).is_pending(), "it has to wait");
    }

    /// A future that waits from now on, and is kept.
    fn wait_for<F: Future + Unpin>(&mut self, mut future: F) -> F {
        self.wait(|cx| pin!(&mut future).poll(cx));
        future
    }
}

struct Harsh {
    woken: Arc<Count>,
    panics: bool,
}

impl Wake for Harsh {
    fn wake(self: Arc<Self>) {
        self.woken.0.fetch_add(1, Ordering::Relaxed);
        assert!(!self.panics, "this waker panics");
    }
}

fn takers(tasks: &mut Tasks, arrivals: &Arc<Arrivals<u32>>, lane: &Lane<u32>) -> Vec<Taker<u32>> {
    let mut takers = vec![lane.taker(), lane.taker(), arrivals.taker(), arrivals.taker(), lane.taker()];
    for taker in &mut takers {
        tasks.wait(|cx| taker.poll_take(cx));
    }
    takers
}

fn lane() -> (Arc<Arrivals<u32>>, Lane<u32>) {
    let arrivals = Arc::new(Arrivals::new(4));
    let lane = arrivals.lane(LaneLimits { waiting: 4, taken: 4 });
    lane.show();
    (arrivals, lane)
}

/// Every place of the core that wakes several.
const PLACES: &[Named] = &[
    ("SessionSlot::install", |tasks| {
        let slot = slot(1);
        let _waits = [0; 5].map(|_| tasks.wait_for(slot.wait()));
        install(&slot, "a");
    }),
    ("SessionSlot::stop", |tasks| {
        let slot = slot(1);
        let _waits = [0; 5].map(|_| tasks.wait_for(slot.wait()));
        slot.stop("stopped");
    }),
    ("StopGuard", |tasks| {
        let slot = slot(1);
        let _waits = [0; 5].map(|_| tasks.wait_for(slot.wait()));
        drop(StopGuard::new(Arc::clone(&slot), "dropped", |_| {}));
    }),
    ("Latch::set", |tasks| {
        let latch: Arc<Latch<u32>> = Arc::default();
        let _waits = [0; 5].map(|_| tasks.wait_for(latch.wait()));
        latch.set(1);
    }),
    ("LazyLatch::set", |tasks| {
        let latch: LazyLatch<u32> = LazyLatch::default();
        let _waits = [0; 5].map(|_| tasks.wait_for(latch.latch().wait()));
        latch.set(1);
    }),
    ("Life::retire", |tasks| {
        let (life, permits) = (Life::<u32, u32>::new(), Arc::new(Latch::<u32>::default()));
        let _openers = [0; 3].map(|_| tasks.wait_for(permits.wait()));
        let _handlers = [0; 3].map(|_| tasks.wait_for(life.retired()));
        life.retire(1, || panic!("it cannot be cleared"), || permits.set(1));
    }),
    ("Life::close", |tasks| {
        let (life, permits) = (Life::<u32, u32>::new(), Arc::new(Latch::<u32>::default()));
        let _closed = [0; 3].map(|_| tasks.wait_for(life.closed()));
        let _handlers = [0; 3].map(|_| tasks.wait_for(life.retired()));
        let _openers = [0; 3].map(|_| tasks.wait_for(permits.wait()));
        life.close(1, 1, || permits.set(1));
    }),
    ("Gate::wake", |tasks| {
        let gate = Arc::new(Gate::new());
        gate.limit(1, 1);
        gate.enter(1);
        let mut tickets = [0; 5].map(|_| Ticket::new(&gate));
        for ticket in &mut tickets {
            tasks.wait(|cx| ticket.poll(cx));
        }
        gate.leave(1);
        gate.wake();
    }),
    ("Earliest::set", |tasks| {
        let deadline: Arc<Earliest<u32>> = Arc::default();
        let _waits = [0; 5].map(|_| tasks.wait_for(deadline.before(None)));
        deadline.set(1);
    }),
    ("Tracker::stop", |tasks| {
        let tracker: Arc<Tracker> = Arc::default();
        let _waits = [0; 3].map(|_| tasks.wait_for(tracker.stopped()));
        let _joins = [0; 3].map(|_| tasks.wait_for(tracker.join()));
        tracker.stop();
    }),
    ("Lane::push", |tasks| {
        let (arrivals, lane) = lane();
        let _takers = takers(tasks, &arrivals, &lane);
        let _ = lane.push(1, 0, 1);
    }),
    ("Lane::end", |tasks| {
        let (arrivals, lane) = lane();
        let _takers = takers(tasks, &arrivals, &lane);
        lane.end(true);
    }),
    ("Arrivals::refuse", |tasks| {
        let arrivals = Arc::new(Arrivals::new(4));
        // Their sessions have ended before their streams could be taken.
        let _takers = [1, 2].map(|value| {
            let lane = arrivals.lane(LaneLimits { waiting: 4, taken: 4 });
            lane.push(1, 0, value).unwrap();
            assert_eq!(lane.end(true), [0; 0]);
            let mut takers = [0; 3].map(|_| lane.taker());
            for taker in &mut takers {
                tasks.wait(|cx| taker.poll_take(cx));
            }
            takers
        });
        arrivals.refuse();
    }),
    ("Arrivals::stop", |tasks| {
        let arrivals: Arc<Arrivals<u32>> = Arc::new(Arrivals::new(4));
        let mut takers = [0; 5].map(|_| arrivals.taker());
        for taker in &mut takers {
            tasks.wait(|cx| taker.poll_take(cx));
        }
        arrivals.stop();
    }),
];

#[test]
fn a_waker_that_panics_keeps_nobody_else_from_being_woken() {
    for (place, wakes) in PLACES {
        let mut tasks = Tasks { woken: Arc::default(), polled: 0 };
        let woken = panic::catch_unwind(AssertUnwindSafe(|| wakes(&mut tasks)));
        assert!(woken.is_err(), "{place}: the panic goes on");
        assert_eq!(tasks.woken.get(), tasks.polled, "{place}: each is woken once");
    }
}

/// Two that panic at the end of a task that panics: a panic that leaves a drop would abort the process.
#[test]
fn wakers_that_panic_during_a_panic_abort_nothing() {
    let latches = [0; 2].map(|_| Arc::new(Latch::<u32>::default()));
    let mut tasks = Tasks { woken: Arc::default(), polled: 0 };
    let _waits = [0, 1, 0, 1].map(|latch| tasks.wait_for(latches[latch].wait()));
    let task = panic::catch_unwind(AssertUnwindSafe(|| {
        let mut steps = Steps::new();
        for latch in &latches {
            steps.run(|| latch.set(1));
        }
        panic!("the task itself panics");
    }));
    assert_eq!(task.unwrap_err().downcast_ref(), Some(&"the task itself panics"));
    assert_eq!(tasks.woken.get(), 4);
}

#[test]
fn a_latch_keeps_its_first_value_and_a_lazy_one_outlives_its_owner() {
    let latch: Arc<Latch<&str>> = Arc::default();
    let mut waits = latch.wait();
    assert_eq!(poll_once(&mut waits), Poll::Pending);
    latch.set("first");
    latch.set("second");
    assert_eq!(poll_once(&mut waits), Poll::Ready("first"));
    assert_eq!(latch.get(), Some("first"));

    let end = LazyLatch::<_, Std>::default();
    let waited = end.latch();
    end.set("over");
    drop(end);
    assert_eq!(waited.get(), Some("over"));
}

#[test]
fn who_waits_in_another_task_is_woken_there_and_only_there() {
    let (bell, latch) = (Bell::<Std>::default(), Arc::new(Latch::<u32>::default()));
    let ((first, old), (second, new)) = (Count::new(), Count::new());
    let mut waits = latch.wait();
    for waker in [&old, &old, &new, &new] {
        bell.register(waker);
        assert_eq!(poll(&mut waits, waker), Poll::Pending);
    }
    // This test, the waker of each, and one that is kept in each place.
    assert_eq!((Arc::strong_count(&first), Arc::strong_count(&second)), (2, 4));
    bell.ring();
    latch.set(1);
    assert_eq!((first.get(), second.get()), (0, 2));
}

#[test]
fn a_session_is_out_of_its_slot_before_it_refuses_anybody() {
    let (life, steps) = (Life::<_, _>::new(), Mutex::new(Vec::new()));
    let step = |step| steps.lock().unwrap().push(step);
    life.retire("draining", || step("out of its slot"), || step("opens no more streams"));
    assert_eq!(*steps.lock().unwrap(), ["out of its slot", "opens no more streams"]);
    assert_eq!((life.retirement(), life.reason()), (Some("draining"), None));
    life.close("lost", "at once", || {});
    assert_eq!((life.retirement(), life.reason()), (Some("draining"), Some("lost")));
}

struct Fifo(Vec<u32>);

impl Queue for Fifo {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        (!self.0.is_empty()).then(|| self.0.remove(0))
    }
}

#[test]
fn a_relay_sends_what_is_added_while_it_sends() {
    let relay = Relay::new(Fifo(vec![1, 2]));
    let mut sent = Vec::new();
    relay.send_all(|value| {
        if value == 1 {
            relay.change(|fifo| fifo.0.push(3));
            relay.send_all(|_| unreachable!("somebody sends already"));
        }
        sent.push(value);
    });
    assert_eq!(sent, [1, 2, 3]);
}

#[test]
fn a_thread_waits_for_a_future_until_its_deadline() {
    let ready = block_on::<_, Std>(std::future::ready(1), None, || panic!("it need not wait"));
    assert_eq!(ready, Some(1));
    assert_eq!(block_on::<_, Std>(std::future::pending::<()>(), Some(now()), || {}), None);
}

#[test]
fn what_runs_counts_until_it_is_dropped_and_then_nothing_begins() {
    let tracker: Arc<Tracker> = Arc::default();
    let mut join = tracker.join();
    // It counts while what it holds is dropped, polled before or not.
    let still_counts = || Joined(tracker.join());
    let [first, second] = [still_counts(), still_counts()].map(|held| {
        Box::pin(tracker.run(async move {
            let _held = held;
            std::future::pending::<()>().await;
        }))
    });
    let mut second = second;
    assert!(poll_once(&mut second).is_pending());
    tracker.stop();
    assert!(tracker.is_stopped());
    // One that begins now is joined as well.
    let mut third = Box::pin(tracker.run(std::future::ready(3)));
    drop((first, second));
    assert!(poll_once(&mut join).is_pending());
    assert_eq!(poll_once(&mut third), Poll::Ready(Some(3)));
    assert!(poll_once(&mut join).is_ready());
    let mut late = Box::pin(tracker.run(async { unreachable!("nothing begins any more") }));
    assert_eq!(poll_once(&mut late), Poll::Ready(None::<()>));
}

/// Nobody may have joined when this is dropped.
struct Joined(Latched<()>);

impl Drop for Joined {
    fn drop(&mut self) {
        assert!(poll_once(&mut self.0).is_pending(), "it was joined before it was dropped");
    }
}

#[test]
fn the_earliest_deadline_counts() {
    let deadline: Arc<Earliest<u32>> = Arc::default();
    let mut any = deadline.before(None);
    assert!(poll_once(&mut any).is_pending());
    deadline.set(5);
    let mut earlier = deadline.before(Some(5));
    assert_eq!((poll_once(&mut any), poll_once(&mut earlier)), (Poll::Ready(5), Poll::Pending));
    deadline.set(7);
    deadline.set(5);
    assert_eq!((poll_once(&mut earlier), deadline.get()), (Poll::Pending, Some(5)));
    deadline.set(3);
    assert_eq!((poll_once(&mut any), poll_once(&mut earlier)), (Poll::Ready(3), Poll::Ready(3)));
}
