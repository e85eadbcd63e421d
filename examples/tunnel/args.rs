//! The command line.

use std::time::Duration;

use clap::{Parser, Subcommand};
use evermux::{Config, ConfigError};

/// TCP through one connection that never dies, both ways.
///
/// Two of these make a tunnel: one receives the connection between them, the other establishes it, from behind a NAT
/// perhaps. Each may listen for TCP connections, which the other forwards to an address on its side.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "tunnel",
    after_help = "\
A web server behind a NAT, seen on port 8080 of a public host:

  public host$   tunnel receive   --mux 0.0.0.0:7233 --listen 0.0.0.0:8080
  behind NAT$    tunnel establish --mux public.example.com:7233 --forward 127.0.0.1:80

The end of a connection is carried as it is: FIN as FIN, while the other direction goes on, and a reset as a reset. When \
the connection between the two is lost, what it carried ends in a reset, never in FIN. It is neither encrypted nor \
authenticated: run it over a network that is.

Ctrl-C or SIGTERM drains, a second one ends at once.
Exit status: 0 if every connection in flight has finished; 1 if it could not start, gave up, or cut connections off at \
its end; 2 for wrong usage."
)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) role: Role,
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Role {
    /// Wait for the other side to dial
    Receive {
        /// Where to wait for it; port 0 lets the system choose
        #[arg(long, value_name = "HOST:PORT", value_parser = address)]
        mux: String,
        #[command(flatten)]
        settings: Settings,
    },
    /// Dial the other side, again and again when it is lost
    Establish {
        /// Where the other side receives; resolved anew each time
        #[arg(long, value_name = "HOST:PORT", value_parser = address)]
        mux: String,
        #[command(flatten)]
        settings: Settings,
    },
}

/// What both sides have.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Settings {
    #[command(flatten)]
    pub(crate) ways: Ways,
    /// How many connections to keep between the two sides; the same on both
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) sessions: u16,
    /// How many connections to carry at once, each way, with those that wait for a session. More are not accepted until
    /// one ends. Give both sides the same
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=16_384))]
    pub(crate) max_connections: u32,
    /// How long connections in flight may take to finish after Ctrl-C or SIGTERM. The other side's limit counts as well
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u32).range(0..=86_400))]
    drain: u32,
    /// After how long without a sign of life the other side is taken for dead, and dialled anew
    #[arg(long, value_name = "SECONDS", default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..=3600))]
    dead_after: u32,
    /// Print what happens as lines of JSON on standard output
    #[arg(long)]
    pub(crate) json: bool,
    /// What to call this side, in what it prints and traces
    #[arg(long, value_name = "TEXT")]
    pub(crate) name: Option<String>,
}

/// At least one of them.
#[derive(Clone, Debug, clap::Args)]
#[group(required = true, multiple = true)]
pub(crate) struct Ways {
    /// Accept TCP connections here, and carry each to the other side; port 0 lets the system choose
    #[arg(long, value_name = "HOST:PORT", value_parser = address)]
    pub(crate) listen: Option<String>,
    /// Connect what the other side carries here to this address; resolved anew each time
    #[arg(long, value_name = "HOST:PORT", value_parser = address)]
    pub(crate) forward: Option<String>,
}

impl Args {
    pub(crate) fn settings(&self) -> &Settings {
        match &self.role {
            Role::Receive { settings, .. } | Role::Establish { settings, .. } => settings,
        }
    }
}

impl Settings {
    pub(crate) fn drain(&self) -> Duration {
        Duration::from_secs(self.drain.into())
    }

    pub(crate) fn config(&self) -> Result<Config, ConfigError> {
        let dead_after = Duration::from_secs(self.dead_after.into());
        Config::builder()
            .heartbeat_idle(dead_after * 2 / 3)
            .heartbeat_timeout(dead_after / 3)
            .write_timeout(dead_after * 2 / 3)
            // Zero is no time to close anything in.
            .drain_timeout(self.drain().max(Duration::from_millis(1)))
            .max_concurrent_streams(self.max_connections)
            .build()
    }
}

/// Sees that there is a port. Whether there is such a host shows later, and may change.
fn address(text: &str) -> Result<String, String> {
    match text.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => Ok(text.to_owned()),
        _ => Err("give HOST:PORT, for example example.com:7233 or [::1]:7233".to_owned()),
    }
}
