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
}
