//! Peers that are not evermux: programs over other yamux libraries, which dial or listen as evermux does.
//!
//! Such a program serves what the callers of the other side want, and where it dials it wants something itself. It keeps its
//! connection up in the simplest way: it dials again a moment after the last one has ended.

mod alone;
mod hashicorp;
mod library;
mod raw;

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rand::{Rng, RngExt};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::info;

use crate::context::{PORT, RunContext};
use crate::history::{What, broken, note};
use crate::interpose::elapsed;
use crate::net::{Condition, Listener, Socket};
use crate::plan::{Library, Side};
use crate::process::Ended;
use crate::random::rng;
use crate::verdict::Violation;
use crate::work::{Failed, exchange_over, protocol};

use library::{Session, Stream};

/// The program on a host.
#[derive(Clone)]
pub(crate) struct Foreign {
    pub(crate) host: &'static str,
    pub(crate) side: Side,
    pub(crate) library: Library,
    pub(crate) context: Rc<RunContext>,
}

/// The pause before it dials again.
const DIALS_AFTER: Duration = Duration::from_millis(200);
const CONNECTS_WITHIN: Duration = Duration::from_secs(10);
/// The longest pause between two things that it wants.
const PAUSE_MS: u64 = 4_000;
/// How often it wants many at once, one in so many, and how many.
const BURSTS: u32 = 8;
const BURST: std::ops::RangeInclusive<usize> = 130..=600;
/// Who has not got what it wants by then dials again: the yamux crate itself never finds that a connection is dead.
const PATIENCE: Duration = Duration::from_secs(20);
/// By then a session that ends has said so.
const TOLD_WITHIN: Duration = Duration::from_secs(1);

impl Foreign {
    /// Runs until the run ends; whoever restarts its manager restarts it.
    pub(crate) async fn run(self) -> Ended {
        let mut end = self.context.end.subscribe();
        let mut restart = self.context.host(self.host).restart.subscribe();
        restart.mark_unchanged();
        loop {
            let connections = self.clone().connections();
            tokio::select! {
                biased;
                _ = end.wait_for(|end| *end) => break,
                _ = restart.changed() => {}
                result = connections => result?,
            }
        }
        self.context.ended.borrow_mut().insert(self.host);
        Ok(())
    }

    async fn connections(self) -> Ended {
        let conditions = self.context.conditions(self.host).clone();
        match self.side {
            Side::Receiver => {
                let kernel = self.context.kernel(self.host).clone();
                let listener = Listener::bind(kernel, PORT, conditions, self.context.plan.network.handshake)?;
                let mut connections = JoinSet::new();
                loop {
                    match listener.accept().await {
                        Ok(socket) => {
                            while connections.try_join_next().is_some() {}
                            connections.spawn_local(self.clone().accepted(socket));
                        }
                        Err(_) => sleep(DIALS_AFTER).await,
                    }
                }
            }
            Side::Establisher => {
                let connector = self.context.connector(self.host, Arc::clone(&self.context.target), conditions);
                for connection in 0_u64.. {
                    if let Ok(Ok(socket)) = timeout(CONNECTS_WITHIN, connector.dial()).await {
                        self.connection(socket, Some(connection)).await;
                    }
                    sleep(DIALS_AFTER).await;
                }
                Ok(())
            }
        }
    }

    async fn accepted(self, socket: Socket) {
        if let Ok(socket) = Listener::begin(socket, self.context.plan.network.handshake).await {
            self.connection(socket, None).await;
        }
    }

    /// A connection to its end. The one that dials has a number, and wants something.
    async fn connection(&self, socket: Socket, number: Option<u64>) {
        let Ok(session) = Session::begin(self.library, self.side, socket).await else { return };
        // It ends with this.
        let _open = session.close_on_drop();
        info!(host = self.host, "foreign session");
        let wants = async {
            match number {
                Some(number) => self.wants(&session, number).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = self.serves(&session) => {}
            () = wants => {}
        }
    }

    /// Serves the streams of a session until it ends.
    async fn serves(&self, session: &Session) {
        let conditions = self.context.conditions(self.host);
        let mut streams = JoinSet::new();
        loop {
            conditions.until(Condition::AcceptingStopped, false).await;
            let Ok(stream) = session.accept().await else { return };
            while streams.try_join_next().is_some() {}
            let (this, session) = (self.clone(), session.clone());
            streams.spawn_local(async move {
                let Stream { reader, writer } = stream;
                let conditions = this.context.conditions(this.host);
                let served = protocol::serve(reader, writer, conditions, &this.context.counters).await;
                if matches!(&served, Err(Failed::Interrupted(error)) if error.kind() == io::ErrorKind::TimedOut) {
                    // A stream of hashicorp's library cannot be reset: half of an answer must not look like a whole one.
                    session.close();
                }
                this.judge(served, &session).await;
            });
        }
    }

    /// What it finds wrong is so only while its session goes on: these libraries tell the end of a session as the end of its
    /// streams.
    async fn judge(&self, done: Result<(), Failed>, session: &Session) {
        let Err(Failed::Violation(violation)) = done else { return };
        sleep(TOLD_WITHIN).await;
        if !session.is_closed() {
            self.tell(violation);
        }
    }

    /// The yamux crate tells a reset as the end of its stream, too.
    fn tell(&self, violation: Violation) {
        if self.library != Library::Yamux || violation.guarantee != "G17" {
            note(self.host, What::Violation(violation));
        }
    }

    /// Wants one thing after the other until the session ends, or one takes too long.
    async fn wants(&self, session: &Session, number: u64) {
        let mut rng = rng(self.context.seed, &format!("connection {number} of {}", self.host));
        loop {
            sleep(Duration::from_millis(rng.random_range(0..PAUSE_MS))).await;
            let streams = if rng.random_ratio(1, BURSTS) { rng.random_range(BURST) } else { 1 };
            let bytes = if streams > 1 { 10 } else { rng.random_range(0..300_000) };
            let mut wanted = JoinSet::new();
            let begun = elapsed();
            for _ in 0..streams {
                let (session, seed) = (session.clone(), rng.next_u64());
                wanted.spawn_local(async move {
                    let Stream { reader, writer } = session.open().await?;
                    exchange_over(reader, writer, seed, bytes).await
                });
            }
            loop {
                let Ok(done) =
                    timeout(PATIENCE.saturating_sub(elapsed().saturating_sub(begun)), wanted.join_next()).await
                else {
                    return;
                };
                let Some(done) = done else { break };
                let done = done.unwrap_or_else(|error| Err(io::Error::from(error).into()));
                let Err(failed) = done else { continue };
                // A peer that drains refuses streams, and does not say before: these libraries take a goodbye in two ways.
                let drains = !self.context.shutting_down.borrow().is_empty() || self.context.plan.ends_sessions();
                sleep(TOLD_WITHIN).await;
                if session.is_closed() || session.open().await.is_err() {
                    return;
                }
                match failed {
                    Failed::Violation(violation) => self.tell(violation),
                    Failed::Interrupted(error) if self.context.plan.settings.has_room() && !drains => {
                        let text =
                            format!("one of {streams} streams was not served, though the session goes on: {error}");
                        broken(self.host, "G16", text);
                    }
                    Failed::Interrupted(_) => {}
                }
                break;
            }
        }
    }
}
