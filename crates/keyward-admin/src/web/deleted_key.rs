//! A key that was deleted: who deleted it, and when.

use super::moment::time_inline;
use keyward_policy::timestamp::Timestamp;

/// A key that was deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DeletedKey {
    /// The name that the key had.
    pub name: String,
    /// The name of the token that deleted it, or `keyward` if the service did, because the key had expired long before.
    pub actor: String,
    /// When it was deleted.
    pub deleted_at: Timestamp,
}

impl DeletedKey {
    /// When the key was deleted, as markup.
    pub fn at(&self) -> String {
        time_inline(self.deleted_at)
    }
}
