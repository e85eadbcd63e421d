//! This program in the place of the compiler: it adds what makes code count how often it runs.
//!
//! cargo runs it for the packages of the workspace alone (`RUSTC_WORKSPACE_WRAPPER`), so dependencies are not slowed
//! down, nor is what they are built of counted.

use std::env;
use std::ffi::OsString;
use std::process::{Command, ExitCode};

/// Set where cargo runs this program as the compiler.
pub(crate) const MARK: &str = "EVERMUX_COVERAGE_IS_RUSTC";

/// Compiles, if this program was run for that.
pub(crate) fn compile() -> Option<ExitCode> {
    env::var_os(MARK)?;
    let mut arguments = env::args_os().skip(1);
    let mut rustc = Command::new(arguments.next()?);
    let arguments: Vec<_> = arguments.collect();
    rustc.args(&arguments).env_remove(MARK);
    if counts(&arguments) {
        rustc.args(["-C", "instrument-coverage"]);
    }
    Some(match rustc.status() {
        Ok(status) => ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)),
        Err(error) => {
            eprintln!("coverage: the compiler cannot be run: {error}");
            ExitCode::FAILURE
        }
    })
}

/// What runs while something is built would leave counts that nobody wants.
fn counts(arguments: &[OsString]) -> bool {
    !arguments.iter().any(|argument| argument.to_string_lossy().starts_with("build_script_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_script_is_not_counted() {
        let counts = |name: &str| counts(&["--crate-name".into(), name.into(), "--edition=2024".into()]);
        assert!(counts("evermux") && !counts("build_script_build"));
    }
}
