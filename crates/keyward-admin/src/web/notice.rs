//! A notice: a sentence that the next view of a session shows once.

/// What the next view shows.
#[derive(Debug, Clone)]
pub(super) struct Notice {
    /// A sentence.
    pub text: String,
    /// The receipt of a change, as markup.
    pub receipt: Option<String>,
}
