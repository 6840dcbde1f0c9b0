//! A live key whose fields have been read, ready to be put into a table.

use super::invalid::{
    InvalidRecord, MAX_ID_BYTES, MAX_KEY_PERMISSIONS, MAX_NAME_BYTES, MAX_PERMISSION_BYTES, RecordProblem,
};
use crate::checksum::{contribution_from, contribution_of, sorted, write_text};
use crate::digest::Digest;
use crate::key::KeyRef;
use crate::manifest::{Change, LiveKey};
use crate::sha256x4::{LANES, Texts};
use crate::timestamp::Timestamp;

/// A [`LiveKey`] with its digest and expiry read and its part of the checksum known.
#[derive(Debug)]
pub struct Record<'a> {
    pub(super) revision: u64,
    pub(super) id: &'a str,
    pub(super) name: &'a str,
    /// The permissions, sorted and different.
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
    /// Returns [`InvalidRecord`] where `sha256` or `expires_at` cannot be read, or a field is beyond its limit.
    pub fn read(key: &'a LiveKey<'_>) -> Result<Self, InvalidRecord> {
        let mut record = Self::read_fields(key)?;
        record.complete(contribution_of(key, &record.permissions));
        Ok(record)
    }

    /// Reads the live keys among up to [`LANES`] changes, which takes less time for each than one by one.
    ///
    /// # Errors
    /// Returns an error as [`read`](Self::read) does, for the first key that cannot be read.
    #[inline(never)]
    pub(super) fn read_together(changes: &'a [Change<'_>]) -> Result<Vec<Self>, InvalidRecord> {
        let mut records = Vec::with_capacity(LANES);
        let mut texts = Texts::default();
        for key in changes.iter().take(LANES).filter_map(Change::live) {
            let record = Self::read_fields(key)?;
            texts.push(|text| write_text(text, key, &record.permissions));
            records.push(record);
        }
        for (record, h) in records.iter_mut().zip(texts.first_words()) {
            record.complete(contribution_from(record.revision, h));
        }
        Ok(records)
    }

    /// Reads all but the contribution. Permissions are sorted; duplicates stay.
    fn read_fields(key: &'a LiveKey<'_>) -> Result<Self, InvalidRecord> {
        let invalid = |problem| InvalidRecord { revision: key.revision, id: (&*key.id).into(), problem };
        if let Some(problem) = over_limit(key) {
            return Err(invalid(problem));
        }
        let digest = Digest::from_hex(&key.sha256).map_err(|_| invalid(RecordProblem::Digest))?;
        let expires_at = key.expires_at.as_deref().map(Timestamp::parse).transpose();
        let expires_at = expires_at.map_err(|_| invalid(RecordProblem::Expiry))?;
        Ok(Self {
            revision: key.revision,
            id: &key.id,
            name: &key.name,
            permissions: sorted(&key.permissions),
            digest,
            expires_at,
            disabled: key.disabled,
            unsupported: !key.must.is_empty(),
            contribution: 0,
        })
    }

    fn complete(&mut self, contribution: u64) {
        self.contribution = contribution;
        self.permissions.dedup();
    }

    /// Makes the record of a key in one base, for another base.
    pub(super) fn of_view(id: &'a str, view: &KeyRef<'a>, digest: Digest, contribution: u64) -> Self {
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

    /// Makes the error for this record.
    pub(super) fn invalid(&self, problem: RecordProblem) -> InvalidRecord {
        InvalidRecord { revision: self.revision, id: self.id.into(), problem }
    }
}

/// Returns the first limit that a key exceeds. What a service may send is bounded here, before anything is sorted or kept.
fn over_limit(key: &LiveKey<'_>) -> Option<RecordProblem> {
    if key.id.len() > MAX_ID_BYTES {
        Some(RecordProblem::LongId)
    } else if key.name.len() > MAX_NAME_BYTES {
        Some(RecordProblem::LongName)
    } else if key.permissions.len() > MAX_KEY_PERMISSIONS {
        Some(RecordProblem::ManyPermissions)
    } else if key.permissions.iter().any(|name| name.len() > MAX_PERMISSION_BYTES) {
        Some(RecordProblem::LongPermission)
    } else {
        None
    }
}
