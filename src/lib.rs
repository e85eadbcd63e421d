//! One logical multiplexed connection that never dies.
#![forbid(unsafe_code)]

pub use config::{Config, ConfigBuilder};
pub use error::ConfigError;
pub use provider::{Accept, Connect, Connected, TcpAcceptor, TcpConnector};

pub mod config;
pub mod error;
pub mod provider;
mod random;
pub mod sync;
