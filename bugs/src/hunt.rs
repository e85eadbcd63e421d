//! Runs checkers, and reads what they found.

#![expect(clippy::disallowed_methods, reason = "how long a checker takes is told by real time")]

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

/// How often a checker is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What a checker came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Nothing, in so many runs.
    Nothing { runs: u64 },
    /// A failure.
    Failure(Failure),
}

/// The first failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// The seed, for a simulation.
    pub(crate) seed: u64,
    /// The guarantee, or `hang`, `panic` and so on.
    pub(crate) named: String,
    pub(crate) what: String,
    /// Found by a real clock, which takes minutes.
    pub(crate) stuck: bool,
}

/// Sweeps these seeds. `tell` hears how far it is.
pub(crate) fn sweep(
    sim: &Path,
    arguments: &[String],
    (from, seeds): (u64, u64),
    limit: Duration,
    tell: impl FnMut(&str),
) -> Result<Found, String> {
    sweep_by(Command::new(sim), arguments, (from, seeds), limit, tell)
}

/// As [`sweep`], by a command of the simulation without arguments.
pub(crate) fn sweep_by(
    mut command: Command,
    arguments: &[String],
    (from, seeds): (u64, u64),
    limit: Duration,
    tell: impl FnMut(&str),
) -> Result<Found, String> {
    // Several may sweep with the same program at once.
    let json = Path::new(command.get_program()).with_extension(format!("{}.jsonl", std::process::id()));
    // What an earlier sweep left must not be taken for this one's.
    let _ = fs::remove_file(&json);
    command.args(["sweep", "--no-capsules"]).args(arguments).args([
        "--from",
        &from.to_string(),
        "--seeds",
        &seeds.to_string(),
        "--json",
    ]);
    command.arg(&json);
    let ended = follow(command, limit, tell, |_| false)?;
    let found = read(&fs::read_to_string(&json).unwrap_or_default());
    let _ = fs::remove_file(&json);
    match (found, ended.code) {
        (Found::Failure(failure), _) => Ok(Found::Failure(failure)),
        (_, None) if ended.timed_out => Ok(Found::Failure(Failure {
            seed: from,
            named: "hang".into(),
            what: format!("the sweep was still running after {} s", limit.as_secs()),
            stuck: true,
        })),
        (Found::Nothing { runs: 0 }, _) | (Found::Nothing { .. }, None | Some(1..)) => Err(format!(
            "the sweep told of no run that failed, and ended with {}: {}",
            ended.code.map_or("a signal".into(), |code| format!("status {code}")),
            ended.lines.iter().find(|line| !line.trim().is_empty()).map_or("no word", String::as_str),
        )),
        (found, Some(_)) => Ok(found),
    }
}

/// Runs tests that were built, with the command that runs them.
pub(crate) fn test(command: Command, limit: Duration, tell: impl FnMut(&str)) -> Result<Found, String> {
    let ended = follow(command, limit, tell, |_| false)?;
    let failed = ended.lines.iter().filter_map(|line| line.strip_prefix("test ")?.strip_suffix(" ... FAILED"));
    let failed: Vec<_> = failed.collect();
    let fail = |named: &str, what: String| {
        Ok(Found::Failure(Failure { seed: 0, named: named.into(), what, stuck: named == "hang" }))
    };
    match ended.code {
        Some(0) => {
            let passed =
                ended.lines.iter().filter(|line| line.starts_with("test ") && line.ends_with(" ... ok")).count();
            if passed == 0 { Err("no test has that name".into()) } else { Ok(Found::Nothing { runs: passed as u64 }) }
        }
        None if ended.timed_out => fail("hang", format!("the tests were still running after {} s", limit.as_secs())),
        _ if failed.is_empty() => fail("test", "the tests' process broke off".into()),
        _ => fail("test", failed.join(", ")),
    }
}

/// Reads the JSON lines of a sweep. What it does not know it leaves alone.
fn read(json: &str) -> Found {
    let mut runs = 0;
    for line in json.lines() {
        // A sweep that was stopped may have left half a line.
        let Ok(value) = serde_json::from_str::<Value>(line) else { continue };
        let (Some(seed), Some(outcome)) = (value["seed"].as_u64(), value["outcome"].as_str()) else { continue };
        runs += 1;
        if outcome == "passed" {
            continue;
        }
        let what = value["what"].as_str().unwrap_or(outcome).to_owned();
        let named = value["guarantee"].as_str().unwrap_or(outcome);
        let stuck = named == "hang";
        return Found::Failure(Failure { seed, named: named.into(), what, stuck });
    }
    Found::Nothing { runs }
}

/// How a command ended.
pub(crate) struct Ended {
    /// None after a signal.
    pub(crate) code: Option<i32>,
    pub(crate) timed_out: bool,
    /// What it said, the errors first.
    pub(crate) lines: Vec<String>,
}

/// Runs a command to its end, to the limit, or to a line that is enough. `tell` hears its errors.
pub(crate) fn follow(
    mut command: Command,
    limit: Duration,
    mut tell: impl FnMut(&str),
    enough: impl Fn(&str) -> bool,
) -> Result<Ended, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let told = |error: std::io::Error| format!("{name} cannot be run: {error}");
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(told)?;
    let begun = Instant::now();
    let (send, said) = mpsc::channel();
    let listen = |from: Option<Box<dyn Read + Send>>, is_error: bool| {
        let send = send.clone();
        from.map(|from| {
            thread::spawn(move || {
                let lines = BufReader::new(from).split(b'\n').map_while(Result::ok);
                for line in lines {
                    // Heard as long as somebody listens.
                    let _ = send.send((is_error, String::from_utf8_lossy(&line).into_owned()));
                }
            })
        })
    };
    listen(child.stderr.take().map(|from| Box::new(from) as _), true);
    listen(child.stdout.take().map(|from| Box::new(from) as _), false);
    drop(send);
    let (mut errors, mut lines) = (Vec::new(), Vec::new());
    let (mut timed_out, mut has_enough) = (false, false);
    loop {
        match said.recv_timeout(LOOK_EVERY) {
            Ok((is_error, line)) => {
                if is_error {
                    tell(&line);
                }
                has_enough |= enough(&line);
                if is_error { &mut errors } else { &mut lines }.push(line);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        timed_out = begun.elapsed() >= limit && !has_enough;
        if timed_out || has_enough {
            kill(&mut child);
            break;
        }
    }
    let code = child.wait().map_err(told)?.code();
    errors.append(&mut lines);
    Ok(Ended { code, timed_out, lines: errors })
}

/// Ends a checker and the processes that it has started: a run that stands still would go on forever.
fn kill(child: &mut Child) {
    let below = descendants(child.id());
    let _ = child.kill();
    for process in below {
        let _ = Command::new("kill").args(["-KILL", &process.to_string()]).stderr(Stdio::null()).status();
    }
}

fn descendants(of: u32) -> Vec<u32> {
    let Ok(listed) = Command::new("ps").args(["-A", "-o", "pid=,ppid="]).output() else { return Vec::new() };
    let listed = String::from_utf8_lossy(&listed.stdout);
    let pairs = listed.lines().filter_map(|line| {
        let mut numbers = line.split_whitespace().map(str::parse::<u32>);
        Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
    });
    below(of, &pairs.collect::<Vec<_>>())
}

/// The processes below one, by pairs of process and parent.
fn below(of: u32, pairs: &[(u32, u32)]) -> Vec<u32> {
    let mut found = vec![of];
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        found.extend(
            pairs.iter().filter(|(process, its)| *its == parent && *process != parent).map(|(process, _)| *process),
        );
        next += 1;
    }
    found.split_off(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(seed: u64, named: &str, what: &str, stuck: bool) -> Found {
        Found::Failure(Failure { seed, named: named.into(), what: what.into(), stuck })
    }

    #[test]
    fn the_first_failure_of_a_sweep_is_found() {
        let passed = r#"{"seed":3,"outcome":"passed","guarantee":null,"what":null,"new":{}}"#;
        let failed = r#"{"seed":4,"outcome":"failed","guarantee":"G10","what":"late"}"#;
        let totals = r#"{"sweep":{"runs":2}}"#;
        assert_eq!(read(&format!("{passed}\n{failed}\n{totals}\n")), failure(4, "G10", "late", false));
        assert_eq!(read(&format!("{passed}\n{totals}\n{{\"seed\":")), Found::Nothing { runs: 1 });
    }

    #[test]
    fn a_run_without_an_outcome_has_a_name_too() {
        let hang = r#"{"seed":4,"outcome":"failed","guarantee":"hang","what":"time stood still"}"#;
        assert_eq!(read(hang), failure(4, "hang", "time stood still", true));
        assert_eq!(read(r#"{"seed":4,"outcome":"lost","what":"ended"}"#), failure(4, "lost", "ended", false));
        assert_eq!(read(r#"{"seed":4,"outcome":"diverged"}"#), failure(4, "diverged", "diverged", false));
    }

    #[test]
    fn what_a_checker_has_started_ends_with_it() {
        assert_eq!(below(10, &[(11, 10), (12, 11), (13, 1), (14, 12), (1, 0)]), [11, 12, 14]);
    }

    #[test]
    fn a_checker_that_does_not_end_is_ended() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo one >&2; sleep 600; echo two"]);
        let mut heard = Vec::new();
        let ended = follow(command, Duration::from_millis(300), |line| heard.push(line.to_owned()), |_| false).unwrap();
        assert!(ended.timed_out && ended.code.is_none());
        assert_eq!(heard, ["one"]);
    }

    #[test]
    fn a_checker_that_has_said_enough_is_ended() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo one; sleep 600; echo two"]);
        let ended = follow(command, Duration::from_secs(60), |_| {}, |line| line == "one").unwrap();
        assert!(!ended.timed_out && ended.code.is_none());
        assert_eq!(ended.lines, ["one"]);
    }
}
