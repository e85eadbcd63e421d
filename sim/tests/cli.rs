//! What the commands say and write, and what their exit status means.

use std::path::PathBuf;
use std::process::{Command, Output};
use std::{env, fs, process};

#[test]
fn a_failure_becomes_a_capsule_with_a_shrunk_plan_that_replays() {
    let directory = scratch("capsule");
    let to = directory.to_str().unwrap();
    // From a seed whose first failure is a short run: it is tried a hundred times.
    let swept = sim(&["sweep", "--scenario", "red", "--from", "5", "--seeds", "20", "--no-capsules"]);
    let told = text(&swept.stdout);
    assert_eq!(swept.status.code(), Some(1), "{told}");
    let seed = told.split_once("red, seed ").and_then(|(_, rest)| rest.split_once(": FAILED, scenario: ")).unwrap().0;
    let shrunk = sim(&["shrink", seed, "--scenario", "red", "--capsules", to]);
    assert_eq!(shrunk.status.code(), Some(1), "{}", text(&shrunk.stderr));
    let capsule = fs::read_dir(&directory).unwrap().next().unwrap().unwrap().path();
    let kept: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(capsule.join("capsule.json")).unwrap()).unwrap();
    let (shrunk, drawn) = (faults(&kept["plan"]), faults(&kept["drawn_plan"]));
    assert!(shrunk <= 1 && shrunk <= drawn, "{shrunk} faults are left of {drawn}");
    assert_eq!(kept["plan"]["callers"].as_array().unwrap().len(), 1);
    assert!(fs::metadata(capsule.join("trace.txt")).unwrap().len() > 1_000);
    let page = fs::read_to_string(capsule.join("timeline.html")).unwrap();
    assert!(page.contains("did not come true") && page.contains("was interrupted"), "the page says what failed");

    let replayed = sim(&["replay", capsule.to_str().unwrap()]);
    assert_eq!(replayed.status.code(), Some(1));
    assert!(text(&replayed.stdout).contains("the trace is the one in the capsule, to the last byte"));

    // A capsule whose trace is another one says so.
    let other = fs::read_to_string(capsule.join("capsule.json")).unwrap().replace("\"trace\": \"", "\"trace\": \"0");
    fs::write(capsule.join("capsule.json"), other).unwrap();
    assert!(text(&sim(&["replay", capsule.to_str().unwrap()]).stdout).contains("is not the one in the capsule"));
    fs::remove_dir_all(&directory).unwrap();
}

/// Nothing that spins has an end of its own: neither the run, nor its trace, nor the search for a smaller plan.
#[test]
fn a_run_that_comes_to_no_end_becomes_a_small_capsule_that_says_where_it_stands() {
    let directory = scratch("hang");
    let to = directory.to_str().unwrap();
    let shrunk = sim(&["shrink", "3", "--scenario", "spins", "--plans", "40", "--capsules", to]);
    let told = text(&shrunk.stdout);
    assert_eq!(shrunk.status.code(), Some(1), "{told} {}", text(&shrunk.stderr));
    assert!(
        told.contains("FAILED, hang: 5 s of processor time") && told.contains("The clock stands at 2.00"),
        "{told}"
    );
    assert!(told.contains("What was seen last: ") && told.contains("plans tried, which is all that may be"), "{told}");
    let capsule = directory.join("spins-3");
    let files = fs::read_dir(&capsule).unwrap().map(|file| file.unwrap().metadata().unwrap().len());
    let bytes: u64 = files.sum();
    assert!((10_000..2 << 20).contains(&bytes), "{bytes}");
    let trace = fs::read_to_string(capsule.join("trace.txt")).unwrap();
    assert!(trace.contains("bytes are left out") && trace.contains("spins"), "the beginning and the end are there");
    let kept: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(capsule.join("capsule.json")).unwrap()).unwrap();
    assert!(faults(&kept["plan"]) < faults(&kept["drawn_plan"]), "half of the faults were of no use");

    let replayed = sim(&["replay", capsule.to_str().unwrap(), "--trace"]);
    assert_eq!(replayed.status.code(), Some(1));
    assert!(replayed.stdout.len() < 64 << 20, "{}", replayed.stdout.len());
    assert!(text(&replayed.stdout).contains("FAILED, hang"));
    fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn shards_share_the_seeds_and_merge_adds_them_up() {
    let directory = scratch("merge");
    let file = |name: &str| directory.join(name).to_str().unwrap().to_owned();
    let sweep = |more: &[&str], json: &str| {
        let swept =
            sim(&[&["sweep", "--scenario", "smoke", "--from", "7", "--seeds", "8"], more, &["--json", json]].concat());
        assert!(swept.status.success(), "{}", text(&swept.stdout));
    };
    let (whole, first, second) = (file("whole.jsonl"), file("first.jsonl"), file("second.jsonl"));
    sweep(&[], &whole);
    sweep(&["--shard", "1/2"], &first);
    sweep(&["--shard", "2/2"], &second);
    let merged = |files: &[&str]| {
        let output = sim(&[&["merge", "--json"], files].concat());
        assert!(output.status.success(), "{}", text(&output.stderr));
        let mut value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        // In which order the states were seen is another matter.
        value["merged"]["curve"].take();
        without_real_time(&mut value);
        value["merged"].take()
    };
    assert_eq!(merged(&[&whole])["runs"], 8);
    assert_eq!(merged(&[&whole]), merged(&[&first, &second]));

    // What is not a whole is not added up, nor what would count twice.
    let refused = |files: &[&str], why: &str| {
        let output = sim(&[&["merge"], files].concat());
        assert_eq!(output.status.code(), Some(2));
        assert!(text(&output.stderr).contains(why), "{}", text(&output.stderr));
    };
    refused(&[&first], "share 2 of 2 is missing");
    refused(&[&first, &second, &first], "it is of the same seeds as");
    let of_another = fs::read_to_string(&second).unwrap().replace("\"revision\":", "\"revision\":\"0123\",\"was\":");
    fs::write(&second, of_another).unwrap();
    refused(&[&first, &second], "it is of 0123, and");

    // Half a file is no file.
    let half = fs::read_to_string(&first).unwrap().lines().take(2).collect::<Vec<_>>().join("\n");
    fs::write(&first, half).unwrap();
    let output = sim(&["merge", &first]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("was the sweep stopped before its end?"), "{}", text(&output.stderr));
    fs::remove_dir_all(&directory).unwrap();
}

/// Leaves out how long runs have taken.
fn without_real_time(value: &mut serde_json::Value) {
    if let serde_json::Value::Object(fields) = value {
        fields.remove("took_ms");
        fields.values_mut().for_each(without_real_time);
    }
}

#[test]
fn a_search_begins_with_the_runs_of_a_sweep_and_tells_of_each_in_order_with_any_number_of_jobs() {
    let directory = scratch("search");
    let lines = |jobs: &str| {
        let json = directory.join(format!("{jobs}.jsonl"));
        let arguments = ["search", "--seed", "7", "--runs", "3", "--jobs", jobs, "--json", json.to_str().unwrap()];
        let searched = sim(&arguments);
        assert!(searched.status.success(), "{}", text(&searched.stdout));
        let text = fs::read_to_string(json).unwrap();
        let mut lines =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<serde_json::Value>>();
        lines.iter_mut().for_each(without_real_time);
        lines
    };
    let runs = lines("1");
    assert_eq!(runs, lines("3"));
    let seeds = runs[..3].iter().map(|run| (run["run"].as_u64().unwrap(), run["seed"].as_u64().unwrap()));
    assert_eq!(seeds.collect::<Vec<_>>(), [(0, 7), (1, 8), (2, 9)]);
    assert!(runs[..3].iter().all(|run| run["from"].is_null() && run["new"].as_u64().unwrap() > 0));
    assert_eq!(runs[3]["search"]["runs"], 3);
    let replayed = sim(&["replay", "8", "--scenario", "random", "--json"]);
    let replayed: serde_json::Value = serde_json::from_slice(&replayed.stdout).unwrap();
    assert_eq!(replayed["trace"], runs[1]["trace"]);
    fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn a_counter_that_was_never_raised_fails_a_sweep_that_requires_all() {
    let swept = sim(&["sweep", "--scenario", "smoke", "--seeds", "1", "--require-all"]);
    assert_eq!(swept.status.code(), Some(1));
    assert!(text(&swept.stdout).contains("never: fault cut; "), "{}", text(&swept.stdout));
}

#[test]
fn a_replay_ends_where_it_is_told_to() {
    let replayed = sim(&["replay", "5", "--scenario", "calm", "--until", "2.5"]);
    assert!(replayed.status.success());
    assert!(
        text(&replayed.stdout).contains("nothing was broken until then; 2.500 s simulated"),
        "{}",
        text(&replayed.stdout)
    );
}

#[test]
fn a_plan_that_is_printed_can_be_run() {
    let directory = scratch("plan");
    let plan = directory.join("plan.json");
    let shown = sim(&["replay", "5", "--scenario", "smoke", "--show-plan"]);
    fs::write(&plan, &shown.stdout).unwrap();
    let drawn = sim(&["replay", "5", "--scenario", "smoke"]);
    let read = sim(&["replay", "5", "--scenario", "smoke", "--plan", plan.to_str().unwrap()]);
    assert_eq!(text(&drawn.stdout), text(&read.stdout));

    fs::write(&plan, text(&shown.stdout).replace("\"kind\": \"", "\"kind\": \"not ")).unwrap();
    let wrong = sim(&["replay", "5", "--scenario", "smoke", "--plan", plan.to_str().unwrap()]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(text(&wrong.stderr).contains("there is no fault \"not "), "{}", text(&wrong.stderr));
    fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn what_cannot_be_done_is_a_usage_error_that_says_what_can() {
    for (args, says) in [
        (&["replay", "0", "--scenario", "nonesuch"][..], "there are: random"),
        (&["replay", "no-such-directory"], "neither a seed"),
        (&["replay", "src"], "is not a failure capsule"),
        (&["sweep", "--shard", "3/2"], "as 2/3"),
        (&["shrink", "1", "--scenario", "smoke"], "there is nothing to shrink"),
        (&["merge", "no-such-file"], "No such file"),
    ] {
        let output = sim(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(text(&output.stderr).contains(says), "{args:?}: {}", text(&output.stderr));
    }
}

fn faults(plan: &serde_json::Value) -> usize {
    plan["faults"].as_array().unwrap().len()
}

fn scratch(name: &str) -> PathBuf {
    let directory = env::temp_dir().join(format!("sim-cli-{name}-{}", process::id()));
    fs::create_dir_all(&directory).unwrap();
    directory
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn sim(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sim")).args(args).output().unwrap()
}
