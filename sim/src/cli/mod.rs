//! The commands.

/// Prints a line. Whoever reads may have seen enough, which is no failure.
macro_rules! say {
    ($($line:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stdout(), $($line)*);
    }};
}

pub(crate) mod list;
pub(crate) mod merge;
mod progress;
pub(crate) mod prove;
pub(crate) mod replay;
pub(crate) mod search;
pub(crate) mod shrink;
pub(crate) mod sweep;

use std::path::{Path, PathBuf};

/// The command that repeats a run.
fn again(scenario: &str, seed: u64) -> String {
    format!("cargo run --release -p sim -- replay {seed} --scenario {scenario} --trace")
}

/// Where the capsule of a run is written.
fn capsule(capsules: &Path, scenario: &str, seed: u64) -> PathBuf {
    capsules.join(format!("{scenario}-{seed}"))
}
