//! Plugin configurations in deploy files: finding them, reading them, and checking them with what is around them.

mod around;
mod backstop;
mod beside;
pub mod chain;
pub mod document;
mod dump;
mod envoy;
mod find;
pub mod finding;
mod gateway;
mod hardening;
mod istio;
mod known;
mod labels;
mod lines;
mod lint;
mod native;
mod neighbours;
pub mod normalise;
pub mod open;
mod past;
mod paths;
mod pods;
pub mod report;
mod schema;
#[cfg(test)]
mod tests;
pub mod versions;
mod vm;
mod ways;
mod yaml;
