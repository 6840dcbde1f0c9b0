//! A key is changed: its name, its permissions, whether it is refused.

use super::detail;
use crate::service::{EditKey, Error};
use crate::web::failure::Failure;
use crate::web::page::{Notice, render};
use crate::web::receipt::{Verb, WAIT};
use crate::web::submission::Submission;
use crate::web::user::User;
use crate::web::view::permission_label;
use axum::extract::Path;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use std::sync::Arc;

const CHANGED: &str = "The key was changed since you opened this page, in another tab or by somebody else, and nothing was \
                       saved. What you see around your changes is how it is now: save again, or reload to drop them.";

pub(in crate::web) async fn edit(Path(id): Path<String>, submission: Submission) -> Result<Response, Failure> {
    let fields = &submission.fields;
    let edit = EditKey {
        name: Some(fields.text("name").trim().to_owned()),
        permissions: Some(fields.all("permissions")),
        disabled: None,
    };
    change(submission, &format!("edit:{id}"), &id, edit, Verb::Applied, "Saved.").await
}

pub(in crate::web) async fn drop_permission(
    Path(id): Path<String>,
    submission: Submission,
) -> Result<Response, Failure> {
    let permission = submission.fields.text("permission").to_owned();
    let service = submission.user.web.service();
    let mut permissions = service.key(&id).await?.permissions;
    permissions.retain(|name| *name != permission);
    let label = permission_label(&service.settings.catalogue, &permission);
    let edit = EditKey { permissions: Some(permissions), ..EditKey::default() };
    let purpose = format!("drop:{id}:{permission}");
    change(submission, &purpose, &id, edit, Verb::Applied, &format!("“{label}” is no longer granted.")).await
}

pub(in crate::web) async fn disable(Path(id): Path<String>, submission: Submission) -> Result<Response, Failure> {
    let edit = EditKey { disabled: Some(true), ..EditKey::default() };
    change(submission, &format!("toggle:{id}"), &id, edit, Verb::Refused, "The key is disabled.").await
}

pub(in crate::web) async fn enable(Path(id): Path<String>, submission: Submission) -> Result<Response, Failure> {
    let edit = EditKey { disabled: Some(false), ..EditKey::default() };
    change(submission, &format!("toggle:{id}"), &id, edit, Verb::Known, "The key is enabled again.").await
}

async fn change(
    submission: Submission,
    purpose: &str,
    id: &str,
    edit: EditKey,
    verb: Verb,
    done: &str,
) -> Result<Response, Failure> {
    let claim = submission.claim(purpose)?;
    let expected = submission.revision();
    let Submission { user, fields } = submission;
    let href = format!("/settings/keys/{id}");
    let (web, actor) = (Arc::clone(&user.web), user.actor().to_owned());
    let (key_id, text, to) = (id.to_owned(), done.to_owned(), href.clone());
    // A task of its own, so that it is finished, and remembered as done, even if the browser goes away.
    let work = tokio::spawn(async move {
        let updated = web.service().edit_key(&actor, &key_id, edit, expected).await?;
        web.receipts.begin(updated.revision);
        claim.done(text, to);
        Ok::<_, Error>(updated)
    });
    match work.await.map_err(|_| Failure::Internal)? {
        Ok(updated) => {
            let receipt = user.web.receipt(verb, updated.revision, WAIT).await?;
            let notice = Notice { text: done.to_owned(), receipt: Some(receipt) };
            user.session.notices.lock().push(notice);
            Ok(Redirect::to(&href).into_response())
        }
        Err(error) => refuse(&user, id, &fields, error).await,
    }
}

async fn refuse(user: &User, id: &str, sent: &crate::web::form::Fields, error: Error) -> Result<Response, Failure> {
    // Only the form with the name has anything to fill in again.
    let mut page = detail::page(user, id, sent.has("name").then_some(sent)).await?;
    let status = match error {
        Error::Invalid(errors) => {
            page.problem = page.fields.put(&errors);
            StatusCode::UNPROCESSABLE_ENTITY
        }
        Error::NameTaken => {
            page.fields.name_error = Some("Another key has this name. Choose one that tells them apart.".to_owned());
            StatusCode::CONFLICT
        }
        Error::RevisionMismatch { .. } => {
            page.problem = Some(CHANGED.to_owned());
            StatusCode::CONFLICT
        }
        error => return Err(error.into()),
    };
    render(status, &page)
}
