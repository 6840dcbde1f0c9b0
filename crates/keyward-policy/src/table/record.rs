//! A live key whose fields have been read, ready to be put into a table.

use super::invalid::{InvalidRecord, RecordProblem};
use crate::checksum::{contribution_of, sorted};
use crate::digest::Digest;
use crate::key::KeyView;
use crate::manifest::LiveKey;
use crate::timestamp::Timestamp;

/// A [`LiveKey`] with its digest and expiry read and its part of the checksum known.
#[derive(Debug)]
pub struct Record<'a> {
    pub(super) revision: u64,
    pub(super) id: &'a str,
    pub(super) name: &'a str,
    /// Sorted, each once.
    pub(super) permissions: Vec<&'a str>,
    pub(super) digest: Digest,
    pub(super) expires_at: Option<Timestamp>,
    pub(super) disabled: bool,
    pub(super) unsupported: bool,
    pub(super) contribution: u64,
}

impl<'a> Record<'a> {
    /// Reads the fields. This build knows nothing that a record could carry in `must`.
    ///
    /// # Errors
    /// [`InvalidRecord`] where `sha256` or `expires_at` cannot be read.
    pub fn read(key: &'a LiveKey<'_>) -> Result<Self, InvalidRecord> {
        let invalid = |problem| InvalidRecord { revision: key.revision, id: (&*key.id).into(), problem };
        let digest = Digest::from_hex(&key.sha256).map_err(|_| invalid(RecordProblem::Digest))?;
        let expires_at = key.expires_at.as_deref().map(Timestamp::parse).transpose();
        let expires_at = expires_at.map_err(|_| invalid(RecordProblem::Expiry))?;
        let mut permissions = sorted(&key.permissions);
        let contribution = contribution_of(key, &permissions);
        permissions.dedup();
        Ok(Self {
            revision: key.revision,
            id: &key.id,
            name: &key.name,
            permissions,
            digest,
            expires_at,
            disabled: key.disabled,
            unsupported: !key.must.is_empty(),
            contribution,
        })
    }

    /// Of a key in one base, for another one.
    pub(super) fn of_view(id: &'a str, view: &KeyView<'a>, digest: Digest, contribution: u64) -> Self {
        Self {
            revision: 0,
            id,
            name: view.name,
            permissions: view.permissions.iter().collect(),
            digest,
            expires_at: view.expires_at,
            disabled: view.disabled,
            unsupported: view.unsupported,
            contribution,
        }
    }

    /// The error that says so of this record.
    pub(super) fn invalid(&self, problem: RecordProblem) -> InvalidRecord {
        InvalidRecord { revision: self.revision, id: self.id.into(), problem }
    }
}
