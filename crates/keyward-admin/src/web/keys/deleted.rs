//! Keys that were deleted: who deleted them, and when.

use crate::service::Error;
use crate::store::audit::AuditFilter;
use crate::store::keys::KeyRecord;
use crate::web::failure::Failure;
use crate::web::moment::time_inline;
use crate::web::user::User;
use keyward_policy::timestamp::Timestamp;

/// A key that was deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::web) struct DeletedKey {
    /// The name that the key had.
    pub name: String,
    /// The name of the token that deleted it, or `keyward` if the service did, because the key had expired long before.
    pub actor: String,
    at: Timestamp,
}

impl DeletedKey {
    /// Finds out who deleted a key, and when. `None` means that there is no record of it.
    pub(super) async fn find(user: &User, id: &str) -> Result<Option<Self>, Failure> {
        let filter = AuditFilter { subject_id: Some(id.to_owned()), ..AuditFilter::default() };
        let newest = user.web.service().audit(&filter, None, 1).await?.into_iter().next();
        let deleted = newest.filter(|entry| ["key.delete", "key.purge"].contains(&entry.action.as_str()));
        Ok(deleted.map(|entry| Self { name: entry.subject_name, actor: entry.actor, at: entry.at }))
    }

    /// When the key was deleted, as markup.
    pub(in crate::web) fn at(&self) -> String {
        time_inline(self.at)
    }
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
    match DeletedKey::find(user, id).await {
        Ok(Some(deleted)) => Failure::Deleted(deleted),
        Ok(None) => Failure::NotFound,
        Err(failure) => failure,
    }
}
