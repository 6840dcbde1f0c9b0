//! What is counted, and under which names.

use keyward_policy::decision::Code;

/// What became of a request, whatever was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It went on.
    Allow,
    /// It was refused.
    Deny,
    /// It went on, whatever was decided.
    Shadow,
}

impl Outcome {
    /// Every outcome.
    pub const ALL: [Self; 3] = [Self::Allow, Self::Deny, Self::Shadow];

    /// The label's value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Shadow => "shadow",
        }
    }

    /// Whether a decision can have this outcome.
    pub const fn fits(self, code: Code) -> bool {
        match self {
            Self::Allow => code.allows(),
            Self::Deny => !code.allows(),
            Self::Shadow => true,
        }
    }
}

/// The counter of one kind of decision. All VMs of a proxy add to the same one.
///
/// Envoy shows it as `wasmcustom.<name>`; with the `stats_tags` of `envoy.yaml` it is
/// `keyward_decisions{outcome,reason}` in Prometheus.
pub fn decision_counter(outcome: Outcome, code: Code) -> String {
    format!("keyward_decisions.outcome.{}.reason.{}", outcome.as_str(), code.as_str())
}

/// Counts routes whose metadata has no one meaning; each such request is denied.
pub const ROUTE_METADATA_INVALID: &str = "keyward_route_metadata_invalid";

/// Counts requests that were held for the first manifest.
pub const HELD: &str = "keyward_held_requests";

/// Counts complete loads of all keys.
pub const LOADS: &str = "keyward_manifest_loads";

/// Counts uses of keys that were not reported, for want of room or because the service refused the report.
pub const USAGE_DROPPED: &str = "keyward_usage_dropped";

/// The revision that a VM's keys are at.
pub const MANIFEST_REVISION: &str = "keyward_manifest_revision";

/// How many keys a VM has fetched.
pub const MANIFEST_KEYS: &str = "keyward_manifest_keys";

/// Seconds since a VM last knew that its keys were up to date.
pub const MANIFEST_AGE: &str = "keyward_manifest_age_seconds";

/// Counts one kind of failed poll.
pub fn sync_failure_counter(reason: &str) -> String {
    format!("keyward_sync_failures.reason.{reason}")
}

/// Counts loads that had to begin anew, by why.
pub fn started_over_counter(reason: &str) -> String {
    format!("keyward_sync_started_over.reason.{reason}")
}

/// A gauge of one VM: in a shared one the last writer would hide all others.
pub fn vm_gauge(name: &str, vm: &str) -> String {
    format!("{name}.vm.{vm}")
}
