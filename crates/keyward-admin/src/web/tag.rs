//! Tags: states in a word or two.

/// A state in a word or two. Its colour only repeats the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tag {
    /// `good`, `warn`, `bad` or `quiet`.
    pub kind: &'static str,
    /// The text.
    pub text: String,
}

impl Tag {
    pub fn new(kind: &'static str, text: impl Into<String>) -> Self {
        Self { kind, text: text.into() }
    }

    pub fn html(&self) -> String {
        format!("<span class=\"tag {}\">{}</span>", self.kind, self.text)
    }
}
