//! Changing a key: its name, its permissions, and whether it is disabled.

use super::deleted::live_key;
use super::{create, detail};
use crate::service::Error;
use crate::service::keys::EditKey;
use crate::web::chrome::render;
use crate::web::claim::Finished;
use crate::web::failure::Failure;
use crate::web::form::FormFields;
use crate::web::notice::Notice;
use crate::web::once::Done;
use crate::web::receipt::{Verb, WAIT};
use crate::web::submission::Submission;
use crate::web::user::User;
use crate::web::view::permission_label;
use axum::extract::Path;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};

const CHANGED: &str = "The key was changed after you opened this page, in another tab or by somebody else, and nothing was \
                       saved. The rest of this page shows the key as it is now: save again, or reload to discard your \
                       changes.";

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
    let mut permissions = live_key(&submission.user, &id).await?.permissions;
    permissions.retain(|name| *name != permission);
    let label = permission_label(&submission.user.web.service().settings.catalogue, &permission);
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

/// Makes a change, and shows the key with a notice that says `done`.
async fn change(
    submission: Submission,
    purpose: &str,
    id: &str,
    edit: EditKey,
    verb: Verb,
    done: &str,
) -> Result<Response, Failure> {
    let expected = submission.revision();
    let href = format!("/settings/keys/{id}");
    let (key_id, finished) = (id.to_owned(), Finished { text: done.to_owned(), href: href.clone() });
    let updated = submission
        .once(purpose, move |web, actor| async move {
            let updated = web.service().edit_key(&actor, &key_id, edit, expected).await?;
            Ok(Done { revision: Some(updated.revision), value: updated, finished })
        })
        .await?;
    let Submission { user, fields } = submission;
    match updated {
        Ok(updated) => {
            let receipt = user.web.receipt(verb, updated.revision, WAIT).await?;
            let notice = Notice { text: done.to_owned(), receipt: Some(receipt) };
            user.session.notices.lock().push(notice);
            Ok(Redirect::to(&href).into_response())
        }
        // What was filled in is offered for a new key.
        Err(Error::NotFound) if fields.has("name") => Ok(create::after_delete(id, &fields)),
        Err(error) => refuse(&user, id, &fields, error).await,
    }
}

/// Shows the key again with what went wrong.
async fn refuse(user: &User, id: &str, sent: &FormFields, error: Error) -> Result<Response, Failure> {
    // Of the forms on this view, only the one with the name has fields to fill in again.
    let mut view = detail::view(user, id, sent.has("name").then_some(sent)).await?;
    let status = match error {
        Error::Invalid(errors) => {
            view.problem = view.fields.put(&errors);
            StatusCode::UNPROCESSABLE_ENTITY
        }
        Error::NameTaken => {
            view.fields.name_error =
                Some("Another key has this name, or one that looks like it. Choose a different one.".to_owned());
            StatusCode::CONFLICT
        }
        Error::RevisionMismatch { .. } => {
            view.problem = Some(CHANGED.to_owned());
            StatusCode::CONFLICT
        }
        error => return Err(error.into()),
    };
    render(status, &view)
}
