//! Says from which revision of the source the program is built.

use std::path::Path;
use std::process::Command;

fn main() {
    for path in ["../src", "../sim", "../proptests/src", "../Cargo.lock", "../.git/HEAD", "../.git/index"] {
        if Path::new(path).exists() {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    if let Some(revision) = revision() {
        println!("cargo::rustc-env=SIM_REVISION={revision}");
    }
}

/// With `+` when what git tracks was changed. None where there is no git, or no repository.
fn revision() -> Option<String> {
    let git = |args: &[&str]| {
        let output = Command::new("git").args(args).output().ok().filter(|output| output.status.success())?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let revision = git(&["rev-parse", "--short=12", "HEAD"])?;
    let changed = git(&["status", "--porcelain", "--untracked-files=no"])?;
    Some(if changed.is_empty() { revision } else { revision + "+" })
}
