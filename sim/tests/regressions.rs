//! Plans that broke a guarantee once: each is a capsule in `sim/regressions`, with the name of what it found, and passes.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

#[test]
fn every_plan_that_once_failed_passes() {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("regressions");
    let mut capsules = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
    capsules.sort();
    assert!(!capsules.is_empty());
    for capsule in capsules {
        let replayed = Command::new(env!("CARGO_BIN_EXE_sim")).arg("replay").arg(&capsule).output().unwrap();
        let (out, err) = (String::from_utf8_lossy(&replayed.stdout), String::from_utf8_lossy(&replayed.stderr));
        assert!(replayed.status.success(), "{}:\n{out}\n{err}", capsule.display());
        assert!(out.contains(": passed; "), "{}:\n{out}", capsule.display());
    }
}
