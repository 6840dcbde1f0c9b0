//! Entries of the audit log, as views show them.

use super::moment::time_to_the_second;
use super::view::permission_label;
use crate::audit_words::{details, in_words};
use crate::catalogue::Catalogue;
use crate::store::audit::AuditEntry;

/// An entry of the audit log.
pub(super) struct EntryRow {
    /// The position of the entry in the log.
    pub seq: i64,
    /// When the action was done, as markup.
    pub at: String,
    pub actor: String,
    pub what: String,
    /// The path of the key's own page. `None` means that the entry is about no key, or that it ended the key.
    pub key_href: Option<String>,
    pub is_key: bool,
    pub subject_id: String,
    pub subject_name: String,
    pub revision: Option<u64>,
    pub detail: Vec<String>,
}

impl EntryRow {
    pub fn new(catalogue: &Catalogue, entry: AuditEntry) -> Self {
        let is_key = entry.action.starts_with("key.");
        let detail = details(&entry.detail, |id| permission_label(catalogue, id));
        Self {
            seq: entry.seq,
            at: time_to_the_second(entry.at),
            what: in_words(&entry.action, &entry.detail),
            key_href: (is_key && !matches!(&*entry.action, "key.delete" | "key.purge"))
                .then(|| format!("/settings/keys/{}", entry.subject_id)),
            is_key,
            actor: entry.actor,
            subject_id: entry.subject_id,
            subject_name: entry.subject_name,
            revision: entry.revision,
            detail,
        }
    }
}
