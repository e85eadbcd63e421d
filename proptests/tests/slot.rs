//! The slot against its reference model: any steps give the same results, and wake the same wakers.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use evermux::sync::{ClearHook, Refused, Reservation, SessionId, SessionSlot, SlotReader, Wait, WaitUntilError};
use proptest::{prelude::*, sample::Index};
use proptests::{Model, ModelReader, SingleThreaded, assert_unlocked};

const READERS: usize = 2;
const FUTURES: usize = 4;
const WAKERS: usize = 3;

type Slot = SessionSlot<Session, u32, SingleThreaded>;

/// A session that is counted while it lives, and of which no clone may be dropped under the lock.
#[derive(Clone, Debug)]
struct Session(Arc<Body>);

impl Drop for Session {
    fn drop(&mut self) {
        assert_unlocked();
    }
}

#[derive(Debug)]
struct Body {
    id: usize,
    alive: Arc<AtomicUsize>,
}

impl Drop for Body {
    fn drop(&mut self) {
        self.alive.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What one waker of a future counts in: how often it was woken, and how many of its kind there are.
#[derive(Default)]
struct Counts {
    woken: AtomicUsize,
    kept: AtomicUsize,
}

struct Counting(Arc<Counts>);

impl Counting {
    fn waker(counts: &Arc<Counts>) -> Waker {
        counts.kept.fetch_add(1, Ordering::Relaxed);
        Waker::from(Arc::new(Self(Arc::clone(counts))))
    }
}

impl Wake for Counting {
    fn wake(self: Arc<Self>) {
        assert_unlocked();
        self.0.woken.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        assert_unlocked();
        self.0.kept.fetch_sub(1, Ordering::Relaxed);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Reserve,
    DropReservation(Index),
    Install(Index),
    Replace(Index, Index),
    Clear(Index),
    ClearByHook(Index),
    Stop(u32),
    Poll { future: usize, waker: usize },
    DropWait(usize),
    WaitUntilNow,
    WaitBlocking,
    Peek,
    Look(usize),
    CloneReader,
    SetLoad(Index, usize),
}

fn step() -> impl Strategy<Value = Step> {
    let id = any::<Index>;
    prop_oneof![
        6 => Just(Step::Reserve),
        1 => id().prop_map(Step::DropReservation),
        6 => id().prop_map(Step::Install),
        3 => (id(), id()).prop_map(|(old, new)| Step::Replace(old, new)),
        4 => id().prop_map(Step::Clear),
        2 => id().prop_map(Step::ClearByHook),
        1 => (0..3u32).prop_map(Step::Stop),
        12 => (0..FUTURES, 0..WAKERS).prop_map(|(future, waker)| Step::Poll { future, waker }),
        3 => (0..FUTURES).prop_map(Step::DropWait),
        2 => Just(Step::WaitUntilNow),
        2 => Just(Step::WaitBlocking),
        3 => Just(Step::Peek),
        4 => (0..READERS).prop_map(Step::Look),
        1 => Just(Step::CloneReader),
        4 => (id(), 0..3usize).prop_map(|(id, load)| Step::SetLoad(id, load)),
    ]
}

/// A session to be: its reservation until that is dropped, the id that it has in the real slot, what it
/// calls when it dies, and its load.
struct Newcomer {
    reservation: Option<Reservation<Session, u32, SingleThreaded>>,
    id: SessionId,
    hook: ClearHook<Session, u32, SingleThreaded>,
    load: Arc<AtomicUsize>,
}

/// The slot and its model, side by side. A field is dropped before those below it.
struct Pair<'a> {
    waits: [Option<Wait<'a, Session, u32, SingleThreaded>>; FUTURES],
    readers: [(SlotReader<Session, u32, SingleThreaded>, ModelReader); READERS],
    /// By the id that they have in the model.
    newcomers: Vec<Newcomer>,
    model: Model,
    counts: [Arc<Counts>; WAKERS],
    alive: Arc<AtomicUsize>,
    slot: &'a Arc<Slot>,
}

impl<'a> Pair<'a> {
    fn new(slot: &'a Arc<Slot>) -> Self {
        Self {
            waits: [const { None }; FUTURES],
            readers: [(); READERS].map(|()| (slot.reader(), ModelReader::default())),
            newcomers: Vec::new(),
            model: Model::new(slot.places()),
            counts: Default::default(),
            alive: Arc::default(),
            slot,
        }
    }

    fn session(&self, id: usize) -> Session {
        self.alive.fetch_add(1, Ordering::Relaxed);
        Session(Arc::new(Body { id, alive: Arc::clone(&self.alive) }))
    }

    /// Does a step in both, and compares what it gives. A step that names nothing is skipped.
    #[expect(clippy::needless_pass_by_value, reason = "a step is done once")]
    fn step(&mut self, step: Step) {
        let count = self.newcomers.len();
        match step {
            Step::Reserve => {
                let reservation = self.slot.reserve();
                let (id, hook) = (reservation.id(), reservation.clear_hook());
                assert!(self.newcomers.iter().all(|other| other.id != id));
                self.newcomers.push(Newcomer { reservation: Some(reservation), id, hook, load: Arc::default() });
                assert_eq!(self.model.reserve(), count);
            }
            Step::WaitUntilNow => {
                let expected = match self.model.ask() {
                    Some(outcome) => outcome.map_err(WaitUntilError::Stopped),
                    None => Err(WaitUntilError::TimedOut),
                };
                assert_eq!(self.slot.wait_until(0).map(id), expected);
            }
            Step::WaitBlocking => {
                if let Some(expected) = self.model.ask() {
                    assert_eq!(self.slot.wait_blocking().map(id), expected);
                }
            }
            Step::Stop(reason) => {
                let stopped: Vec<_> = self.slot.stop(reason).into_iter().map(id).collect();
                assert_eq!(stopped, self.model.stop(reason));
            }
            Step::Poll { future, waker } => {
                let wait = self.waits[future].get_or_insert_with(|| self.slot.wait());
                let waker_of_poll = Counting::waker(&self.counts[waker]);
                let got = match Pin::new(wait).poll(&mut Context::from_waker(&waker_of_poll)) {
                    Poll::Ready(outcome) => Some(outcome.map(id)),
                    Poll::Pending => None,
                };
                assert_eq!(got, self.model.poll(future, waker));
            }
            Step::DropWait(future) => {
                self.waits[future] = None;
                self.model.cancel(future);
            }
            Step::Peek => assert_eq!(self.slot.peek().map(id), self.model.peek()),
            Step::Look(reader) => {
                let (real, model) = &mut self.readers[reader];
                assert_eq!(real.session().map(|session| session.0.id), self.model.look(model));
            }
            Step::CloneReader => self.readers[1] = self.readers[0].clone(),
            _ if count == 0 => {}
            Step::DropReservation(index) => {
                let index = index.index(count);
                self.newcomers[index].reservation = None;
                self.model.forget(index);
            }
            Step::Install(index) => {
                let (index, session) = (index.index(count), self.session(index.index(count)));
                if let Newcomer { reservation: Some(reservation), load, .. } = &mut self.newcomers[index] {
                    let got = self.slot.install(reservation, session, Arc::clone(load));
                    assert_eq!(got.map_err(plain), self.model.install(index));
                }
            }
            Step::Replace(old, new) => {
                let (old, new, session) = (old.index(count), new.index(count), self.session(new.index(count)));
                let real_old = self.newcomers[old].id;
                if let Newcomer { reservation: Some(reservation), load, .. } = &mut self.newcomers[new] {
                    let got = self.slot.replace(real_old, reservation, session, Arc::clone(load));
                    assert_eq!(got.map(id).map_err(plain), self.model.replace(old, new));
                }
            }
            Step::Clear(index) => {
                let index = index.index(count);
                assert_eq!(self.slot.clear(self.newcomers[index].id).map(id), self.model.clear(index));
            }
            Step::ClearByHook(index) => {
                let index = index.index(count);
                self.newcomers[index].hook.clear();
                self.model.clear(index);
            }
            Step::SetLoad(index, load) => {
                let index = index.index(count);
                self.newcomers[index].load.store(load, Ordering::Relaxed);
                self.model.set_load(index, load);
            }
        }
    }

    /// Compares what can be seen from outside after a step.
    fn compare(&self) {
        let live: Vec<_> = self.model.live().into_iter().map(|id| (self.newcomers[id].id, id)).collect();
        assert_eq!(self.slot.live().into_iter().map(|(real, session)| (real, id(session))).collect::<Vec<_>>(), live);
        assert_eq!(self.slot.stopped(), self.model.stopped());
        assert_eq!(self.slot.reserved(), self.model.reserved());
        let waiting = self.model.waiting();
        assert_eq!(self.slot.waiting(), waiting.len());
        for (waker, counts) in self.counts.iter().enumerate() {
            let times = |list: &[usize]| list.iter().filter(|of| **of == waker).count();
            assert_eq!(counts.woken.load(Ordering::Relaxed), times(self.model.woken()), "wake-ups of waker {waker}");
            assert_eq!(counts.kept.load(Ordering::Relaxed), times(&waiting), "registrations of waker {waker}");
        }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is passed to map")]
fn id(session: Session) -> usize {
    session.0.id
}

fn plain(refused: Refused<Session, u32>) -> Refused<usize, u32> {
    match refused {
        Refused::Full(session) => Refused::Full(id(session)),
        Refused::Gone(session) => Refused::Gone(id(session)),
        Refused::Dead(session) => Refused::Dead(id(session)),
        Refused::Stopped(session, reason) => Refused::Stopped(id(session), reason),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    /// G1 to G4 and G6 to G9, one step at a time.
    #[test]
    fn the_slot_does_what_its_model_does(
        places in 1..=4usize,
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let slot = Arc::new(Slot::with_primitives(places));
        let mut pair = Pair::new(&slot);
        for step in steps {
            pair.step(step);
            pair.compare();
        }
        let (alive, counts) = (Arc::clone(&pair.alive), pair.counts.clone());
        drop(pair);
        prop_assert_eq!((slot.waiting(), slot.reserved()), (0, 0));
        prop_assert!(counts.iter().all(|counts| counts.kept.load(Ordering::Relaxed) == 0));
        drop(slot);
        prop_assert_eq!(alive.load(Ordering::Relaxed), 0);
    }
}
