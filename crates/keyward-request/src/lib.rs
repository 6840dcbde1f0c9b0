//! The decision that every request runs, compiled for speed.
//!
//! The module is compiled for size, and has to be: most of its code reads configurations and pages, formats messages or
//! counts. The compiler's level of optimisation belongs to the crate that a function is compiled in, and a function that is
//! generic or marked `#[inline]` is compiled in the crate that calls it. So the code stays in the policy core, where it is
//! read and tested, and what a request runs of it is marked `#[inline]` there; this crate alone has `opt-level = 3`
//! (`[profile.wasm]` in `Cargo.toml`).

use keyward_policy::decide::{RequestHead, decide_traced};
use keyward_policy::decision::Decision;
use keyward_policy::policy::Policy;
use keyward_policy::timestamp::Timestamp;

/// Decides one request at one moment, as [`keyward_policy::decide::decide`] does.
#[inline(never)]
pub fn decide<'a>(policy: &Policy<'a>, head: &RequestHead<'_>, now: Timestamp) -> Decision<'a> {
    decide_traced(policy, head, now, &mut ())
}
