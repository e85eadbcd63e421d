//! Other orders of the same run: a task that could go on lets others run first, as the seed has it.
//!
//! All of a run happens on one thread, where tasks change hands when one of them waits, and take their turns in the order in
//! which they were woken. A plan with yields has them change hands more often, and in another order:
//!
//! - What the simulation runs itself, and what evermux calls of it, is wrapped in [`yielding`]: it says Pending though it
//!   could go on, and is woken at once, or when nothing else is left to run.
//! - A task of evermux finds that it has spent its [budget](tokio::task::coop), as one has that was busy: what it waits for of
//!   tokio's says Pending, until all others have run. It is polled within its span, so that entering one is where that begins
//!   ([`Spender`]).
//! - What the kernel has for a process is told in any order ([`in_any_order`]).

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use rand::RngExt;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use tokio::task::{JoinHandle, coop, yield_now};
use tracing::Subscriber;
use tracing::span::Id;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer;

/// At most so many times in a hundred: what always lets others go first never runs.
const PERCENT_MAX: u32 = 90;

/// What tokio lets a task do in one poll.
const BUDGET: u32 = 128;
/// Where a task has spent it, so much or less is left.
const LEFT_MAX: u32 = 3;

/// How often a run has changed hands where it need not have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Yielded {
    /// What the simulation runs let others go first.
    pub(crate) gave_way: u64,
    /// A task of evermux had spent its budget.
    pub(crate) spent: u64,
}

struct Yields {
    percent: u32,
    rng: ChaCha8Rng,
    yielded: Yielded,
}

thread_local! {
    /// None where nobody yields.
    static YIELDS: RefCell<Option<Yields>> = const { RefCell::new(None) };
}

/// The run of this thread yields so many times in a hundred.
pub(crate) fn begin(percent: u32, rng: ChaCha8Rng) {
    let percent = percent.min(PERCENT_MAX);
    YIELDS.set((percent > 0).then(|| Yields { percent, rng, yielded: Yielded::default() }));
}

/// The run of this thread yields no more.
pub(crate) fn end() -> Yielded {
    YIELDS.take().map(|yields| yields.yielded).unwrap_or_default()
}

/// What is drawn where the seed has a yield, if it has one here.
fn if_due<R>(draw: impl FnOnce(&mut Yields) -> R) -> Option<R> {
    YIELDS.with_borrow_mut(|yields| {
        let yields = yields.as_mut()?;
        yields.rng.random_ratio(yields.percent, 100).then(|| draw(yields))
    })
}

/// Lets others run first, now and then, where this could go on.
///
/// # Cancel safety
///
/// That of the future: it is not polled where others go first.
pub(crate) async fn yielding<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    poll_fn(|cx| {
        let is_last = if_due(|yields| {
            yields.yielded.gave_way += 1;
            yields.rng.random::<bool>()
        });
        match is_last {
            None => return future.as_mut().poll(cx),
            Some(false) => cx.waker().wake_by_ref(),
            // Polled once, it has the task woken when nothing else is left to run.
            Some(true) => assert!(pin!(yield_now()).poll(cx).is_pending(), "it waits once"),
        }
        Poll::Pending
    })
    .await
}

/// Runs a task of the simulation on its host.
pub(crate) fn spawn<F: Future + 'static>(future: F) -> JoinHandle<F::Output> {
    tokio::task::spawn_local(yielding(future))
}

/// Puts what happens at once in another order.
pub(crate) fn in_any_order<T>(all: &mut [T]) {
    YIELDS.with_borrow_mut(|yields| {
        if let Some(yields) = yields {
            all.shuffle(&mut yields.rng);
        }
    });
}

/// Has tasks of evermux find their budget spent as they are polled, which enters their span.
pub(crate) struct Spender;

/// Of which spans it hears.
pub(crate) fn wanted() -> Targets {
    Targets::new().with_target("evermux", LevelFilter::INFO)
}

impl<S: Subscriber> Layer<S> for Spender {
    fn on_enter(&self, _: &Id, _: layer::Context<'_, S>) {
        let left = if_due(|yields| {
            yields.yielded.spent += 1;
            yields.rng.random_range(0..=LEFT_MAX)
        });
        if let Some(left) = left {
            spend(left);
        }
    }
}

/// Spends what the task that is polled may do in this poll, but for so much.
fn spend(left: u32) {
    // Nobody waits here.
    let mut cx = Context::from_waker(Waker::noop());
    for _ in left..BUDGET {
        if !coop::has_budget_remaining() {
            return;
        }
        if let Poll::Ready(proceeds) = coop::poll_proceed(&mut cx) {
            proceeds.made_progress();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use rand::SeedableRng;
    use tokio::runtime::Builder;
    use tokio::sync::mpsc;
    use tokio::task::LocalSet;

    use super::*;

    fn yields(percent: u32) {
        begin(percent, ChaCha8Rng::seed_from_u64(1));
    }

    /// In which order tasks that were spawned one after the other come to their end.
    fn order() -> Vec<u32> {
        let runtime = Builder::new_current_thread().build().unwrap();
        let ended = Rc::new(RefCell::new(Vec::new()));
        let local = LocalSet::new();
        local.block_on(&runtime, async {
            let tasks = (0..8).map(|number| {
                let ended = Rc::clone(&ended);
                spawn(async move { ended.borrow_mut().push(number) })
            });
            for task in tasks.collect::<Vec<_>>() {
                task.await.unwrap();
            }
        });
        ended.take()
    }

    #[test]
    fn without_yields_tasks_run_in_their_order_and_with_them_in_one_that_the_seed_decides() {
        assert_eq!(order(), (0..8).collect::<Vec<_>>());
        yields(50);
        let first = order();
        let yielded = end();
        assert_ne!(first, (0..8).collect::<Vec<_>>());
        assert!(yielded.gave_way > 0);
        yields(50);
        assert_eq!(order(), first);
        assert_eq!(end(), yielded);
        yields(0);
        assert_eq!(order(), (0..8).collect::<Vec<_>>());
    }

    #[test]
    fn what_is_known_at_once_is_told_in_another_order_only_with_yields() {
        let in_order: Vec<_> = (0..32).collect();
        let mut all = in_order.clone();
        in_any_order(&mut all);
        assert_eq!(all, in_order);
        yields(1);
        in_any_order(&mut all);
        end();
        assert_ne!(all, in_order);
    }

    #[test]
    fn a_task_that_has_spent_its_budget_waits_for_what_is_there_and_is_woken() {
        let runtime = Builder::new_current_thread().build().unwrap();
        let polls = Cell::new(0);
        let (send, mut receive) = mpsc::unbounded_channel();
        send.send(()).unwrap();
        send.send(()).unwrap();
        runtime.block_on(async {
            let mut receiving = pin!(async {
                receive.recv().await;
                receive.recv().await;
            });
            poll_fn(|cx| {
                polls.set(polls.get() + 1);
                spend(if polls.get() == 1 { 1 } else { LEFT_MAX });
                receiving.as_mut().poll(cx)
            })
            .await;
        });
        assert_eq!(polls.get(), 2);
    }
}
