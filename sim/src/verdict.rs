//! What is said of a run in which something did not hold.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;

use serde::{Deserialize, Serialize};

/// A guarantee that did not hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// Which one: `G1` to `G19`, or `panic`, `hang`, `scenario` for what no guarantee names.
    pub guarantee: Cow<'static, str>,
    /// What was seen, in one sentence.
    pub what: String,
}

impl Violation {
    /// Says which guarantee is broken, and how that was seen.
    pub fn new(guarantee: impl Into<Cow<'static, str>>, what: impl Into<String>) -> Self {
        Self { guarantee: guarantee.into(), what: what.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.guarantee, self.what)
    }
}

impl Error for Violation {}
