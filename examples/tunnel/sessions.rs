//! Which sessions have ended, for who has nothing to read from them and nothing to write.

use std::{collections::VecDeque, future::pending, io};

use evermux::{CloseReason, SessionId};
use tokio::sync::watch;

/// How many ended sessions are remembered. Whoever asks got a stream of the session while it was live.
const MAX_REMEMBERED: usize = 1024;

/// The sessions that ended last.
#[derive(Debug, Default)]
pub(crate) struct Sessions(watch::Sender<VecDeque<(SessionId, CloseReason)>>);

impl Sessions {
    pub(crate) fn ended(&self, session: SessionId, reason: CloseReason) {
        self.0.send_modify(|ended| {
            if ended.len() == MAX_REMEMBERED {
                ended.pop_front();
            }
            ended.push_back((session, reason));
        });
    }

    /// Waits for the end of a session, and says why.
    pub(crate) async fn lost(&self, session: SessionId) -> io::Error {
        let mut receiver = self.0.subscribe();
        loop {
            let ended = receiver.borrow_and_update().iter().find(|(ended, _)| *ended == session).cloned();
            if let Some((_, reason)) = ended {
                return reason.into();
            }
            if receiver.changed().await.is_err() {
                pending::<()>().await;
            }
        }
    }
}
