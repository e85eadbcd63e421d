//! The command line.

use clap::{CommandFactory, Parser, error::ErrorKind};

/// Keeps work going over one connection while its link is cut and frozen.
///
/// Runs two evermux managers in this process, a receiver and an establisher, joined by a TCP link on 127.0.0.1. Callers
/// send requests over it and compare every reply byte by byte, while the link is cut and frozen again and again.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "failover",
    after_help = "Exit status: 0 if every request was answered correctly and nothing was left \
behind; 1 if a reply was wrong, a request was lost, a caller hung, or a task or socket was left; 2 for wrong usage."
)]
pub(crate) struct Args {
    /// How long to run, in seconds
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub(crate) seconds: u32,
    /// How often to cut the link, half of them by RST, half by FIN [default: once in two seconds]
    #[arg(long, value_name = "N")]
    cuts: Option<u32>,
    /// How often to freeze the link: nothing is forwarded, nothing is closed [default: once in six seconds]
    #[arg(long, value_name = "N")]
    freezes: Option<u32>,
    /// How many callers send requests; every second one is a thread, the others are async tasks
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub(crate) callers: u32,
    /// Seed of the fault schedule and of the requests
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
    /// Print the result as one line of JSON; all else goes to standard error
    #[arg(long)]
    pub(crate) json: bool,
}

impl Args {
    pub(crate) fn cuts(&self) -> u32 {
        self.cuts.unwrap_or(self.seconds / 2)
    }

    pub(crate) fn freezes(&self) -> u32 {
        self.freezes.unwrap_or(self.seconds / 6)
    }

    pub(crate) fn threads(&self) -> u32 {
        self.callers / 2
    }

    /// Ends the program as a wrong argument does.
    pub(crate) fn refuse(message: &str) -> ! {
        Self::command().error(ErrorKind::ValueValidation, message).exit()
    }
}
