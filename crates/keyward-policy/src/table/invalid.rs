//! Why a record cannot be taken into a table.

use std::fmt;

/// A record that the table refuses. It names the key by its id, never by its digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidRecord {
    /// The revision that the record carries; 0 in a plugin config.
    pub revision: u64,
    /// The key's id.
    pub id: Box<str>,
    /// What is wrong with it.
    pub problem: RecordProblem,
}

/// What is wrong with a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordProblem {
    /// `sha256` is not 64 hex digits.
    Digest,
    /// `expires_at` is not an RFC 3339 time.
    Expiry,
    /// Another id holds the same `sha256`.
    DigestTaken,
    /// The table holds as many keys as it can.
    Full,
}

impl InvalidRecord {
    /// The field that is wrong.
    pub fn field(&self) -> &'static str {
        match self.problem {
            RecordProblem::Digest | RecordProblem::DigestTaken => "sha256",
            RecordProblem::Expiry => "expires_at",
            RecordProblem::Full => "id",
        }
    }
}

impl fmt::Display for InvalidRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.problem {
            RecordProblem::Digest => "is not 64 hex digits",
            RecordProblem::Expiry => "is not an RFC 3339 time like `2027-01-01T00:00:00Z`",
            RecordProblem::DigestTaken => "belongs to another key already",
            RecordProblem::Full => "has no room: the table is full",
        };
        write!(f, "key `{}` (revision {}): `{}` {what}", self.id.escape_debug(), self.revision, self.field())
    }
}

impl std::error::Error for InvalidRecord {}

/// The table holds as many keys as it can, and takes no further changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableFull;

impl fmt::Display for TableFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the table holds as many keys as it can")
    }
}

impl std::error::Error for TableFull {}
