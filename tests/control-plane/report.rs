//! What was found true of a control plane, check by check.

use crate::programs::{Module, Version};
use std::any::Any;
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

    /// Runs a part of the checks. Every check belongs to a part, so that a panic outside of the checks, for instance in a wait for
    /// the first of them, ends that part and not the report.
    pub fn part(&mut self, what: &str, run: impl FnOnce(&mut Part<'_>)) {
        Part { report: self, what }.steps(run);
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

/// Checks that need the same things of a control plane.
pub struct Part<'r> {
    report: &'r mut Report,
    what: &'r str,
}

impl Part<'_> {
    /// Runs some of the part's steps. A panic outside of their checks is a failure of the part and ends these steps; the part goes
    /// on, so that it can take away what they have made.
    pub fn steps(&mut self, run: impl FnOnce(&mut Part<'_>)) {
        let mut steps = Part { report: self.report, what: self.what };
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| run(&mut steps))) {
            let what = format!("{}, outside of its checks: {}", self.what, message(panic.as_ref()));
            println!("  FAILED {what}");
            self.report.failed.push(what);
        }
    }

    /// Runs a check, which panics where something is wrong.
    pub fn check(&mut self, what: &str, run: impl FnOnce()) {
        let began = Instant::now();
        let passed = catch_unwind(AssertUnwindSafe(run)).is_ok();
        println!("  {} {what} ({} s)", if passed { "ok    " } else { "FAILED" }, began.elapsed().as_secs());
        if passed {
            self.report.passed += 1;
        } else {
            self.report.failed.push(what.to_owned());
        }
    }

    /// Returns whether the checks of `what` hold for this release. Where they do not, the reason is printed and counted, so
    /// that no check is left out without a word.
    ///
    /// # Panics
    /// Panics when the report is not that of a release.
    pub fn holds_since(&mut self, since: Version, what: &str, reason: &str) -> bool {
        let version = self.report.version.expect("a report of a release");
        if version < since {
            self.leave_out(what, reason);
        }
        version >= since
    }

    /// Prints and counts that the checks of `what` do not apply to this release.
    pub fn leave_out(&mut self, what: &str, reason: &str) {
        println!("  --     {what}: not for this release: {reason}");
        self.report.inapplicable += 1;
    }
}

/// Returns the text that a panic was raised with.
fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without a text")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_between_two_checks_is_a_failure_and_the_other_parts_run() {
        let mut report = Report::of("a report that is tested");
        report.part("the first part", |part| {
            part.check("before", || ());
            part.steps(|part| {
                part.check("among the steps", || ());
                panic!("waited in vain: {}", "a listener");
            });
            part.check("after the steps", || ());
            // What a wait does that nothing comes of.
            assert!(part.report.passed == 0, "a wait");
            part.check("after the wait", || ());
        });
        report.part("the second part", |part| {
            part.check("wrong", || panic!("wrong"));
            part.check("right", || ());
        });
        assert_eq!(report.passed, 4, "the check after the wait does not run");
        let failed = [
            "the first part, outside of its checks: waited in vain: a listener",
            "the first part, outside of its checks: a wait",
            "wrong",
        ];
        assert_eq!(report.failed, failed);
        let ended = catch_unwind(AssertUnwindSafe(|| report.finish()));
        assert!(message(ended.unwrap_err().as_ref()).contains("waited in vain: a listener"));
    }
}
