//! Deleting a key.

use super::deleted::{failure, live_key};
use super::{CHANGED, ConfirmView};
use crate::service::Error;
use crate::store::keys::KeyRecord;
use crate::web::chrome::{Chrome, Section, render};
use crate::web::claim::Finished;
use crate::web::failure::Failure;
use crate::web::once::Done;
use crate::web::receipt::{Verb, WAIT};
use crate::web::submission::Submission;
use crate::web::user::User;
use crate::web::view::KeyRow;
use askama::Template;
use axum::extract::Path;
use axum::http::StatusCode;
use axum::response::Response;

#[derive(Template)]
#[template(path = "key_deleted.html")]
struct DeletedView {
    page: Chrome,
    name: String,
    receipt: String,
}

fn purpose(id: &str) -> String {
    format!("delete:{id}")
}

fn view(user: &User, key: &KeyRecord, problem: Option<String>) -> ConfirmView {
    ConfirmView {
        page: user.dialog_chrome(),
        heading: format!("Delete “{}”?", key.name),
        problem,
        key: KeyRow::new(&user.web, key),
        regenerate: false,
        new_expiry: String::new(),
        action: format!("/settings/keys/{}/delete", key.id),
        nonce: user.nonce(&purpose(&key.id)),
        back: format!("/settings/keys/{}", key.id),
    }
}

pub(in crate::web) async fn confirm(user: User, Path(id): Path<String>) -> Result<Response, Failure> {
    let key = live_key(&user, &id).await?;
    render(StatusCode::OK, &view(&user, &key, None))
}

pub(in crate::web) async fn delete(Path(id): Path<String>, submission: Submission) -> Result<Response, Failure> {
    let expected = submission.revision();
    let key_id = id.clone();
    let deleted = submission
        .once(&purpose(&id), move |web, actor| async move {
            let deleted = web.service().delete_key(&actor, &key_id, expected).await?;
            let text = format!("The key “{}” was deleted by this form.", deleted.name);
            let finished = Finished { text, href: "/settings/keys".to_owned() };
            Ok(Done { revision: Some(deleted.revision), value: deleted, finished })
        })
        .await?;
    let user = submission.user;
    let deleted = match deleted {
        Ok(deleted) => deleted,
        Err(Error::RevisionMismatch { .. }) => {
            let key = live_key(&user, &id).await?;
            return render(StatusCode::CONFLICT, &view(&user, &key, Some(CHANGED.to_owned())));
        }
        Err(error) => return Err(failure(&user, &id, error).await),
    };
    let receipt = user.web.receipt(Verb::Refused, deleted.revision, WAIT).await?;
    let view = DeletedView { page: user.chrome(Section::Keys, Some("receipts")), name: deleted.name, receipt };
    render(StatusCode::OK, &view)
}
