//! Finds out what became of a key that does not exist any more.

use crate::service::Error;
use crate::store::audit::AuditFilter;
use crate::store::keys::KeyRecord;
use crate::web::deleted_key::DeletedKey;
use crate::web::failure::Failure;
use crate::web::user::User;

/// Finds out who deleted a key, and when. `None` means that there is no record of it.
pub(super) async fn find(user: &User, id: &str) -> Result<Option<DeletedKey>, Failure> {
    let filter = AuditFilter { subject_id: Some(id.to_owned()), ..AuditFilter::default() };
    let newest = user.web.service().audit(&filter, None, 1).await?.into_iter().next();
    let deleted = newest.filter(|entry| ["key.delete", "key.purge"].contains(&entry.action.as_str()));
    Ok(deleted.map(|entry| DeletedKey { name: entry.subject_name, actor: entry.actor, deleted_at: entry.at }))
}

/// Returns a key. The failure says who deleted it.
pub(super) async fn live_key(user: &User, id: &str) -> Result<KeyRecord, Failure> {
    match user.web.service().key(id).await {
        Ok(key) => Ok(key),
        Err(error) => Err(failure(user, id, error).await),
    }
}

/// Returns why something could not be done with a key. If the key was deleted, the failure says by whom and when.
pub(super) async fn failure(user: &User, id: &str, error: Error) -> Failure {
    if !matches!(error, Error::NotFound) {
        return error.into();
    }
    match find(user, id).await {
        Ok(Some(deleted)) => Failure::Deleted(deleted),
        Ok(None) => Failure::NotFound,
        Err(failure) => failure,
    }
}
