//! What came of a run.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};

use crate::counters::Worst;
use crate::trace;
use crate::verdict::Violation;

/// What came of a run. Two runs of the same scenario with the same seed have equal outcomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The name of the scenario.
    pub scenario: &'static str,
    /// The seed.
    pub seed: u64,
    /// Which runs it is one of: those of a scenario whose plans are of one [kind](crate::plan::Plan::kind).
    pub kind: String,
    /// The hash and the length of the trace.
    pub trace: trace::Summary,
    /// How much time passed in the simulation.
    pub simulated: Duration,
    /// How often each rare thing happened.
    pub counters: BTreeMap<Cow<'static, str>, u64>,
    /// The longest that each thing with a bound took.
    pub worst: BTreeMap<Cow<'static, str>, Worst>,
    /// The states that the run was in, as numbers.
    pub states: BTreeSet<u64>,
    /// What it came to, as numbers in order: see [`reached`](crate::reached).
    pub reached: Vec<u64>,
    /// The first guarantee that was broken.
    pub result: Result<(), Violation>,
}

impl Outcome {
    /// One JSON object.
    pub fn to_json(&self) -> Value {
        json!({
            "scenario": self.scenario,
            "seed": self.seed,
            "kind": self.kind,
            "outcome": if self.result.is_ok() { "passed" } else { "failed" },
            "guarantee": self.result.as_ref().err().map(|broken| &broken.guarantee),
            "what": self.result.as_ref().err().map(|broken| &broken.what),
            "trace": format!("{:032x}", self.trace.hash),
            "events": self.trace.lines,
            "simulated_ms": u64::try_from(self.simulated.as_millis()).unwrap_or(u64::MAX),
            "counters": self.counters,
            "worst": self.worst,
            "states": self.states,
            "reached": self.reached,
        })
    }

    /// Reads [`to_json`](Self::to_json) of a run of this scenario back.
    pub fn from_json(text: &str, scenario: &'static str) -> Option<Self> {
        let value: Value = serde_json::from_str(text).ok()?;
        let text_of = |name: &str| value[name].as_str().map(str::to_owned);
        Some(Self {
            scenario: (value["scenario"] == scenario).then_some(scenario)?,
            seed: value["seed"].as_u64()?,
            kind: text_of("kind")?,
            trace: trace::Summary {
                hash: u128::from_str_radix(value["trace"].as_str()?, 16).ok()?,
                lines: value["events"].as_u64()?,
            },
            simulated: Duration::from_millis(value["simulated_ms"].as_u64()?),
            counters: (value["counters"].as_object()?.iter())
                .map(|(name, count)| Some((Cow::Owned(name.clone()), count.as_u64()?)))
                .collect::<Option<_>>()?,
            worst: serde_json::from_value(value["worst"].clone()).ok()?,
            states: serde_json::from_value(value["states"].clone()).ok()?,
            reached: serde_json::from_value(value["reached"].clone()).ok()?,
            result: match text_of("guarantee") {
                None => Ok(()),
                Some(guarantee) => Err(Violation::new(guarantee, text_of("what")?)),
            },
        })
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scenario, seed, trace, simulated, .. } = self;
        match &self.result {
            Ok(()) => write!(f, "{scenario}, seed {seed}: passed")?,
            Err(broken) => write!(f, "{scenario}, seed {seed}: FAILED, {broken}")?,
        }
        write!(f, "; {:.3} s simulated, {} events, trace {:032x}", simulated.as_secs_f64(), trace.lines, trace.hash)
    }
}
