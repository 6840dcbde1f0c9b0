//! A live key whose fields have been read, ready to be put into a table.

use super::invalid::{InvalidRecord, RecordProblem};
use crate::checksum::contribution;
use crate::digest::Digest;
use crate::manifest::LiveKey;
use crate::timestamp::Timestamp;

/// A [`LiveKey`] with its digest and expiry read and its part of the checksum known.
#[derive(Debug)]
pub struct Record<'a> {
    pub(super) key: &'a LiveKey<'a>,
    pub(super) digest: Digest,
    pub(super) expires_at: Option<Timestamp>,
    pub(super) contribution: u64,
}

impl<'a> Record<'a> {
    /// Reads the fields.
    ///
    /// # Errors
    /// [`InvalidRecord`] where `sha256` or `expires_at` cannot be read.
    pub fn read(key: &'a LiveKey<'a>) -> Result<Self, InvalidRecord> {
        let invalid = |problem| InvalidRecord::new(key, problem);
        let digest = Digest::from_hex(&key.sha256).map_err(|_| invalid(RecordProblem::Digest))?;
        let expires_at = key.expires_at.as_deref().map(Timestamp::parse).transpose();
        let expires_at = expires_at.map_err(|_| invalid(RecordProblem::Expiry))?;
        Ok(Self { key, digest, expires_at, contribution: contribution(key) })
    }

    /// The key's id.
    pub fn id(&self) -> &'a str {
        &self.key.id
    }

    /// The key's digest.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// What it adds to the checksum.
    pub fn contribution(&self) -> u64 {
        self.contribution
    }

    /// The error that says so of this record.
    pub(crate) fn invalid(&self, problem: RecordProblem) -> InvalidRecord {
        InvalidRecord::new(self.key, problem)
    }
}
