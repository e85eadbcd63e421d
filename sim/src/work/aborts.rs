//! A caller who ends the session it was given.

use rand::Rng;

use super::item::Work;
use super::request::exchange;
use crate::plan::ABORTS;
use crate::verdict::Violation;

pub(super) const WORK: Work = Work {
    name: ABORTS,
    about: "Aborts its session, asks again at once, and works on the next one",
    moves: |bytes| bytes,
    pauses_ms: 0,
    foreign: true,
    drawn: false,
    run: |item| {
        Box::pin(async {
            let aborted = item.session.id();
            item.session.abort();
            let again = item.manager.try_session();
            if again.is_some_and(|session| session.id() == aborted) {
                let text = format!("session {aborted} was given out after it was aborted");
                return Err(Violation::new("G3", text).into());
            }
            let next = item.manager.session().await.map_err(std::io::Error::from)?;
            if next.id() == aborted {
                let text = format!("whoever had aborted session {aborted} waited, and was given it again");
                return Err(Violation::new("G3", text).into());
            }
            let stream = next.open_stream().await.map_err(std::io::Error::from)?;
            exchange(stream, item.rng.next_u64(), item.bytes).await
        })
    },
};
