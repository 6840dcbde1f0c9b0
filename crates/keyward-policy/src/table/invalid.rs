//! Why a record cannot be taken into a table.

use std::fmt;

/// A record that the table refuses. Its text names the key by its id, never by its digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidRecord {
    /// The revision of the record. It is 0 in a plugin configuration.
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
    /// `id` is longer than [`MAX_ID_BYTES`].
    LongId,
    /// `name` is longer than [`MAX_NAME_BYTES`].
    LongName,
    /// There are more permissions than [`MAX_KEY_PERMISSIONS`].
    ManyPermissions,
    /// A permission is longer than [`MAX_PERMISSION_BYTES`].
    LongPermission,
    /// The table holds as many keys as it can, or all tables of the VM together take the memory that they may.
    Full,
}

/// The limit of bytes in the id of a key.
pub const MAX_ID_BYTES: usize = 512;
/// The limit of bytes in the name of a key.
pub const MAX_NAME_BYTES: usize = 1_024;
/// The limit of permissions that one key may have.
pub const MAX_KEY_PERMISSIONS: usize = 256;
/// The limit of bytes in the name of one permission.
pub const MAX_PERMISSION_BYTES: usize = 256;

impl RecordProblem {
    /// Returns the field that is wrong.
    pub fn field(self) -> &'static str {
        match self {
            Self::Digest | Self::DigestTaken => "sha256",
            Self::Expiry => "expires_at",
            Self::LongId | Self::Full => "id",
            Self::LongName => "name",
            Self::ManyPermissions | Self::LongPermission => "permissions",
        }
    }
}

impl fmt::Display for RecordProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Digest => f.write_str("is not 64 hex digits"),
            Self::Expiry => f.write_str("is not an RFC 3339 time like `2027-01-01T00:00:00Z`"),
            Self::DigestTaken => f.write_str("belongs to another key already"),
            Self::LongId => write!(f, "has more than {MAX_ID_BYTES} bytes"),
            Self::LongName => write!(f, "has more than {MAX_NAME_BYTES} bytes"),
            Self::ManyPermissions => write!(f, "has more than {MAX_KEY_PERMISSIONS} entries"),
            Self::LongPermission => write!(f, "has an entry of more than {MAX_PERMISSION_BYTES} bytes"),
            Self::Full => f.write_str("has no room: the key tables hold as much as they may"),
        }
    }
}

impl InvalidRecord {
    /// Returns the field that is wrong.
    pub fn field(&self) -> &'static str {
        self.problem.field()
    }
}

impl fmt::Display for InvalidRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (id, rest) = shortened(&self.id);
        let (field, problem) = (self.field(), self.problem);
        write!(f, "key `{}{rest}` (revision {}): `{field}` {problem}", id.escape_default(), self.revision)
    }
}

impl std::error::Error for InvalidRecord {}

/// Returns the start of an id, and `…` if there is more. An id may have as many bytes as a page.
fn shortened(id: &str) -> (&str, &str) {
    let end = id.floor_char_boundary(100);
    id.get(..end).filter(|start| start.len() < id.len()).map_or((id, ""), |start| (start, "…"))
}

/// The table holds as many keys as it can, and takes no further changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableFull;

impl fmt::Display for TableFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the table holds as many keys as it can")
    }
}

impl std::error::Error for TableFull {}
