//! What was found true of a control plane, check by check.

use crate::programs::{Module, Version};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

/// Runs all checks, whatever the first ones say: starting a control plane takes longer than asking it.
pub struct Report {
    of: String,
    version: Option<Version>,
    passed: usize,
    failed: Vec<String>,
    inapplicable: usize,
}

impl Report {
    /// Starts the report of something that has no releases.
    pub fn of(what: &str) -> Self {
        println!("\n{what}");
        Self { of: what.to_owned(), version: None, passed: 0, failed: Vec::new(), inapplicable: 0 }
    }

    /// Starts the report of a release of a control plane.
    pub fn of_release(module: &Module) -> Self {
        Self { version: Some(module.version()), ..Self::of(module.name()) }
    }

    /// Returns whether the checks of `what` hold for this release. Where they do not, the reason is printed and counted, so
    /// that no check is left out without a word.
    ///
    /// # Panics
    /// Panics when the report is not that of a release.
    pub fn holds_since(&mut self, since: Version, what: &str, reason: &str) -> bool {
        let version = self.version.expect("a report of a release");
        if version < since {
            self.leave_out(what, reason);
        }
        version >= since
    }

    /// Prints and counts that the checks of `what` do not apply to this release.
    pub fn leave_out(&mut self, what: &str, reason: &str) {
        println!("  --     {what}: not for this release: {reason}");
        self.inapplicable += 1;
    }

    /// Runs a check, which panics where something is wrong.
    pub fn check(&mut self, what: &str, run: impl FnOnce()) {
        let began = Instant::now();
        let passed = catch_unwind(AssertUnwindSafe(run)).is_ok();
        println!("  {} {what} ({} s)", if passed { "ok    " } else { "FAILED" }, began.elapsed().as_secs());
        if passed {
            self.passed += 1;
        } else {
            self.failed.push(what.to_owned());
        }
    }

    /// Ends the report.
    ///
    /// # Panics
    /// Panics when a check failed.
    pub fn finish(self) {
        let (passed, failed) = (self.passed, self.failed.len());
        println!("  {}: {passed} checks passed, {failed} failed, {} not for this release", self.of, self.inapplicable);
        assert!(self.failed.is_empty(), "{}: {:#?}", self.of, self.failed);
    }
}
