//! The program itself, with the peers that it has in itself.

use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn interop(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_interop")).args(arguments).stdin(Stdio::null()).output().unwrap()
}

#[test]
fn a_row_has_a_verdict_for_each_role_and_actor() {
    let output = interop(&["--json", "--peer", "yamux-0.14", "--behaviour", "echo-1k"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let objects: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [peer, row, summary] = objects.as_slice() else { panic!("{text}") };
    assert_eq!(peer["peer"], "yamux-0.14");
    assert_eq!((&row["behaviour"], &row["verdict"]), (&"echo-1k".into(), &"ok".into()));
    let runs = row["runs"].as_array().unwrap();
    let roles = runs.iter().map(|run| (run["dials"].as_str().unwrap(), run["acts"].as_str().unwrap()));
    assert_eq!(
        roles.collect::<Vec<_>>(),
        [("evermux", "evermux"), ("evermux", "peer"), ("peer", "evermux"), ("peer", "peer")]
    );
    assert_eq!(summary["summary"]["runs"]["ok"], 4);
}

#[test]
fn a_fault_that_shows_without_evermux_is_the_peers() {
    let output = interop(&["--peer", "yamux-0.13", "--behaviour", "reset-opener-after-other"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(table.contains("peer") && table.contains("With itself in our place"), "{table}");
    assert!(!output.stderr.is_empty(), "it says what it is doing");
}

#[test]
fn a_command_that_cannot_be_carried_out_exits_with_2() {
    for wrong in
        [&["--peer", "nobody"][..], &["--behaviour", "nothing"], &["--jobs", "0"], &["nonsense"], &["peer", "x"]]
    {
        let output = interop(wrong);
        assert_eq!(output.status.code(), Some(2), "{wrong:?}: {output:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{wrong:?}: {output:?}");
    }
}

#[test]
fn help_and_list_say_something_and_exit_with_0() {
    for (arguments, part) in [(&["--help"][..], "Verdicts:"), (&["--list"], "twenty-lives")] {
        let output = interop(arguments);
        assert!(output.status.success(), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stdout).contains(part), "{output:?}");
    }
}
