//! The names of the metrics.

use keyward_policy::decision::Code;

/// What a decision does to a request: the label `outcome` of [`decision_counter`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// The request went on because the decision allows it.
    Allow,
    /// The request was refused.
    Deny,
    /// The request went on because the filter is in shadow mode, whatever the decision was.
    Shadow,
}

impl Effect {
    /// Every effect.
    pub const ALL: [Self; 3] = [Self::Allow, Self::Deny, Self::Shadow];

    /// Returns the label's value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Shadow => "shadow",
        }
    }

    /// Returns whether a decision with this code can have this effect.
    pub const fn fits(self, code: Code) -> bool {
        match self {
            Self::Allow => code.allows(),
            Self::Deny => !code.allows(),
            Self::Shadow => true,
        }
    }
}

/// Returns the name of the counter for one kind of decision. All VMs of a proxy add to the same one.
///
/// Envoy shows it as `wasmcustom.<name>`; with the `stats_tags` of `envoy.yaml` it is
/// `keyward_decisions{outcome,reason}` in Prometheus.
pub fn decision_counter(effect: Effect, code: Code) -> String {
    format!("keyward_decisions.outcome.{}.reason.{}", effect.as_str(), code.as_str())
}

/// Counts requests on routes whose metadata cannot be understood. Each of them is denied.
pub const ROUTE_METADATA_INVALID: &str = "keyward_route_metadata_invalid";

/// Counts requests that were held for the first manifest.
pub const HELD: &str = "keyward_held_requests";

/// Counts complete loads of all keys.
pub const LOADS: &str = "keyward_manifest_loads";

/// Counts uses of keys that were not reported, because the log was full or because the service refused the report.
pub const USAGE_DROPPED: &str = "keyward_usage_dropped";

/// Counts panics that the native edition has caught. A trap of the WebAssembly edition ends its VM, which Envoy counts.
pub const PANICS: &str = "keyward_panics";

/// The revision of a VM's keys.
pub const MANIFEST_REVISION: &str = "keyward_manifest_revision";

/// The number of keys that a VM has fetched.
pub const MANIFEST_KEYS: &str = "keyward_manifest_keys";

/// The number of seconds since a VM last knew that its keys were up to date.
pub const MANIFEST_AGE: &str = "keyward_manifest_age_seconds";

/// Returns the name of the counter for one kind of failed poll.
pub fn sync_failure_counter(reason: &str) -> String {
    format!("keyward_sync_failures.reason.{reason}")
}

/// Returns the name of the counter for loads that had to start over for one reason.
pub fn started_over_counter(reason: &str) -> String {
    format!("keyward_sync_started_over.reason.{reason}")
}

/// Returns the name of one VM's gauge. VMs that shared a gauge would overwrite each other's values.
pub fn vm_gauge(name: &str, vm: &str) -> String {
    format!("{name}.vm.{vm}")
}
