//! The views of keys.

pub(super) mod create;
pub(super) mod delete;
mod deleted;
pub(super) mod detail;
pub(super) mod edit;
mod fields;
pub(super) mod list;
pub(super) mod regenerate;

use super::chrome::{Chrome, Section};
use super::example::Snippets;
use super::view::KeyRow;
use askama::Template;

/// Shows the secret of a key that was created or regenerated, this once.
#[derive(Template)]
#[template(path = "key_created.html")]
struct SecretView {
    page: Chrome,
    heading: &'static str,
    lead: String,
    secret: String,
    snippets: Snippets,
    receipt: String,
    back: String,
}

/// Asks before a key is regenerated or deleted.
#[derive(Template)]
#[template(path = "key_confirm.html")]
struct ConfirmView {
    page: Chrome,
    heading: String,
    problem: Option<String>,
    key: KeyRow,
    regenerate: bool,
    /// Markup.
    new_expiry: String,
    action: String,
    nonce: String,
    back: String,
}

const CHANGED: &str = "The key was changed after you opened this, in another tab or by somebody else. Below is how it is \
                       now: check it, and confirm again.";
