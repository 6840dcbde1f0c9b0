//! The manifest's wire format: one page of changes, as `GET /v1/manifest` answers it.
//!
//! Strings are borrowed from the page where JSON lets them be, so that reading a page costs no
//! allocation per key. What is read here is the shape; whether a page may be applied is decided by
//! the sync state machine.

use crate::timeline::Mark;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt;

/// The only format there is. Any other number is a failed poll.
pub const FORMAT: u32 = 1;

/// One answer of `GET /v1/manifest`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page<'a> {
    /// [`FORMAT`].
    pub format: u32,
    /// Identity of the store; another one means another set of keys.
    #[serde(borrow)]
    pub store: Cow<'a, str>,
    /// The revision that was asked from.
    pub since: u64,
    /// The revision to ask from next.
    pub revision: u64,
    /// The mark of `revision`, where `more` is false. `None` means that the service is older than marks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mark: Option<Mark>,
    /// The newest revision of the store when the page was made.
    pub head: u64,
    /// Whether there is more to fetch before the table is complete.
    pub more: bool,
    /// Changes with `since` < revision ≤ `revision`, in rising order.
    #[serde(borrow)]
    pub keys: Vec<Change<'a>>,
    /// What the table must hold at `revision`.
    #[serde(borrow)]
    pub live: Live<'a>,
}

/// The live set of the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Live<'a> {
    /// How many keys are live.
    pub count: u64,
    /// 16 hex digits; present only where `more` is false.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub checksum: Option<Cow<'a, str>>,
}

/// One change: a key as it is now, or its tombstone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawChange<'_>", into = "RawChange<'a>")]
pub enum Change<'a> {
    /// The key is live, with these contents.
    Live(#[serde(borrow)] LiveKey<'a>),
    /// The key is gone.
    Deleted {
        /// The revision of the delete.
        revision: u64,
        /// Which key.
        id: Cow<'a, str>,
    },
}

impl Change<'_> {
    /// The revision of this change.
    pub fn revision(&self) -> u64 {
        match self {
            Change::Live(key) => key.revision,
            Change::Deleted { revision, .. } => *revision,
        }
    }

    /// The key as it is now; None where it is gone.
    pub fn live(&self) -> Option<&LiveKey<'_>> {
        match self {
            Change::Live(key) => Some(key),
            Change::Deleted { .. } => None,
        }
    }

    /// The key that changed.
    pub fn id(&self) -> &str {
        match self {
            Change::Live(key) => &key.id,
            Change::Deleted { id, .. } => id,
        }
    }
}

/// A live key, each field exactly as it stands on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveKey<'a> {
    /// The revision of the key's last change.
    pub revision: u64,
    /// `key_` and 16 base32 characters, from our service; any text elsewhere.
    pub id: Cow<'a, str>,
    /// What people call it.
    pub name: Cow<'a, str>,
    /// 64 lower-case hex digits.
    pub sha256: Cow<'a, str>,
    /// Machine names of what is granted.
    pub permissions: Vec<Cow<'a, str>>,
    /// RFC 3339 in UTC; none: never expires.
    pub expires_at: Option<Cow<'a, str>>,
    /// Refused until enabled again.
    pub disabled: bool,
    /// Features that a filter has to know to honour this key; a filter that does not know one refuses the key.
    pub must: Vec<Cow<'a, str>>,
}

/// The JSON object behind a [`Change`]. Unknown fields are ignored: newer services may add some.
#[derive(Serialize, Deserialize, Default)]
struct RawChange<'a> {
    revision: u64,
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    deleted: bool,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    name: Option<Text<'a>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    sha256: Option<Text<'a>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    permissions: Option<Vec<Text<'a>>>,
    /// Of a live key always written, as null where it never ends; of a tombstone never.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    expires_at: Option<Option<Text<'a>>>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    disabled: bool,
    #[serde(borrow, default, skip_serializing_if = "Vec::is_empty")]
    must: Vec<Text<'a>>,
}

/// serde borrows a bare `Cow<str>` field but owns one inside a `Vec` or an `Option`; this newtype borrows everywhere.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'a> TryFrom<RawChange<'a>> for Change<'a> {
    type Error = InvalidChange;

    fn try_from(raw: RawChange<'a>) -> Result<Self, InvalidChange> {
        if raw.deleted {
            return Ok(Change::Deleted { revision: raw.revision, id: raw.id });
        }
        let missing = |field| InvalidChange { revision: raw.revision, field };
        Ok(Change::Live(LiveKey {
            name: raw.name.ok_or_else(|| missing("name"))?.0,
            sha256: raw.sha256.ok_or_else(|| missing("sha256"))?.0,
            permissions: raw.permissions.ok_or_else(|| missing("permissions"))?.into_iter().map(|t| t.0).collect(),
            revision: raw.revision,
            id: raw.id,
            expires_at: raw.expires_at.flatten().map(|t| t.0),
            disabled: raw.disabled,
            must: raw.must.into_iter().map(|t| t.0).collect(),
        }))
    }
}

impl<'a> From<Change<'a>> for RawChange<'a> {
    fn from(change: Change<'a>) -> Self {
        match change {
            Change::Deleted { revision, id } => RawChange { revision, id, deleted: true, ..RawChange::default() },
            Change::Live(key) => RawChange {
                revision: key.revision,
                id: key.id,
                name: Some(Text(key.name)),
                sha256: Some(Text(key.sha256)),
                permissions: Some(key.permissions.into_iter().map(Text).collect()),
                expires_at: Some(key.expires_at.map(Text)),
                disabled: key.disabled,
                must: key.must.into_iter().map(Text).collect(),
                deleted: false,
            },
        }
    }
}

/// A record is neither a tombstone nor a whole key.
#[derive(Debug, Clone, PartialEq, Eq)]
struct InvalidChange {
    revision: u64,
    field: &'static str,
}

impl fmt::Display for InvalidChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the record of revision {} has no `{}`", self.revision, self.field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = r#"{"format":1,"store":"st_9f","since":0,"revision":2,"head":5,"more":true,
        "keys":[{"revision":1,"id":"key_1","name":"CI Bot","sha256":"ab","permissions":["records:read"],"expires_at":"2027-01-01T00:00:00Z","later":[1]},
                {"revision":2,"id":"key_2","deleted":true}],"live":{"count":70112}}"#;

    #[test]
    fn a_page_is_read_without_copying_and_written_again() {
        let page: Page<'_> = serde_json::from_str(PAGE).unwrap();
        let [Change::Live(key), Change::Deleted { revision: 2, .. }] = &page.keys[..] else { panic!("{page:?}") };
        assert!(matches!(key.name, Cow::Borrowed("CI Bot")));
        assert!(matches!(key.permissions[0], Cow::Borrowed("records:read")));
        assert!(!key.disabled && key.must.is_empty());
        let again = serde_json::to_string(&page).unwrap();
        assert_eq!(serde_json::from_str::<Page<'_>>(&again).unwrap(), page);
        assert!(!again.contains("disabled") && !again.contains("must") && !again.contains("checksum"), "{again}");
    }

    #[test]
    fn a_key_without_end_says_so_and_a_tombstone_says_nothing_of_it() {
        let text = PAGE.replace(r#""2027-01-01T00:00:00Z""#, "null");
        let page: Page<'_> = serde_json::from_str(&text).unwrap();
        assert!(matches!(&page.keys[0], Change::Live(key) if key.expires_at.is_none()), "{page:?}");
        let again = serde_json::to_string(&page).unwrap();
        assert_eq!(again.matches(r#""expires_at":null"#).count(), 1, "{again}");
        let without = again.replace(r#","expires_at":null"#, "");
        assert_ne!(without, again);
        assert_eq!(serde_json::from_str::<Page<'_>>(&without).unwrap(), page, "left out it means the same");
    }

    #[test]
    fn a_record_that_is_neither_key_nor_tombstone_is_refused() {
        let err = serde_json::from_str::<Page<'_>>(&PAGE.replace(r#""sha256":"ab","#, "")).unwrap_err();
        assert!(err.to_string().contains("the record of revision 1 has no `sha256`"), "{err}");
    }
}
