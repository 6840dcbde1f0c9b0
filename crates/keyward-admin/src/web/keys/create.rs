//! A key is created, and shown this once.

use super::Shown;
use super::fields::KeyFields;
use crate::lifetime::Lifetime;
use crate::service::{CreateKey, Error, FieldError};
use crate::web::example::curl;
use crate::web::failure::Failure;
use crate::web::form::Fields;
use crate::web::page::{Chrome, Section, render};
use crate::web::receipt::{Verb, WAIT};
use crate::web::submission::Submission;
use crate::web::user::User;
use crate::web::view::lifetime_label;
use askama::Template;
use axum::extract::RawQuery;
use axum::http::StatusCode;
use axum::response::Response;
use std::sync::Arc;

#[derive(Template)]
#[template(path = "key_new.html")]
struct Page {
    page: Chrome,
    problem: Option<String>,
    nonce: String,
    fields: KeyFields,
    lifetimes: Vec<Choice>,
    expires_in_error: Option<String>,
}

struct Choice {
    value: &'static str,
    label: &'static str,
    chosen: bool,
}

fn page(user: &User, sent: &Fields) -> Page {
    let lifetime = sent.text("expires_in").parse().unwrap_or_default();
    let choice = |one: Lifetime| Choice { value: one.as_str(), label: lifetime_label(one), chosen: one == lifetime };
    let catalogue = &user.web.service().settings.catalogue;
    Page {
        page: user.dialog_chrome(),
        problem: None,
        nonce: user.nonce("create"),
        fields: KeyFields::new(catalogue, sent.text("name"), &sent.all("permissions"), &[]),
        lifetimes: Lifetime::ALL.into_iter().map(choice).collect(),
        expires_in_error: None,
    }
}

/// The empty form, or filled in with what the query says.
pub(in crate::web) async fn form(user: User, RawQuery(query): RawQuery) -> Result<Response, Failure> {
    render(StatusCode::OK, &page(&user, &Fields::of_query(query.as_deref())))
}

pub(in crate::web) async fn create(submission: Submission) -> Result<Response, Failure> {
    let claim = submission.claim("create")?;
    let Submission { user, fields } = submission;
    let mut errors = Vec::new();
    let expires_in = if fields.has("expires_in") {
        fields.text("expires_in").parse().unwrap_or_else(|error: crate::lifetime::InvalidLifetime| {
            errors.push(FieldError::new("expires_in", error.to_string()));
            Lifetime::default()
        })
    } else {
        Lifetime::default()
    };
    let request =
        CreateKey { name: fields.text("name").trim().to_owned(), permissions: fields.all("permissions"), expires_in };
    if !errors.is_empty() {
        return refuse(&user, &fields, Error::Invalid(errors));
    }
    let (web, actor) = (Arc::clone(&user.web), user.actor().to_owned());
    // A task of its own, so that it is finished, and remembered as done, even if the browser goes away.
    let work = tokio::spawn(async move {
        let created = web.service().create_key(&actor, request).await?;
        web.receipts.begin(created.key.revision);
        let text = format!(
            "The key “{}” was created by this form. Keys are shown only once: if it was not copied then, regenerate it.",
            created.key.name
        );
        claim.done(text, format!("/settings/keys/{}", created.key.id));
        Ok::<_, Error>(created)
    });
    let created = match work.await.map_err(|_| Failure::Internal)? {
        Ok(created) => created,
        Err(error) => return refuse(&user, &fields, error),
    };
    let receipt = user.web.receipt(Verb::Known, created.key.revision, WAIT).await?;
    let (curl, curl_note) = curl(created.secret.reveal(), &created.key.permissions);
    let page = Shown {
        page: user.chrome(Section::Keys, Some("receipts")),
        heading: "API key created",
        lead: format!("“{}” is ready to use.", created.key.name),
        secret: created.secret.reveal().to_owned(),
        curl,
        curl_note,
        receipt,
        back: "/settings/keys".to_owned(),
    };
    render(StatusCode::OK, &page)
}

fn refuse(user: &User, sent: &Fields, error: Error) -> Result<Response, Failure> {
    let mut page = page(user, sent);
    let status = match error {
        Error::Invalid(errors) => {
            let about_lifetime = errors.iter().find(|error| error.field == "expires_in");
            page.expires_in_error = about_lifetime.map(|_| "Choose one of these.".to_owned());
            page.problem = page.fields.put(&errors).filter(|_| page.expires_in_error.is_none());
            StatusCode::UNPROCESSABLE_ENTITY
        }
        Error::NameTaken => {
            page.fields.name_error = Some("Another key has this name. Choose one that tells them apart.".to_owned());
            StatusCode::CONFLICT
        }
        error => return Err(error.into()),
    };
    render(status, &page)
}
