//! What was found true of a control plane, check by check.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

/// Runs all checks, whatever the first ones say: starting a control plane takes longer than asking it.
pub struct Report {
    of: String,
    passed: usize,
    failed: Vec<&'static str>,
}

impl Report {
    /// Nothing checked yet.
    pub fn of(what: &str) -> Self {
        println!("\n{what}");
        Self { of: what.to_owned(), passed: 0, failed: Vec::new() }
    }

    /// Runs a check, which panics where something is wrong.
    pub fn check(&mut self, what: &'static str, run: impl FnOnce()) {
        let began = Instant::now();
        let passed = catch_unwind(AssertUnwindSafe(run)).is_ok();
        println!("  {} {what} ({} s)", if passed { "ok    " } else { "FAILED" }, began.elapsed().as_secs());
        if passed {
            self.passed += 1;
        } else {
            self.failed.push(what);
        }
    }

    /// Ends the report.
    ///
    /// # Panics
    /// Panics when a check failed.
    pub fn finish(self) {
        println!("  {}: {} checks passed, {} failed", self.of, self.passed, self.failed.len());
        assert!(self.failed.is_empty(), "{}: {:#?}", self.of, self.failed);
    }
}
