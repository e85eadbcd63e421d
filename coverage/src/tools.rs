//! The programs of LLVM that read what was counted. They must be those of the compiler, and come with rustup.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Failure;

/// What rustup calls them.
const COMPONENT: &str = "llvm-tools";

/// Where they are.
pub(crate) struct Tools {
    pub(crate) profdata: PathBuf,
    pub(crate) cov: PathBuf,
}

impl Tools {
    /// Finds the tools of the compiler that builds this workspace, and installs them if they are missing.
    pub(crate) fn find(workspace: &Path) -> Result<Self, Failure> {
        let folder = folder(workspace)?;
        let tool = |name: &str| folder.join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
        let tools = Self { profdata: tool("llvm-profdata"), cov: tool("llvm-cov") };
        if tools.are_there() {
            return Ok(tools);
        }
        eprintln!("installing {COMPONENT}: rustup component add {COMPONENT}");
        let said = match Command::new("rustup")
            .args(["component", "add", COMPONENT])
            .current_dir(workspace)
            .stdin(Stdio::null())
            .output()
        {
            Ok(output) if tools.are_there() => {
                // What was installed is of interest; what could not be told is not.
                let _ = io::stderr().write_all(&output.stderr);
                return Ok(tools);
            }
            Ok(output) => {
                let text = String::from_utf8_lossy(&output.stderr);
                let error = text.lines().find(|line| line.starts_with("error")).or_else(|| text.lines().last());
                error
                    .unwrap_or("rustup has installed them for another compiler")
                    .trim_start_matches("error: ")
                    .to_owned()
            }
            Err(error) => format!("rustup cannot be run: {error}"),
        };
        Err(Failure::CannotRun(format!(
            "llvm-profdata and llvm-cov are not there, and cannot be installed: {said}\n\
             With rustup, `rustup component add {COMPONENT}` installs them. They must be those of the compiler, and \
             lie in {}",
            folder.display()
        )))
    }

    fn are_there(&self) -> bool {
        self.profdata.is_file() && self.cov.is_file()
    }
}

/// The folder of the compiler's own tools.
fn folder(workspace: &Path) -> Result<PathBuf, Failure> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let ask = |arguments: &[&str]| {
        let output = Command::new(&rustc).args(arguments).current_dir(workspace).stdin(Stdio::null()).output();
        let output = output.map_err(|error| Failure::CannotRun(format!("the compiler cannot be run: {error}")))?;
        Ok::<_, Failure>(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let sysroot = ask(&["--print", "sysroot"])?;
    let version = ask(&["-vV"])?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    let host = host.ok_or_else(|| Failure::CannotRun("the compiler does not say what it builds for".into()))?;
    Ok(Path::new(sysroot.trim()).join("lib").join("rustlib").join(host).join("bin"))
}
