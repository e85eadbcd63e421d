//! Who takes the inbound streams of a manager, and serves them.

use std::rc::Rc;

use evermux::{MuxManager, MuxStream, Session};
use futures_util::stream::{FuturesUnordered, StreamExt};

use crate::context::RunContext;
use crate::counters::Counters;
use crate::history::{What, note};
use crate::net::{Condition, Conditions};
use crate::plan::Side;
use crate::work::{Failed, protocol, wrong_id};
use crate::yields;

/// Serves the streams of every session of a manager.
pub(crate) async fn serve(manager: MuxManager, context: Rc<RunContext>, host: &'static str, side: Side) {
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
        yields::spawn(serve_one(stream, conditions, counters, (host, side)));
    }
}

/// Serves the streams of one session until it ends.
pub(crate) async fn serve_session(
    session: Session,
    conditions: Conditions,
    counters: Counters,
    (host, side): (&'static str, Side),
) {
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
                    serving.push(serve_one(stream, conditions.clone(), counters.clone(), (host, side)));
                }
                Err(_) => break,
            },
        }
    }
}

async fn serve_one(stream: MuxStream, conditions: Conditions, counters: Counters, (host, side): (&'static str, Side)) {
    let opened_by = match side {
        Side::Establisher => Side::Receiver,
        Side::Receiver => Side::Establisher,
    };
    let (reader, writer) = stream.into_split();
    if let Some(wrong) = [reader.id(), writer.id()].into_iter().find_map(|id| wrong_id(id, opened_by)) {
        return note(host, What::Violation(wrong));
    }
    if let Err(Failed::Violation(what)) = protocol::serve(reader, writer, &conditions, &counters).await {
        note(host, What::Violation(what));
    }
}
