//! Who takes the inbound streams of a manager, and serves them.

use std::rc::Rc;

use evermux::{MuxManager, MuxStream, Session};
use futures_util::stream::{FuturesUnordered, StreamExt};

use crate::context::RunContext;
use crate::counters::Counters;
use crate::history::{What, note};
use crate::net::{Condition, Conditions};
use crate::work::{Failed, protocol};

/// Serves the streams of every session of a manager.
pub(crate) async fn serve(manager: MuxManager, context: Rc<RunContext>, host: &'static str) {
    let mut incoming = manager.incoming();
    loop {
        context.conditions(host).until(Condition::AcceptingStopped, false).await;
        let accepted = tokio::select! {
            biased;
            () = context.conditions(host).until(Condition::AcceptingStopped, true) => continue,
            accepted = incoming.next() => accepted,
        };
        let Some(stream) = accepted else { return };
        let (conditions, counters) = (context.conditions(host).clone(), context.counters.clone());
        tokio::task::spawn_local(serve_one(stream, conditions, counters, host));
    }
}

/// Serves the streams of one session until it ends.
pub(crate) async fn serve_session(session: Session, conditions: Conditions, counters: Counters, host: &'static str) {
    let mut serving = FuturesUnordered::new();
    loop {
        let accepting = async {
            loop {
                conditions.until(Condition::AcceptingStopped, false).await;
                tokio::select! {
                    biased;
                    () = conditions.until(Condition::AcceptingStopped, true) => {}
                    accepted = session.accept_stream() => break accepted,
                }
            }
        };
        tokio::select! {
            biased;
            Some(()) = serving.next() => {}
            accepted = accepting => match accepted {
                Ok(stream) => {
                    counters.add("a stream was taken from its session", 1);
                    serving.push(serve_one(stream, conditions.clone(), counters.clone(), host));
                }
                Err(_) => break,
            },
        }
    }
}

async fn serve_one(stream: MuxStream, conditions: Conditions, counters: Counters, host: &'static str) {
    let (reader, writer) = stream.into_split();
    if let Err(Failed::Violation(what)) = protocol::serve(reader, writer, &conditions, &counters).await {
        note(host, What::Violation(what));
    }
}
