//! Through which parts of evermux's interface the programs of a run do what they do.

use serde::{Deserialize, Serialize};

/// Through which parts of evermux's interface the programs of a run do what they do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Usage {
    /// From whom the establisher gets its sessions.
    pub dials: Dials,
    /// From whom the receiver gets its sessions.
    pub listens: Listens,
    /// How inbound streams are taken.
    pub takes: Takes,
    /// How a manager is told to stop.
    pub stops: Stops,
    /// Whether the receiver asks about each connection, and admits the establisher alone.
    pub admits: bool,
}

/// From whom the establisher gets its sessions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dials {
    /// A connector.
    #[default]
    Connector,
    /// A dialer, which looks the receiver's name up and races its addresses.
    Names,
    /// A provider of its own.
    Provider,
}

/// From whom the receiver gets its sessions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Listens {
    /// An acceptor.
    #[default]
    Acceptor,
    /// A provider of its own, whose candidates wait for a place.
    Waits,
    /// A provider of its own, which gives the place to whoever comes last.
    Newest,
}

/// How inbound streams are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Takes {
    /// From the manager, those of every session.
    #[default]
    Incoming,
    /// From each session, by the hook that is called with it.
    Sessions,
    /// Not at all by the establisher, whose peer opens none.
    None,
}

/// How a manager is told to stop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stops {
    /// `shutdown`.
    #[default]
    Shutdown,
    /// `shutdown_within`, so many milliseconds.
    Within(u64),
    /// The token that it was given.
    Token,
    /// `stop_accepting`, and so many milliseconds later `shutdown`.
    StopAccepting(u64),
}
