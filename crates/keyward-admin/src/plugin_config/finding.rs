//! What a check finds, and small helpers for reading values.

use keyward_policy::config::Problem;
use serde_json::Value;

/// A mistake or a warning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The field, as a path from the top of the configuration or of the document.
    pub path: String,
    /// The line in the file. `None` means that it is not known.
    pub line: Option<u32>,
    /// What is wrong.
    pub message: String,
    /// How to mend it.
    pub help: String,
}

impl From<&Problem> for Finding {
    fn from(problem: &Problem) -> Self {
        Self { path: problem.path.clone(), line: None, message: problem.message.clone(), help: problem.help.clone() }
    }
}

/// Findings, in the order in which they were made.
#[derive(Debug, Default)]
pub struct Findings {
    /// Mistakes: the file does not do what it is for.
    pub errors: Vec<Finding>,
    /// What is valid and should be looked at.
    pub warnings: Vec<Finding>,
}

impl Findings {
    /// Notes a mistake.
    pub fn error(&mut self, path: impl Into<String>, message: impl Into<String>, help: impl Into<String>) {
        let finding = Finding { path: path.into(), line: None, message: message.into(), help: help.into() };
        if !self.errors.contains(&finding) {
            self.errors.push(finding);
        }
    }

    /// Notes a warning.
    pub fn warn(&mut self, path: impl Into<String>, message: impl Into<String>, help: impl Into<String>) {
        let finding = Finding { path: path.into(), line: None, message: message.into(), help: help.into() };
        if !self.warnings.contains(&finding) {
            self.warnings.push(finding);
        }
    }
}

/// Appends a field to a path.
pub fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// Returns the items of a list. Any other value has none.
pub fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// Returns a text. Any other value is an empty text.
pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Returns whether a digest, as hex, is one that stands in for the real one: all digits are the same, or it is not hex.
pub fn is_placeholder_digest(digest: &str) -> bool {
    let hex = digest.trim_start_matches("sha256:").as_bytes();
    hex.len() != 64 || !hex.iter().all(u8::is_ascii_hexdigit) || hex.windows(2).all(|pair| pair[0] == pair[1])
}

/// Returns whether a text is one to be replaced, such as `REPLACE-WITH-AN-EDGE-TOKEN` or `<token>`.
pub fn is_placeholder(text: &str) -> bool {
    let upper = text.to_ascii_uppercase();
    text.starts_with('<')
        || ["REPLACE", "CHANGE", "PLACEHOLDER", "YOUR-", "YOUR_", "TODO"].iter().any(|w| upper.contains(w))
}
