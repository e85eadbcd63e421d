//! How a manager is started, and by what.

use std::error::Error;
use std::rc::Rc;
use std::sync::Arc;

use evermux::manager::{Builder, Source};
use evermux::provider::net::Dialer;
use evermux::{Config, MuxManager, StartError};
use tokio_util::sync::CancellationToken;

use super::provide::{Dialling, Listening};
use crate::context::{OTHER, PORT, RECEIVER, RunContext};
use crate::net::Listener;
use crate::plan::Side;
use crate::serve::serve_session;
use crate::usage::{Dials, Listens, Stops, Takes};
use crate::verdict::Violation;
use crate::yields::yielding;

/// A manager, and what it listens to besides.
pub(super) struct Started {
    pub(super) manager: MuxManager,
    /// Cancelled where it is to stop, if it was given one.
    pub(super) token: Option<CancellationToken>,
}

/// Starts the manager of a side on a host.
pub(super) async fn start(context: &Rc<RunContext>, host: &'static str, side: Side) -> Result<Started, Box<dyn Error>> {
    let on = context.host(host);
    // Each manager of a host draws other jitter.
    let seed = context.seed.wrapping_add(on.starts.replace(on.starts.get() + 1) << 32);
    let conditions = on.conditions.clone();
    let starting = Starting { context, host, side, seed };
    match side {
        Side::Establisher => {
            let connector = context.connector(host, Arc::clone(&context.target), conditions);
            match context.plan.usage.dials {
                Dials::Connector => starting.run(MuxManager::establish_with(Arc::new(connector))).await,
                Dials::Names => {
                    let dialer = Dialer::new(connector, format!("{RECEIVER}:{PORT}"), &starting.config())?;
                    starting.run(MuxManager::establish_with(dialer)).await
                }
                Dials::Provider => {
                    let places = context.plan.places(side);
                    starting.run(MuxManager::provide_with(Dialling { connector, places })).await
                }
            }
        }
        Side::Receiver => {
            // Taken by the manager before this one, were its shutdown not complete.
            let handshake = context.plan.network.handshake;
            let acceptor =
                Listener::bind(context.kernel(host).clone(), PORT, conditions, handshake).map_err(|error| {
                    Violation::new("G5", format!("the port of {host} is not free after a shutdown: {error}"))
                })?;
            let acceptor = Arc::new(acceptor);
            let address = acceptor.local_addr();
            let started = match context.plan.usage.listens {
                Listens::Acceptor if context.plan.usage.admits => {
                    let stranger = context.address(OTHER);
                    let builder = MuxManager::receive_with(acceptor)
                        .admit(move |peer| peer.is_none_or(|peer| Some(peer.ip()) != stranger));
                    starting.run(builder).await?
                }
                Listens::Acceptor => starting.run(MuxManager::receive_with(acceptor)).await?,
                Listens::Waits => starting.run(MuxManager::provide_with(Listening { acceptor, newest: false })).await?,
                Listens::Newest => starting.run(MuxManager::provide_with(Listening { acceptor, newest: true })).await?,
            };
            let bound = started.manager.local_addr();
            if context.plan.usage.listens == Listens::Acceptor && bound != Some(address) {
                return Err(
                    Violation::new("scenario", format!("{host} listens on {address}, and says {bound:?}")).into()
                );
            }
            Ok(started)
        }
    }
}

/// What every manager is started with.
struct Starting<'a> {
    context: &'a RunContext,
    host: &'static str,
    side: Side,
    seed: u64,
}

impl Starting<'_> {
    fn config(&self) -> Config {
        self.context.plan.config(self.side, self.seed)
    }

    async fn run<S: Source>(self, builder: Builder<S>) -> Result<Started, Box<dyn Error>> {
        let config = self.config();
        let Self { context, host, side, .. } = self;
        let usage = context.plan.usage;
        let mut builder = builder.name(host).config(config).sessions(context.plan.places(side));
        let token = matches!(usage.stops, Stops::Token).then(CancellationToken::new);
        if let Some(token) = &token {
            builder = builder.shutdown_on(token.clone());
        }
        match usage.takes {
            Takes::Sessions => {
                let (conditions, counters) = (context.conditions(host).clone(), context.counters.clone());
                builder = builder.on_session(move |session| {
                    yielding(serve_session(session, conditions.clone(), counters.clone(), (host, side)))
                });
            }
            Takes::None if side == Side::Establisher => builder = builder.accept_streams(false),
            Takes::Incoming | Takes::None => {}
        }
        let manager = builder.start().await.map_err(|error: StartError| Box::new(error) as Box<dyn Error>)?;
        if manager.name() != Some(host) {
            return Err(
                Violation::new("scenario", format!("the manager of {host} is called {:?}", manager.name())).into()
            );
        }
        Ok(Started { manager, token })
    }
}
