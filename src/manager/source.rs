//! Where a manager gets its sessions.

use std::{future::Future, net::SocketAddr};

use tracing::{Span, info_span};

use crate::{
    config::Config,
    error::{GaveUp, GaveUpCause, StartError},
    provider::{
        Accept, Connect, Provide, TcpAcceptor, TcpConnector, establisher, installer::Installer, progress::Activity,
        receiver,
    },
};

/// Where a manager gets its sessions. Sealed: implemented by the types in this module.
pub trait Source: sealed::Prepare {}

impl<S: sealed::Prepare> Source for S {}

/// A [`Source`] that listens. Sealed.
pub trait Listens: Source {}

impl Listens for ReceiveTcp {}

impl<A: Accept> Listens for ReceiveWith<A> {}

mod sealed {
    use super::{Config, Future, Provider, StartError};

    pub trait Prepare: Sized {
        #[allow(private_bounds, reason = "sealed")]
        type Provider: Provider;

        /// Reports errors before anything runs.
        fn prepare(self, config: &Config) -> impl Future<Output = Result<Self::Provider, StartError>> + Send;
    }
}

/// A provider that can run.
pub(super) trait Provider {
    fn activity(&self) -> Activity;

    fn local_addr(&self) -> Option<SocketAddr>;

    /// The span of its traces.
    fn span(&self) -> Span;

    fn run(self, installer: Installer) -> impl Future<Output = Result<(), GaveUp>> + Send + 'static;
}

/// Dials over TCP: [`MuxManager::establish`](crate::MuxManager::establish).
#[derive(Debug)]
pub struct EstablishTcp(pub(super) String);

/// Listens over TCP: [`MuxManager::receive`](crate::MuxManager::receive).
#[derive(Debug)]
pub struct ReceiveTcp(pub(super) String);

/// Dials with a connector: [`MuxManager::establish_with`](crate::MuxManager::establish_with).
#[derive(Debug)]
pub struct EstablishWith<C>(pub(super) C);

/// Listens with an acceptor: [`MuxManager::receive_with`](crate::MuxManager::receive_with).
#[derive(Debug)]
pub struct ReceiveWith<A>(pub(super) A);

/// Runs a custom provider: [`MuxManager::provide_with`](crate::MuxManager::provide_with).
#[derive(Debug)]
pub struct ProvideWith<P>(pub(super) P);

impl sealed::Prepare for EstablishTcp {
    type Provider = EstablishWith<TcpConnector>;

    async fn prepare(self, config: &Config) -> Result<Self::Provider, StartError> {
        Ok(EstablishWith(TcpConnector::new(self.0, config)?))
    }
}

impl sealed::Prepare for ReceiveTcp {
    type Provider = ReceiveWith<TcpAcceptor>;

    async fn prepare(self, config: &Config) -> Result<Self::Provider, StartError> {
        Ok(ReceiveWith(TcpAcceptor::bind(&self.0, config).await?))
    }
}

impl<C: Connect> sealed::Prepare for EstablishWith<C> {
    type Provider = Self;

    async fn prepare(self, _: &Config) -> Result<Self, StartError> {
        Ok(self)
    }
}

impl<A: Accept> sealed::Prepare for ReceiveWith<A> {
    type Provider = Self;

    async fn prepare(self, _: &Config) -> Result<Self, StartError> {
        Ok(self)
    }
}

impl<P: Provide> sealed::Prepare for ProvideWith<P> {
    type Provider = Self;

    async fn prepare(self, _: &Config) -> Result<Self, StartError> {
        Ok(self)
    }
}

impl<C: Connect> Provider for EstablishWith<C> {
    fn activity(&self) -> Activity {
        Activity::Connecting
    }

    fn local_addr(&self) -> Option<SocketAddr> {
        None
    }

    fn span(&self) -> Span {
        info_span!("establisher")
    }

    fn run(self, installer: Installer) -> impl Future<Output = Result<(), GaveUp>> + Send + 'static {
        establisher::establish(self.0, installer)
    }
}

impl<A: Accept> Provider for ReceiveWith<A> {
    fn activity(&self) -> Activity {
        Activity::Listening
    }

    fn local_addr(&self) -> Option<SocketAddr> {
        self.0.local_addr()
    }

    fn span(&self) -> Span {
        info_span!("receiver", local = self.0.local_addr().map(tracing::field::display))
    }

    fn run(self, installer: Installer) -> impl Future<Output = Result<(), GaveUp>> + Send + 'static {
        receiver::receive(self.0, installer)
    }
}

impl<P: Provide> Provider for ProvideWith<P> {
    fn activity(&self) -> Activity {
        Activity::Connecting
    }

    fn local_addr(&self) -> Option<SocketAddr> {
        None
    }

    fn span(&self) -> Span {
        info_span!("provider")
    }

    async fn run(self, installer: Installer) -> Result<(), GaveUp> {
        let ended = self.0.provide(installer.clone()).await;
        if installer.is_stopped() {
            return Ok(());
        }
        let (cause, last_error) = match ended {
            Ok(()) => (GaveUpCause::Ended, None),
            Err(error) => (GaveUpCause::Fatal, Some(error.into())),
        };
        Err(GaveUp { cause, attempts: 0, last_error })
    }
}
