//! Redirects `/` and `/settings`, and answers unknown paths with 404.

use super::chrome::{Chrome, Section, render};
use super::failure::Failure;
use super::user::User;
use askama::Template;
use axum::http::StatusCode;
use axum::response::{Redirect, Response};

/// A heading, a sentence, and a link that leads on.
#[derive(Template)]
#[template(path = "message.html")]
pub(super) struct MessageView {
    pub page: Chrome,
    pub heading: String,
    pub text: String,
    pub href: String,
    pub link: &'static str,
}

pub(super) async fn home() -> Redirect {
    Redirect::to("/settings/keys")
}

pub(super) async fn not_found(user: User) -> Result<Response, Failure> {
    let view = MessageView {
        page: user.chrome(Section::Keys, None),
        heading: "There is no such page".to_owned(),
        text: "The address may be mistyped, or the page it led to no longer exists.".to_owned(),
        href: "/settings/keys".to_owned(),
        link: "API Keys",
    };
    render(StatusCode::NOT_FOUND, &view)
}
