//! A key is deleted for good.

use super::{CHANGED, Confirm};
use crate::service::Error;
use crate::store::keys::KeyRecord;
use crate::web::failure::Failure;
use crate::web::page::{Chrome, Section, render};
use crate::web::receipt::{Verb, WAIT};
use crate::web::submission::Submission;
use crate::web::user::User;
use crate::web::view::KeyView;
use askama::Template;
use axum::extract::Path;
use axum::http::StatusCode;
use axum::response::Response;
use std::sync::Arc;

#[derive(Template)]
#[template(path = "key_deleted.html")]
struct Deleted {
    page: Chrome,
    name: String,
    receipt: String,
}

fn purpose(id: &str) -> String {
    format!("delete:{id}")
}

fn page(user: &User, key: &KeyRecord, problem: Option<String>) -> Confirm {
    Confirm {
        page: user.dialog_chrome(),
        heading: format!("Delete “{}”?", key.name),
        problem,
        key: KeyView::new(&user.web, key),
        regenerate: false,
        new_expiry: String::new(),
        action: format!("/settings/keys/{}/delete", key.id),
        nonce: user.nonce(&purpose(&key.id)),
        back: format!("/settings/keys/{}", key.id),
    }
}

pub(in crate::web) async fn confirm(user: User, Path(id): Path<String>) -> Result<Response, Failure> {
    let key = user.web.service().key(&id).await?;
    render(StatusCode::OK, &page(&user, &key, None))
}

pub(in crate::web) async fn delete(Path(id): Path<String>, submission: Submission) -> Result<Response, Failure> {
    let claim = submission.claim(&purpose(&id))?;
    let expected = submission.revision();
    let user = submission.user;
    let (web, actor, key_id) = (Arc::clone(&user.web), user.actor().to_owned(), id.clone());
    // A task of its own, so that it is finished, and remembered as done, even if the browser goes away.
    let work = tokio::spawn(async move {
        let deleted = web.service().delete_key(&actor, &key_id, expected).await?;
        web.receipts.begin(deleted.revision);
        claim.done(format!("The key “{}” was deleted by this form.", deleted.name), "/settings/keys");
        Ok::<_, Error>(deleted)
    });
    let deleted = match work.await.map_err(|_| Failure::Internal)? {
        Ok(deleted) => deleted,
        Err(Error::RevisionMismatch { .. }) => {
            let key = user.web.service().key(&id).await?;
            return render(StatusCode::CONFLICT, &page(&user, &key, Some(CHANGED.to_owned())));
        }
        Err(error) => return Err(error.into()),
    };
    let receipt = user.web.receipt(Verb::Refused, deleted.revision, WAIT).await?;
    let page = Deleted { page: user.chrome(Section::Keys, Some("receipts")), name: deleted.name, receipt };
    render(StatusCode::OK, &page)
}
