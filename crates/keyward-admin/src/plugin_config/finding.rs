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
    /// Whether a request can pass without a key because of it.
    pub lets_pass: bool,
}

impl From<&Problem> for Finding {
    fn from(problem: &Problem) -> Self {
        Self::new(problem.path.clone(), problem.message.clone(), problem.help.clone())
    }
}

impl Finding {
    fn new(path: impl Into<String>, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { path: path.into(), line: None, message: message.into(), help: help.into(), lets_pass: false }
    }

    /// Says that a request can pass without a key because of this.
    fn letting_pass(self) -> Self {
        Self { lets_pass: true, ..self }
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
        push(&mut self.errors, Finding::new(path, message, help));
    }

    /// Notes a warning.
    pub fn warn(&mut self, path: impl Into<String>, message: impl Into<String>, help: impl Into<String>) {
        push(&mut self.warnings, Finding::new(path, message, help));
    }

    /// Notes a mistake by which a request can pass without a key.
    pub fn gap(&mut self, path: impl Into<String>, message: impl Into<String>, help: impl Into<String>) {
        push(&mut self.errors, Finding::new(path, message, help).letting_pass());
    }

    /// Warns of something by which a request can pass without a key, unless it is meant so or another file closes it.
    pub fn possible_gap(&mut self, path: impl Into<String>, message: impl Into<String>, help: impl Into<String>) {
        push(&mut self.warnings, Finding::new(path, message, help).letting_pass());
    }
}

fn push(findings: &mut Vec<Finding>, finding: Finding) {
    if !findings.contains(&finding) {
        findings.push(finding);
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

/// Returns whether a digest, as hex, is one that stands in for the real one: all digits are the same, or it is not hex in
/// lower case, as every control plane writes it.
pub fn is_placeholder_digest(digest: &str) -> bool {
    let hex = digest.trim_start_matches("sha256:").as_bytes();
    hex.len() != 64
        || !hex.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
        || hex.windows(2).all(|pair| pair[0] == pair[1])
}

/// Returns whether a text is one to be replaced, such as `REPLACE-WITH-AN-EDGE-TOKEN` or `<token>`.
pub fn is_placeholder(text: &str) -> bool {
    let upper = text.to_ascii_uppercase();
    text.starts_with('<')
        || ["REPLACE", "CHANGE", "PLACEHOLDER", "YOUR-", "YOUR_", "TODO"].iter().any(|w| upper.contains(w))
}
