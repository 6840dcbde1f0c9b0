//! Creating a key, and showing its secret this once.

use super::SecretView;
use super::deleted;
use super::fields::KeyFields;
use crate::lifetime::{InvalidLifetime, Lifetime};
use crate::service::keys::CreateKey;
use crate::service::{Error, FieldError};
use crate::web::chrome::{Chrome, Section, render};
use crate::web::claim::Finished;
use crate::web::deleted_key::DeletedKey;
use crate::web::example::snippets;
use crate::web::failure::Failure;
use crate::web::form::FormFields;
use crate::web::may::{self, MayView};
use crate::web::once::Done;
use crate::web::receipt::{Verb, WAIT};
use crate::web::submission::Submission;
use crate::web::user::User;
use crate::web::view::lifetime_label;
use askama::Template;
use axum::extract::RawQuery;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};

#[derive(Template)]
#[template(path = "key_new.html")]
struct CreateView {
    page: Chrome,
    problem: Option<String>,
    nonce: String,
    fields: KeyFields,
    lifetimes: Vec<Choice>,
    expires_in_error: Option<String>,
    /// What a key with these permissions may do. `None` means that no configuration is set.
    may: Option<MayView>,
    /// Whether the fields hold what somebody has filled in.
    refilled: bool,
    /// The key for which the fields were filled in, if it was deleted meanwhile.
    deleted: Option<DeletedKey>,
}

/// Leads to the form for a new key, with what was filled in for a key that does not exist, or no longer.
pub(super) fn after_delete(id: &str, sent: &FormFields) -> Response {
    let id: String = form_urlencoded::byte_serialize(id.as_bytes()).collect();
    Redirect::to(&format!("/settings/keys/new?{}&deleted={id}", sent.refill())).into_response()
}

struct Choice {
    value: &'static str,
    label: &'static str,
    chosen: bool,
}

fn view(user: &User, sent: &FormFields) -> CreateView {
    let lifetime = sent.text("expires_in").parse().unwrap_or_default();
    let choice = |one: Lifetime| Choice { value: one.as_str(), label: lifetime_label(one), chosen: one == lifetime };
    let catalogue = &user.web.service().settings.catalogue;
    CreateView {
        page: user.dialog_chrome(),
        problem: None,
        nonce: user.nonce("create"),
        fields: KeyFields::new(catalogue, sent.text("name"), &sent.all("permissions"), &[]),
        lifetimes: Lifetime::ALL.into_iter().map(choice).collect(),
        expires_in_error: None,
        may: may::view(user.web.service().settings.explain_config.as_deref(), catalogue, &sent.all("permissions")),
        refilled: sent.has("name"),
        deleted: None,
    }
}

/// Shows the form, filled in with what the query says.
pub(in crate::web) async fn form(user: User, RawQuery(query): RawQuery) -> Result<Response, Failure> {
    let sent = FormFields::of_query(query.as_deref());
    let mut view = view(&user, &sent);
    if sent.has("deleted") {
        view.deleted = deleted::find(&user, sent.text("deleted")).await?;
    }
    render(StatusCode::OK, &view)
}

pub(in crate::web) async fn create(submission: Submission) -> Result<Response, Failure> {
    let (user, sent) = (&submission.user, &submission.fields);
    let lifetime = match sent.text("expires_in") {
        "" if !sent.has("expires_in") => Ok(Lifetime::default()),
        text => text.parse(),
    };
    let mut request = CreateKey {
        name: sent.text("name").trim().to_owned(),
        permissions: sent.all("permissions"),
        expires_in: Lifetime::default(),
    };
    match lifetime {
        Ok(lifetime) => request.expires_in = lifetime,
        Err(error @ InvalidLifetime) => {
            submission.check("create")?;
            // The service is not asked to create anything without a lifetime, but all mistakes are shown at once.
            let mut errors = user.web.service().check_key(&request);
            errors.push(FieldError::new("expires_in", error.to_string()));
            return refuse(user, sent, Error::Invalid(errors));
        }
    }
    let created = submission
        .once("create", move |web, actor| async move {
            let created = web.service().create_key(&actor, request).await?;
            let text = format!(
                "The key “{}” was created by this form. Keys are shown only once: if it was not copied then, regenerate it.",
                created.key.name
            );
            let finished = Finished { text, href: format!("/settings/keys/{}", created.key.id) };
            Ok(Done { revision: Some(created.key.revision), value: created, finished })
        })
        .await?;
    let created = match created {
        Ok(created) => created,
        Err(error) => return refuse(user, sent, error),
    };
    let receipt = user.web.receipt(Verb::Known, created.key.revision, WAIT).await?;
    let snippets = snippets(&user.web.service().settings, created.secret.reveal(), &created.key.permissions);
    let view = SecretView {
        page: user.chrome(Section::Keys, Some("receipts")),
        heading: "API key created",
        lead: format!("“{}” is ready to use.", created.key.name),
        secret: created.secret.reveal().to_owned(),
        snippets,
        receipt,
        back: "/settings/keys".to_owned(),
    };
    render(StatusCode::OK, &view)
}

/// Shows the form again as it was filled in, with every mistake beside its field.
fn refuse(user: &User, sent: &FormFields, error: Error) -> Result<Response, Failure> {
    let mut view = view(user, sent);
    let status = match error {
        Error::Invalid(errors) => {
            let (of_lifetime, rest): (Vec<_>, Vec<_>) = errors.into_iter().partition(|e| e.field == "expires_in");
            view.expires_in_error = of_lifetime.first().map(|_| "Choose one of these.".to_owned());
            view.problem = view.fields.put(&rest);
            StatusCode::UNPROCESSABLE_ENTITY
        }
        Error::NameTaken => {
            view.fields.name_error =
                Some("Another key has this name, or one that looks like it. Choose a different one.".to_owned());
            StatusCode::CONFLICT
        }
        error => return Err(error.into()),
    };
    render(status, &view)
}
