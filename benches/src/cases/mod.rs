//! What is measured: one module for each kind of work.

mod bulk;
mod cut;
mod flood;
mod open;
mod proof;
mod read;
mod restart;
mod round_trip;
mod slow;
mod wake;

use std::io;

use self::flood::Flood;
use crate::{
    measure::Sample,
    mux::{self, EVERMUX, TCP, YAMUX},
    scale::Scale,
};

/// What a sample is made with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup {
    pub(crate) scale: Scale,
    /// Threads of the runtime at each end.
    pub(crate) workers: usize,
}

/// One kind of work, and who does it.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    /// For one of these are the figures.
    pub(crate) unit: &'static str,
    pub(crate) contestants: &'static [&'static str],
    /// To whom the others are compared.
    pub(crate) baseline: &'static str,
    pub(crate) goals: &'static [Goal],
    /// Each sample takes seconds to prepare.
    pub(crate) is_slow: bool,
    pub(crate) run: fn(&str, &Setup) -> io::Result<Sample>,
}

/// What is to be reached.
pub(crate) struct Goal {
    pub(crate) contestant: &'static str,
    pub(crate) figure: Figure,
    /// The median must not be above it.
    pub(crate) most: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Figure {
    WallRatio,
    CpuRatio,
    WallNanos,
}

const fn goal(contestant: &'static str, figure: Figure, most: f64) -> Goal {
    Goal { contestant, figure, most }
}

/// CPU at most 0.6 times that of the raw crate, and never slower.
const BULK_ALONE: &[Goal] = &[goal(EVERMUX, Figure::CpuRatio, 0.6), goal(EVERMUX, Figure::WallRatio, 1.0)];
const NO_MORE: &[Goal] = &[goal(EVERMUX, Figure::CpuRatio, 1.0), goal(EVERMUX, Figure::WallRatio, 1.0)];
const ROUND_TRIP: &[Goal] = &[goal(EVERMUX, Figure::CpuRatio, 0.7), goal(EVERMUX, Figure::WallRatio, 1.0)];
const NOT_SLOWER: &[Goal] = &[goal(EVERMUX, Figure::WallRatio, 1.0)];
/// Within 10 % of a session that was proven at once.
const AS_FRESH: &[Goal] =
    &[goal(proof::LATE_PROOF, Figure::WallRatio, 1.1), goal(proof::TAKEOVER, Figure::WallRatio, 1.1)];
/// A short answer on a slow path: beside how many downloads it may take how many times as long as over TCP.
const BESIDE_1: &[Goal] = &[goal(EVERMUX, Figure::WallRatio, 4.0)];
const BESIDE_5: &[Goal] = &[goal(EVERMUX, Figure::WallRatio, 3.0)];
const BESIDE_20: &[Goal] = &[goal(EVERMUX, Figure::WallRatio, 2.0)];
/// A round trip and the longest call, on a machine that is not quiet.
const RESTART: &[Goal] = &[goal(EVERMUX, Figure::WallNanos, 60e6), goal(EVERMUX, Figure::WallRatio, 1.1)];
const READER: &[Goal] = &[goal(read::READER, Figure::WallNanos, 10.0)];

/// Between streams: every contestant, beside the raw crate.
const fn streams(
    name: &'static str,
    about: &'static str,
    unit: &'static str,
    goals: &'static [Goal],
    run: fn(&str, &Setup) -> io::Result<Sample>,
) -> Case {
    Case { name, about, unit, contestants: mux::ALL, baseline: YAMUX, goals, is_slow: false, run }
}

/// Beside downloads on a slow path: what callers meet, with the sockets of managers, and TCP.
const fn slow_path(
    name: &'static str,
    about: &'static str,
    goals: &'static [Goal],
    run: fn(&str, &Setup) -> io::Result<Sample>,
) -> Case {
    Case { name, about, unit: "request", contestants: slow::ALL, baseline: TCP, goals, is_slow: true, run }
}

/// A side whose peer sends what costs it most, and reads all.
const fn flood(name: &'static str, about: &'static str, run: fn(&str, &Setup) -> io::Result<Sample>) -> Case {
    Case { name, about, unit: "MiB", contestants: flood::ALL, baseline: YAMUX, goals: &[], is_slow: false, run }
}

/// Under gRPC: the longest of some restarts, with managers, and with TCP.
const fn restart(name: &'static str, about: &'static str, run: fn(&str, &Setup) -> io::Result<Sample>) -> Case {
    Case { name, about, unit: "restart", contestants: restart::ALL, baseline: TCP, goals: RESTART, is_slow: true, run }
}

/// All cases, in the order of the table.
pub(crate) const ALL: &[Case] = &[
    streams("bulk-1-16k", "one way on one stream, in writes of 16 KiB", "MiB", BULK_ALONE, |who, setup| {
        bulk::run(who, setup, 1, 16 << 10)
    }),
    streams("bulk-1-64k", "one way on one stream, in writes of 64 KiB", "MiB", BULK_ALONE, |who, setup| {
        bulk::run(who, setup, 1, 64 << 10)
    }),
    streams("bulk-8-16k", "one way on 8 streams, in writes of 16 KiB", "MiB", NO_MORE, |who, setup| {
        bulk::run(who, setup, 8, 16 << 10)
    }),
    streams("bulk-8-64k", "one way on 8 streams, in writes of 64 KiB", "MiB", NO_MORE, |who, setup| {
        bulk::run(who, setup, 8, 64 << 10)
    }),
    streams("open-1", "open, echo 64 bytes, close: one at a time", "stream", NO_MORE, |who, setup| {
        open::run(who, setup, 1)
    }),
    streams("open-64", "open, echo 64 bytes, close: 64 at once", "stream", NO_MORE, |who, setup| {
        open::run(who, setup, 64)
    }),
    streams(
        "round-trip",
        "64 bytes there and back on an open stream, alone",
        "round trip",
        ROUND_TRIP,
        round_trip::alone,
    ),
    streams(
        "round-trip-beside",
        "the same beside one bulk stream; CPU is for each MiB of the bulk",
        "round trip",
        NOT_SLOWER,
        round_trip::beside_bulk,
    ),
    Case {
        name: "bulk-late",
        about: "one way on one stream, in writes of 64 KiB, to a side whose proof was late",
        unit: "MiB",
        contestants: proof::ALL,
        baseline: proof::FRESH,
        goals: AS_FRESH,
        is_slow: false,
        run: proof::run,
    },
    slow_path("slow-path-1", "64 bytes there and back at 1 Mbit/s, beside a download", BESIDE_1, |who, setup| {
        slow::run(who, setup, 1)
    }),
    slow_path("slow-path-5", "the same beside 5 downloads", BESIDE_5, |who, setup| slow::run(who, setup, 5)),
    slow_path("slow-path-20", "the same beside 20 downloads", BESIDE_20, |who, setup| slow::run(who, setup, 20)),
    flood("flood-bulk", "a side that gets frames of 16 KiB; CPU is its own", |who, setup| {
        flood::run(who, setup, Flood::Bulk)
    }),
    flood("flood-tiny", "one that gets frames of one byte", |who, setup| flood::run(who, setup, Flood::Tiny)),
    flood("flood-credit", "one that gets credit of nothing", |who, setup| flood::run(who, setup, Flood::Credit)),
    flood("flood-pings", "one that gets pings", |who, setup| flood::run(who, setup, Flood::Pings)),
    flood("flood-opens", "one whose peer opens streams and resets them", |who, setup| {
        flood::run(who, setup, Flood::Opens)
    }),
    flood("flood-strays", "one that gets frames of no stream", |who, setup| flood::run(who, setup, Flood::Strays)),
    Case {
        name: "read-1",
        about: "a look at the live session, by one thread",
        unit: "look",
        contestants: read::ALL,
        baseline: read::ARC_SWAP,
        goals: READER,
        is_slow: false,
        run: |who, setup| read::run(who, setup, 1),
    },
    Case {
        name: "read-2",
        about: "a look at the live session, by two threads at once",
        unit: "look",
        contestants: read::ALL,
        baseline: read::ARC_SWAP,
        goals: READER,
        is_slow: false,
        run: |who, setup| read::run(who, setup, 2),
    },
    Case {
        name: "wake",
        about: "until the last of 10,000 waiting tasks runs",
        unit: "broadcast",
        contestants: wake::ALL,
        baseline: wake::NOTIFY,
        goals: &[],
        is_slow: false,
        run: wake::run,
    },
    Case {
        name: "cut",
        about: "from the cut of a stable connection to the first echo on the next",
        unit: "cut",
        contestants: cut::ALL,
        baseline: cut::REDIAL,
        goals: &[],
        is_slow: true,
        run: cut::run,
    },
    restart("restart-server", "a shutdown of the server under 8 callers whose gRPC calls take 50 ms", |who, setup| {
        restart::run(who, setup, restart::Side::Server)
    }),
    restart("restart-client", "the same of the client", |who, setup| restart::run(who, setup, restart::Side::Client)),
];

/// The cases of these names. A name that others begin with, up to a dash, means all of those.
pub(crate) fn chosen(names: &[String]) -> Result<Vec<&'static Case>, String> {
    let is_named = |case: &Case, name: &str| {
        case.name.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    };
    if let Some(unknown) = names.iter().find(|name| !ALL.iter().any(|case| is_named(case, name))) {
        let known: Vec<_> = ALL.iter().map(|case| case.name).collect();
        return Err(format!("there is no case `{unknown}`; there are {}", known.join(", ")));
    }
    let is_wanted = |case: &&Case| names.is_empty() || names.iter().any(|name| is_named(case, name));
    Ok(ALL.iter().filter(is_wanted).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(wanted: &[&str]) -> Vec<&'static str> {
        let wanted: Vec<_> = wanted.iter().map(ToString::to_string).collect();
        chosen(&wanted).unwrap().iter().map(|case| case.name).collect()
    }

    #[test]
    fn without_names_all_are_chosen() {
        assert_eq!(names(&[]).len(), ALL.len());
    }

    #[test]
    fn a_name_means_its_family() {
        assert_eq!(names(&["open"]), ["open-1", "open-64"]);
        assert_eq!(names(&["bulk-8", "cut"]), ["bulk-8-16k", "bulk-8-64k", "cut"]);
        assert_eq!(names(&["round-trip-beside"]), ["round-trip-beside"]);
    }

    #[test]
    fn an_unknown_name_is_an_error() {
        for unknown in ["bul", "open-6", "", "Cut"] {
            assert!(chosen(&[unknown.to_owned()]).is_err(), "{unknown}");
        }
    }

    #[test]
    fn each_baseline_and_each_goal_is_of_a_contestant() {
        for case in ALL {
            assert!(case.contestants.contains(&case.baseline), "{}", case.name);
            assert!(case.goals.iter().all(|goal| case.contestants.contains(&goal.contestant)), "{}", case.name);
        }
    }
}
