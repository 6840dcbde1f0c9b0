//! The way in, and the way out of nowhere.

use super::failure::Failure;
use super::keys::Message;
use super::page::{Section, render};
use super::user::User;
use axum::http::StatusCode;
use axum::response::{Redirect, Response};

pub(super) async fn home() -> Redirect {
    Redirect::to("/settings/keys")
}

pub(super) async fn not_found(user: User) -> Result<Response, Failure> {
    let page = Message {
        page: user.chrome(Section::Keys, None),
        heading: "There is no such page".to_owned(),
        text: "The address may be mistyped, or what it led to is gone.".to_owned(),
        href: "/settings/keys".to_owned(),
        link: "API Keys",
    };
    render(StatusCode::NOT_FOUND, &page)
}
