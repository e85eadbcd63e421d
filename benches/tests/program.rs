//! The program itself, with tiny samples. What it measures then means nothing.

use std::{
    collections::BTreeSet,
    process::{Command, Output},
};

use serde_json::Value;

fn benches(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_benches")).args(arguments).output().unwrap()
}

fn objects(output: &Output) -> Vec<Value> {
    let text = str::from_utf8(&output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn text(object: &Value, field: &str) -> String {
    object[field].as_str().unwrap().to_owned()
}

#[test]
fn every_case_and_contestant_gives_a_row() {
    let listed = objects(&benches(&["--list", "--json"]));
    let expected: BTreeSet<_> = listed
        .iter()
        .flat_map(|case| {
            let contestants = case["contestants"].as_array().unwrap().iter();
            contestants.map(|contestant| (text(case, "case"), contestant.as_str().unwrap().to_owned()))
        })
        .collect();
    assert!(listed.len() >= 12 && expected.len() > 2 * listed.len(), "{expected:?}");

    let output = benches(&["--smoke", "--json"]);
    assert!(output.status.success(), "{output:?}");
    let objects = objects(&output);
    let [settings, rows @ .., summary] = objects.as_slice() else { panic!("{objects:?}") };
    assert_eq!(settings["settings"]["size"], "smoke");
    assert_eq!(summary["summary"]["failed"].as_array().map(Vec::len), Some(0), "{summary}");
    let seen: BTreeSet<_> = rows.iter().map(|row| (text(row, "case"), text(row, "contestant"))).collect();
    assert_eq!(seen, expected);
    assert_eq!(rows.len(), expected.len());
    for row in rows {
        assert!(row["wall_ns"]["median"].as_f64().is_some_and(|wall| wall > 0.0), "{row}");
        assert!(row["cpu_ns"]["median"].as_f64().is_some(), "{row}");
        assert!(row["wall_ratio"]["median"].as_f64().is_some(), "{row}");
        let is_latency = ["round-trip", "slow-path"].iter().any(|family| text(row, "case").starts_with(family));
        assert_eq!(row["p99_ns"]["median"].as_f64().is_some(), is_latency, "{row}");
    }
}

#[test]
fn the_table_names_its_goals() {
    let output = benches(&["--smoke", "--only", "round-trip", "--only", "read-1"]);
    assert!(output.status.success(), "{output:?}");
    let table = String::from_utf8(output.stdout).unwrap();
    for part in ["round-trip-beside", "tokio-yamux", "CPU ≤ 0.70", "wall ≤ 10.0 ns", "p99", "2 workers"] {
        assert!(table.contains(part), "`{part}` is not in\n{table}");
    }
    assert!(!table.contains("bulk-1-16k"), "{table}");
}

#[test]
fn a_command_that_cannot_be_carried_out_exits_with_2() {
    for wrong in [
        &["--only", "nonsense"][..],
        &["--only"],
        &["--rounds", "0"],
        &["--workers", "none"],
        &["--quick", "--smoke"],
        &["nonsense"],
        &["one", "bulk-1-16k"],
        &["one", "bulk-1-16k", "nobody"],
        &["one", "nothing", "evermux"],
    ] {
        let output = benches(wrong);
        assert_eq!(output.status.code(), Some(2), "{wrong:?}: {output:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{wrong:?}: {output:?}");
    }
}

#[test]
fn help_and_list_say_something_and_exit_with_0() {
    for asked in ["--help", "--list"] {
        let output = benches(&[asked]);
        assert!(output.status.success(), "{asked}");
        assert!(String::from_utf8(output.stdout).unwrap().contains("one way on one stream") || asked == "--help");
    }
}
