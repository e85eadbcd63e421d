//! What can go wrong, as types that a caller can match.
//!
//! The text of an error includes its cause, so it can be logged by itself; its source is only what the text leaves out.

mod manager;
mod session;
mod transport;

pub use self::{
    manager::{ConfigError, GaveUp, GaveUpCause, StartError, Stopped, WaitError},
    session::{CloseReason, OpenError, StreamError},
    transport::{AcceptError, ConnectError},
};

#[cfg(test)]
mod tests {
    use std::{error::Error, io, sync::Arc, time::Duration};

    use super::*;

    /// The text of each error in the chain.
    fn chain(error: &(dyn Error + 'static)) -> Vec<String> {
        let mut chain = vec![error.to_string()];
        let mut next = error.source();
        while let Some(error) = next {
            chain.push(error.to_string());
            next = error.source();
        }
        chain
    }

    /// An error with a cause.
    #[derive(Debug, thiserror::Error)]
    #[error("the certificate is refused")]
    struct Refused(#[source] io::Error);

    fn refused() -> Refused {
        Refused(io::Error::other("it has expired"))
    }

    #[test]
    fn a_chain_says_each_thing_once() {
        let lost = || CloseReason::Lost(Arc::new(io::Error::other("broken pipe")));
        let gave_up = GaveUp { cause: GaveUpCause::Fatal, attempts: 3, last_error: Some(Arc::new(refused())) };
        let errors: [Box<dyn Error>; 10] = [
            Box::new(lost()),
            Box::new(io::Error::from(lost())),
            Box::new(OpenError::Lost(lost())),
            Box::new(io::Error::from(OpenError::Lost(lost()))),
            Box::new(OpenError::NoSession { within: Duration::from_secs(1), last_attempt: Some(Arc::new(refused())) }),
            Box::new(Stopped::GaveUp(Arc::new(gave_up))),
            Box::new(StartError::Bind { address: "x:1".into(), error: io::Error::other("it is taken") }),
            Box::new(StartError::Runtime { error: io::Error::other("no thread") }),
            Box::new(ConnectError::transient(refused())),
            Box::new(AcceptError::connection(refused())),
        ];
        for error in &errors {
            let chain = chain(&**error);
            let is_repeated = |(at, text): (usize, &String)| chain[..at].iter().any(|before| before.contains(text));
            assert!(!chain.iter().enumerate().any(is_repeated), "{chain:?}");
        }
        assert_eq!(chain(&ConnectError::fatal(refused())), ["the certificate is refused", "it has expired"]);
        assert_eq!(chain(&lost()), ["the connection was lost: broken pipe"]);
    }

    /// The kind of an error as tokio's I/O reports it, with the error itself as its source.
    fn kind(error: impl Into<io::Error>, is: io::ErrorKind, text: &str) {
        let error = error.into();
        assert_eq!((error.kind(), error.to_string().as_str()), (is, text));
    }

    #[test]
    fn each_reason_has_its_name_its_kind_and_its_text() {
        use io::ErrorKind::{ConnectionReset, InvalidData, TimedOut};
        let lost = io::Error::other("broken pipe");
        let crowded_out = CloseReason::CrowdedOut { silent_for: Duration::from_secs(2) };
        for (reason, name, is, text) in [
            (CloseReason::Closed, "closed", ConnectionReset, "closed on this side"),
            (CloseReason::Aborted, "aborted", ConnectionReset, "aborted on this side"),
            (CloseReason::PeerClosed, "peer_closed", ConnectionReset, "closed by the peer"),
            (
                CloseReason::DrainTimedOut { streams: 0 },
                "drain_timed_out",
                ConnectionReset,
                "did not end the connection",
            ),
            (
                CloseReason::DrainTimedOut { streams: 1 },
                "drain_timed_out",
                ConnectionReset,
                "and one stream did not end",
            ),
            (
                CloseReason::DrainTimedOut { streams: 2 },
                "drain_timed_out",
                ConnectionReset,
                "and 2 streams did not end",
            ),
            (CloseReason::PeerError(2), "peer_error", ConnectionReset, "error code 2"),
            (CloseReason::Lost(Arc::new(lost)), "lost", ConnectionReset, "lost: broken pipe"),
            (CloseReason::HeartbeatTimeout, "heartbeat_timeout", TimedOut, "silent after a ping"),
            (CloseReason::WriteStalled, "write_stalled", TimedOut, "stopped accepting"),
            (CloseReason::PingFlood, "ping_flood", InvalidData, "with pings"),
            (CloseReason::ControlFlood, "control_flood", InvalidData, "control frames"),
            (CloseReason::Protocol("nonsense".into()), "protocol", InvalidData, "nonsense"),
            (CloseReason::HeldOut, "held_out", ConnectionReset, "every place"),
            (CloseReason::NotAdmitted, "not_admitted", ConnectionReset, "does not admit"),
            (CloseReason::Displaced, "displaced", ConnectionReset, "gave the place"),
            (CloseReason::PeerTimedOut, "peer_timed_out", TimedOut, "heard nothing of this side"),
            (CloseReason::Replaced, "replaced", ConnectionReset, "replaced by another"),
            (CloseReason::NotProven, "not_proven", TimedOut, "did not answer in time"),
            (crowded_out, "crowded_out", TimedOut, "nothing for 2s"),
            (CloseReason::Panicked, "panicked", ConnectionReset, "panicked"),
            (CloseReason::RuntimeEnded, "runtime_ended", ConnectionReset, "runtime"),
        ] {
            assert_eq!(
                (reason.name(), reason.kind(), io::Error::from(reason.clone()).kind()),
                (name, is, is),
                "{reason}"
            );
            assert!(reason.to_string().contains(text), "{reason}");
            assert_eq!(reason.is_goodbye(), ["closed", "peer_closed"].contains(&name), "{reason}");
        }
    }

    #[test]
    fn what_a_caller_gets_as_an_io_error_has_its_kind_and_its_text() {
        use io::ErrorKind::{
            AddrInUse, BrokenPipe, ConnectionRefused, ConnectionReset, InvalidInput, NotConnected, Other, TimedOut,
        };
        for (error, is) in [
            (StreamError::Refused, ConnectionRefused),
            (StreamError::ResetByPeer, ConnectionReset),
            (StreamError::ResetHere, ConnectionReset),
            (StreamError::Flooded, ConnectionReset),
            (StreamError::Flooding, ConnectionReset),
            (StreamError::ShutDown, BrokenPipe),
        ] {
            assert_eq!(error.kind(), is);
            kind(error, is, &error.to_string());
        }
        let second = Duration::from_secs(1);
        kind(OpenError::TimedOut, TimedOut, &OpenError::TimedOut.to_string());
        let failed: Option<Arc<dyn Error + Send + Sync>> = Some(Arc::new(refused()));
        for (last_attempt, text) in [
            (None, "there was no session within 1s"),
            (failed.clone(), "there was no session within 1s; the last attempt failed: the certificate is refused"),
        ] {
            kind(OpenError::NoSession { within: second, last_attempt }, TimedOut, text);
        }
        kind(OpenError::Draining, NotConnected, "the session is closing and opens no more streams");
        kind(OpenError::Lost(CloseReason::NotProven), TimedOut, &CloseReason::NotProven.to_string());
        kind(OpenError::Stopped(Stopped::ShutDown), NotConnected, "the manager was shut down");
        for (attempts, text) in [(0, ""), (1, " after one attempt"), (2, " after 2 attempts")] {
            let gave_up = GaveUp { cause: GaveUpCause::Exhausted, attempts, last_error: failed.clone() };
            let text = format!("the manager gave up{text}: the limit on attempts was reached");
            kind(Stopped::GaveUp(Arc::new(gave_up)), NotConnected, &text);
        }
        kind(WaitError::TimedOut(second), TimedOut, "there was no session within 1s");
        kind(WaitError::Stopped(Stopped::ShutDown), NotConnected, "the manager was shut down");
        let error = || io::Error::new(AddrInUse, "it is taken");
        kind(StartError::Bind { address: "x:1".into(), error: error() }, AddrInUse, "it is taken");
        kind(StartError::Runtime { error: error() }, AddrInUse, "it is taken");
        for (error, is) in [
            (StartError::Address { address: "x".into() }, InvalidInput),
            (StartError::Sessions { sessions: 0 }, InvalidInput),
            (StartError::NoRuntime, Other),
            (StartError::CurrentThread, Other),
        ] {
            let text = error.to_string();
            kind(error, is, &text);
        }
    }

    #[test]
    fn what_an_error_of_a_transport_costs_is_what_it_was_made_for() {
        let connect =
            [ConnectError::transient(refused()), ConnectError::fatal(refused()), io::Error::other("no").into()];
        assert_eq!(connect.each_ref().map(ConnectError::is_fatal), [false, true, false]);
        assert_eq!(connect[0].to_string(), "the certificate is refused");
        assert_eq!(connect.map(|error| error.into_source().to_string())[2], "no");
        let accept =
            [AcceptError::connection(refused()), AcceptError::transient(refused()), AcceptError::fatal(refused())];
        assert_eq!(
            accept.each_ref().map(|error| (error.is_connection(), error.is_fatal())),
            [(true, false), (false, false), (false, true)]
        );
        assert_eq!(accept[0].to_string(), "the certificate is refused");
        assert!(accept[0].source().is_some_and(|source| source.to_string() == "it has expired"));
        assert_eq!(accept.map(|error| error.into_source().to_string())[2], "the certificate is refused");
        for (error, is_of_one) in [
            (io::ErrorKind::ConnectionAborted.into(), true),
            (io::ErrorKind::TimedOut.into(), true),
            (io::ErrorKind::NotConnected.into(), false),
            (io::Error::other("no more files"), false),
        ] {
            let error = AcceptError::from(error);
            assert_eq!((error.is_connection(), error.is_fatal()), (is_of_one, false), "{error}");
        }
    }
}
