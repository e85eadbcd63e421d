//! The same seed gives the same run, to the last byte of its trace: in any process, and under any load.

use std::process::{Command, Output};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::{env, fs, process};

use sim::subprocess::with_every_core_busy;

const SEED: u64 = 26;

#[test]
fn a_seed_gives_the_same_trace_in_two_processes_idle_and_loaded() {
    let _alone = alone();
    let idle = replay(SEED);
    let loaded = with_every_core_busy(|| replay(SEED));
    assert_eq!(hash_of(&idle), hash_of(&loaded), "the hashes of seed {SEED} differ");
    same(&idle, &loaded, SEED);
}

#[test]
fn a_seed_gives_the_same_hash_in_a_sweep_as_alone() {
    let _alone = alone();
    let json = env::temp_dir().join(format!("sim-determinism-{}.jsonl", process::id()));
    let swept = sim(&["sweep", "--from", "25", "--seeds", "3", "--jobs", "3", "--json", json.to_str().unwrap()]);
    let lines = fs::read_to_string(&json).unwrap();
    fs::remove_file(&json).unwrap();
    assert!(swept.status.success(), "{}", String::from_utf8_lossy(&swept.stdout));
    let alone = sim(&["replay", "26"]);
    assert!(alone.status.success());
    for hash in hash_of(&alone.stdout) {
        let is_here = lines.lines().any(|line| line.contains(&hash) && line.contains("\"seed\":26,"));
        assert!(is_here, "seed 26 has hash {hash} alone, and another one in the sweep");
    }
}

#[test]
fn two_seeds_give_two_traces() {
    let _alone = alone();
    let hashes = |seed| hash_of(&sim(&["replay", seed, "--scenario", "random"]).stdout);
    assert_ne!(hashes("2"), hashes("5"));
}

#[test]
fn a_scenario_that_does_not_exist_is_a_usage_error() {
    assert_eq!(sim(&["replay", "0", "--scenario", "nonesuch"]).status.code(), Some(2));
}

/// The tests of this file measure what load does: only one of them runs at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The whole trace of a seed, under every scenario.
fn replay(seed: u64) -> Vec<u8> {
    let output = sim(&["replay", &seed.to_string(), "--trace"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stdout.len() > 100_000, "a trace that short shows nothing");
    output.stdout
}

fn sim(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sim")).args(args).output().unwrap()
}

/// The hashes that the lines of a result end in, one for each scenario.
fn hash_of(output: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(output);
    let hashes = text.lines().filter(|line| line.contains(" s simulated, ")).filter_map(|line| {
        let (_, hash) = line.split_once(", trace ")?;
        Some(hash.chars().take_while(char::is_ascii_hexdigit).collect::<String>())
    });
    let hashes = hashes.collect::<Vec<_>>();
    assert!(!hashes.is_empty());
    hashes
}

fn same(idle: &[u8], loaded: &[u8], seed: u64) {
    if idle == loaded {
        return;
    }
    let (idle, loaded) = (String::from_utf8_lossy(idle), String::from_utf8_lossy(loaded));
    let differs = idle.lines().zip(loaded.lines()).enumerate().find(|(_, (idle, loaded))| idle != loaded);
    panic!("the traces of seed {seed} differ, first in: {differs:#?}");
}
