//! What a process knows of its sockets: as with epoll, what it was told at the last turn of its reactor.
//!
//! As in tokio, a socket that was found not ready is not asked again before it is said to be ready, one that gave less
//! than was asked for counts as not ready, and one that is ready costs a task some of its budget: when that is spent, no
//! socket is ready for it before others have run.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker, ready};

use tokio::task::coop;

use crate::yields::in_any_order;

/// The reactor of one process.
#[derive(Clone, Debug, Default)]
pub(super) struct Reactor(Arc<Mutex<Vec<Arc<Source>>>>);

/// One direction of a socket, or a listener.
#[derive(Debug)]
pub(super) struct Source {
    reactor: Reactor,
    readiness: Mutex<Readiness>,
}

#[derive(Debug, Default)]
struct Readiness {
    is_ready: bool,
    /// The reactor is going to say that it is ready.
    is_news: bool,
    waker: Option<Waker>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Reactor {
    /// What has become ready is ready for the process now, and wakes it.
    pub(super) fn turn(&self) {
        let mut news = std::mem::take(&mut *lock(&self.0));
        in_any_order(&mut news);
        for source in news {
            let waker = {
                let mut readiness = lock(&source.readiness);
                (readiness.is_ready, readiness.is_news) = (true, false);
                readiness.waker.take()
            };
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }

    /// A source that is looked at in the next turn.
    pub(super) fn source(&self) -> Arc<Source> {
        let source = Arc::new(Source { reactor: self.clone(), readiness: Mutex::default() });
        source.tell();
        source
    }

    /// A source that may be asked at once, which begins what is waited for.
    pub(super) fn source_to_ask(&self) -> Arc<Source> {
        let readiness = Mutex::new(Readiness { is_ready: true, ..Readiness::default() });
        Arc::new(Source { reactor: self.clone(), readiness })
    }
}

impl Source {
    pub(super) fn reactor(&self) -> &Reactor {
        &self.reactor
    }

    /// Calls the kernel, where that may do anything. It may be called with another waker than that of the process.
    pub(super) fn poll<T>(
        self: &Arc<Self>,
        cx: &mut Context<'_>,
        call: impl FnOnce(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        let proceeds = ready!(coop::poll_proceed(cx));
        if !lock(&self.readiness).is_ready {
            return self.wait(cx);
        }
        proceeds.made_progress();
        match call(&mut Context::from_waker(&Waker::from(Arc::clone(self)))) {
            Poll::Ready(output) => Poll::Ready(output),
            Poll::Pending => self.wait(cx),
        }
    }

    fn wait<T>(&self, cx: &Context<'_>) -> Poll<T> {
        let mut readiness = lock(&self.readiness);
        readiness.is_ready = false;
        readiness.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    /// It gave less than was asked for: what comes from now on is news.
    pub(super) fn is_exhausted(self: &Arc<Self>) {
        lock(&self.readiness).is_ready = false;
        self.tell();
    }

    /// Has it asked again in the next turn, whatever becomes of a call that waits.
    pub(super) fn tell(self: &Arc<Self>) {
        if !std::mem::replace(&mut lock(&self.readiness).is_news, true) {
            lock(&self.reactor.0).push(Arc::clone(self));
        }
    }
}

impl Wake for Source {
    fn wake(self: Arc<Self>) {
        self.tell();
    }
}
