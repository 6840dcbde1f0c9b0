//! Pages about keys.

pub(super) mod create;
pub(super) mod delete;
pub(super) mod detail;
pub(super) mod edit;
mod fields;
pub(super) mod list;
pub(super) mod regenerate;

use super::page::{Chrome, Section};
use super::view::KeyView;
use askama::Template;

/// A heading, a sentence and a way on.
#[derive(Template)]
#[template(path = "message.html")]
pub(super) struct Message {
    pub page: Chrome,
    pub heading: String,
    pub text: String,
    pub href: String,
    pub link: &'static str,
}

/// The key in clear: after it was created or regenerated.
#[derive(Template)]
#[template(path = "key_created.html")]
struct Shown {
    page: Chrome,
    heading: &'static str,
    lead: String,
    secret: String,
    curl: String,
    curl_note: &'static str,
    receipt: String,
    back: String,
}

/// The question before a key is regenerated or deleted.
#[derive(Template)]
#[template(path = "key_confirm.html")]
struct Confirm {
    page: Chrome,
    heading: String,
    problem: Option<String>,
    key: KeyView,
    regenerate: bool,
    /// Markup.
    new_expiry: String,
    action: String,
    nonce: String,
    back: String,
}

const CHANGED: &str = "The key was changed since you opened this, in another tab or by somebody else. This is how it is \
                       now: look at it, and confirm again.";
