//! What makes a session one of its owner's.

use std::sync::{Arc, atomic::AtomicUsize};

use super::{inbound::Inbound, state::OnRetire};
use crate::{
    config::Config,
    sync::{Arrivals, SessionId},
};

/// What its owner gives a session.
pub(crate) struct Identity {
    pub(crate) id: SessionId,
    pub(crate) clear: OnRetire,
    pub(crate) load: Arc<AtomicUsize>,
    /// Where the streams of its peer wait.
    pub(crate) arrivals: Arc<Arrivals<Inbound>>,
}

impl Identity {
    /// For a session that belongs to no manager.
    pub(crate) fn standalone(config: &Config) -> Self {
        let arrivals = Arc::new(Arrivals::new(config.accept_backlog()));
        Self { id: SessionId::STANDALONE, clear: Box::new(|| ()), load: Arc::default(), arrivals }
    }
}
