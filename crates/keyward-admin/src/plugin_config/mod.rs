//! Plugin configurations in deploy files: finding them, reading them, and checking them with what is around them.

pub mod around;
pub mod document;
pub mod find;
pub mod lint;
pub mod report;
#[cfg(test)]
mod tests;
