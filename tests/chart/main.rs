//! The Helm chart, rendered by a real Helm without a cluster: what an upgrade from an earlier release must not change, and
//! values that are wrong. And the alerts that it installs.

mod alerts;
mod render;
mod upgrades;
mod wrong_values;
