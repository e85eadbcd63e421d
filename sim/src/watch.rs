//! Whether a run comes to an end.
//!
//! Simulated time does not pass while a task keeps waking itself, or while a thread waits for something that never happens.
//! What a run may use is processor time: real time would tell a machine that is busy from one that is not.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

/// How often a run is looked at.
pub(crate) const LOOK: Duration = Duration::from_millis(250);

/// How much processor time a run may take in one step of its clock.
pub(crate) const SPINS_AFTER: Duration = Duration::from_secs(5);

/// For how long, in real time, it may use no processor time and not want any: nothing in it waits for real time.
const SLEEPS_AFTER: Duration = Duration::from_secs(20);

/// Sees whether something comes to no end.
pub(crate) struct Patience {
    stat: PathBuf,
    longest: Duration,
    /// How far it was when it was last seen to move, and what it had used by then.
    at: u64,
    used_by_then: Duration,
    used: Duration,
    /// How often in a row it had used no processor time and wanted none.
    asleep: u32,
    looks: u32,
}

impl Patience {
    /// With a process that may use so much processor time without moving.
    pub(crate) fn with_process(process: u32, longest: Duration) -> Self {
        Self::new(PathBuf::from(format!("/proc/{process}/stat")), longest)
    }

    /// With a thread of this process, by the number that the kernel has given it.
    pub(crate) fn with_thread(thread: i32, longest: Duration) -> Self {
        Self::new(PathBuf::from(format!("/proc/self/task/{thread}/stat")), longest)
    }

    fn new(stat: PathBuf, longest: Duration) -> Self {
        let zero = Duration::ZERO;
        Self { stat, longest, at: 0, used_by_then: zero, used: zero, asleep: 0, looks: 0 }
    }

    /// Looks at it, once in each [`LOOK`]. It has come so far. Gives the reason when it is stuck.
    pub(crate) fn look(&mut self, at: u64) -> Option<String> {
        self.looks += 1;
        // Without procfs there is real time alone.
        let (wants, used) = usage(&self.stat).unwrap_or((true, LOOK * self.looks));
        self.asleep = if wants || used > self.used { 0 } else { self.asleep + 1 };
        self.used = used;
        if at != self.at {
            (self.at, self.used_by_then) = (at, used);
        }
        if used.saturating_sub(self.used_by_then) >= self.longest {
            let seconds = self.longest.as_secs();
            return Some(format!(
                "{seconds} s of processor time went by and no simulated time: a task keeps waking itself"
            ));
        }
        let seconds = SLEEPS_AFTER.as_secs();
        (LOOK * self.asleep >= SLEEPS_AFTER)
            .then(|| format!("nothing was done for {seconds} s of real time: a thread waits forever"))
    }
}

/// The number by which the kernel knows the thread that asks; 0 without procfs.
pub(crate) fn this_thread() -> i32 {
    let path = fs::read_link("/proc/thread-self").unwrap_or_default();
    path.file_name().and_then(|name| name.to_str()?.parse().ok()).unwrap_or_default()
}

/// Whether a process or thread wants a processor, and how much time it has had of one.
fn usage(stat: &PathBuf) -> Option<(bool, Duration)> {
    /// Linux counts in hundredths of a second here, whatever its own clock does.
    const TICK: Duration = Duration::from_millis(10);
    let stat = fs::read_to_string(stat).ok()?;
    // The name before it may hold anything.
    let (_, fields) = stat.rsplit_once(") ")?;
    let fields = fields.split(' ').collect::<Vec<_>>();
    let ticks = |field: usize| fields.get(field)?.parse::<u32>().ok();
    Some((*fields.first()? == "R", TICK * (ticks(11)? + ticks(12)?)))
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};
    use std::thread;

    use super::*;

    #[expect(clippy::disallowed_methods, reason = "it waits for a process, which no simulated clock drives")]
    fn stuck(script: &str) -> String {
        let mut child =
            Command::new("sh").args(["-c", script]).stdout(Stdio::null()).spawn().expect("there is a shell");
        let mut patience = Patience::with_process(child.id(), Duration::from_secs(300));
        let stuck = (0..10_000).find_map(|_| {
            thread::sleep(Duration::from_millis(1));
            patience.look(0)
        });
        child.kill().and_then(|()| child.wait()).expect("it runs");
        stuck.unwrap_or_default()
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_process_that_waits_for_ever_is_stuck_and_one_that_works_is_not() {
        assert!(stuck("exec sleep 1000").contains("nothing was done"), "it sleeps");
        // Ten seconds of it are not 300; it always wants more.
        assert_eq!(stuck("while :; do :; done"), "");
    }
}
