//! What `keyward verify` looked at, and what it came to.

use serde_json::{Value, json};

/// What a check came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It is as it should be.
    Passed,
    /// It is not.
    Failed,
    /// It could not be looked at, so that nothing is known.
    Unseen,
}

impl Outcome {
    pub fn of(passed: bool) -> Self {
        if passed { Self::Passed } else { Self::Failed }
    }

    pub fn mark(self) -> char {
        match self {
            Self::Passed => '✓',
            Self::Failed => '✗',
            Self::Unseen => '?',
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Unseen => "unseen",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug)]
pub(super) struct Check {
    pub name: &'static str,
    pub outcome: Outcome,
    pub finding: String,
}

impl Check {
    pub fn new(name: &'static str, outcome: Outcome, finding: impl Into<String>) -> Self {
        Self { name, outcome, finding: finding.into() }
    }

    pub fn as_json(&self) -> Value {
        let passed = self.outcome == Outcome::Passed;
        json!({"name": self.name, "passed": passed, "outcome": self.outcome.name(), "finding": self.finding})
    }
}
