//! One logical multiplexed connection that never dies.
#![forbid(unsafe_code)]

mod blocking;
pub mod config;
pub mod error;
pub mod manager;
pub mod provider;
mod random;
pub mod session;
pub mod sync;

#[doc(inline)]
pub use config::{Config, ConfigBuilder};
#[doc(inline)]
pub use error::{CloseReason, ConfigError, OpenError, StartError, Stopped, WaitError};
#[doc(inline)]
pub use manager::MuxManager;
#[doc(inline)]
pub use provider::{Accept, Connect, Connected, TcpAcceptor, TcpConnector};
#[doc(inline)]
pub use session::{BlockingStream, MuxStream, ReadHalf, Session, WriteHalf};
#[doc(inline)]
pub use sync::SessionId;
