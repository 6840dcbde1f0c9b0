//! `manifest`: keys that come with the configuration, called inline keys.

use super::object::ObjectReader;
use crate::checksum;
use crate::digest::Digest;
use crate::key::KeyId;
use crate::manifest::LiveKey;
use crate::table::{KeyTable, RecordProblem};
use crate::timestamp::Timestamp;
use sha2::{Digest as _, Sha256};
use std::borrow::Cow;
use std::sync::Arc;

/// The limit of memory that the inline keys may take in a VM, in bytes of [`KeyTable::bytes`].
pub const MAX_INLINE_BYTES: usize = 8 << 20;

/// The inline keys and when they are used.
#[derive(Debug)]
pub struct Inline {
    /// When the keys are used.
    pub when: Use,
    /// The keys.
    pub keys: Arc<KeyTable>,
    /// A hash over all the keys as they were read. Equal hashes mean equal tables.
    pub(super) digest: [u8; 32],
}

/// When the inline keys are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// They are used beside the fetched keys.
    Always,
    /// They are used only while there is no usable fetched manifest.
    Fallback,
}

/// Reads `manifest`.
pub(super) fn read(fields: &mut ObjectReader<'_, '_>, has_admin: bool) -> Option<Inline> {
    let default = if has_admin { Use::Fallback } else { Use::Always };
    let when = fields.choice("use", &[("always", Use::Always), ("fallback", Use::Fallback)]).unwrap_or(default);
    fields.missing("keys", "list the keys, or leave `manifest` out");
    let mut reading = Reading { keys: KeyTable::new(), hash: Sha256::new(), number: 0, is_full: false };
    fields.objects("keys", |entry| reading.read_key(entry));
    Some(Inline { when, keys: Arc::new(reading.keys), digest: reading.hash.finalize().into() })
}

/// The keys that have been read so far.
struct Reading {
    keys: KeyTable,
    hash: Sha256,
    number: u64,
    is_full: bool,
}

impl Reading {
    /// Reads one key into the table, which also knows which ids and digests were there before.
    fn read_key(&mut self, entry: &mut ObjectReader<'_, '_>) -> Option<()> {
        self.number += 1;
        entry.missing("id", "give each key an id, like `key_01`");
        entry.missing("sha256", "write what `keyward hash` prints for the key");
        let id = entry.string("id");
        if id.is_some_and(|id| !KeyId::is_valid(id)) {
            entry.problem("id", "not 1 to 100 characters without control characters", "use an id like `key_01`");
        }
        let is_new = id.is_none_or(|id| !self.keys.contains_id(id));
        if let Some(id) = id.filter(|_| !is_new) {
            entry.problem("id", format!("`{id}` is given twice"), "ids are unique: give one of the keys another");
        }
        let name = entry.string("name").or(id);
        if name.is_some_and(|name| !is_plain(name)) {
            entry.problem("name", "not 1 to 100 characters without control characters", "use a name like `CI Bot`");
        }
        let digest = digest(entry);
        let permissions = read_permissions(entry);
        let expires_at = if entry.is_null("expires_at") { None } else { entry.string("expires_at") };
        let lifetime = expires_at.map(Timestamp::parse);
        if matches!(lifetime, Some(Err(_))) {
            let help = "write it like `2027-01-01T00:00:00Z`, or null for never";
            entry.problem("expires_at", "not an RFC 3339 time", help);
        }
        let disabled = entry.bool("disabled").unwrap_or(false);
        let key = LiveKey {
            revision: 0,
            id: Cow::Borrowed(id.filter(|_| is_new)?),
            name: Cow::Borrowed(name.unwrap_or_default()),
            // With a mistake the configuration is refused anyway; the id is kept all the same, to tell if it comes twice.
            sha256: digest.unwrap_or_else(|| Digest::of_key(&self.number.to_le_bytes())).to_hex().into(),
            permissions,
            expires_at: expires_at.filter(|_| matches!(lifetime, Some(Ok(_)))).map(Cow::Borrowed),
            disabled,
            must: Vec::new(),
        };
        if self.is_full {
            return None;
        }
        match self.keys.upsert(&key).map_err(|invalid| invalid.problem) {
            Ok(()) if self.keys.bytes() > MAX_INLINE_BYTES => {
                self.is_full = true;
                let message = format!(
                    "with this key the keys take over {MAX_INLINE_BYTES} bytes in every VM, and that is the limit"
                );
                entry.problem("", message, "let the admin service keep the keys (`admin`)");
            }
            Ok(()) => {
                let mut text = Vec::new();
                checksum::write_text(&mut text, &key, &checksum::sorted(&key.permissions));
                self.hash.update((text.len() as u64).to_le_bytes());
                self.hash.update(text);
            }
            Err(RecordProblem::DigestTaken) => {
                entry.problem(
                    "sha256",
                    "an earlier key has the same digest",
                    "two entries for one key: keep one of them",
                );
            }
            Err(problem) => entry.problem(
                problem.field(),
                problem.to_string(),
                "shorten it, or let the admin service keep the keys",
            ),
        }
        Some(())
    }
}

/// Reads the digest. It is never echoed, because a reader of the log could test guesses against it.
fn digest(entry: &mut ObjectReader<'_, '_>) -> Option<Digest> {
    let text = entry.string("sha256")?;
    let Ok(digest) = Digest::from_hex(text) else {
        let message = format!("not 64 hex digits (length {})", text.chars().count());
        entry.problem("sha256", message, "write what `keyward hash` prints for the key, never the key itself");
        return None;
    };
    Some(digest)
}

fn read_permissions<'j>(entry: &mut ObjectReader<'_, 'j>) -> Vec<Cow<'j, str>> {
    // An empty list is a key that may use `authenticated` routes alone.
    if entry.list("permissions").is_none_or(<[_]>::is_empty) {
        return Vec::new();
    }
    let mut permissions = Vec::new();
    for (place, text) in entry.strings("permissions", "").unwrap_or_default() {
        if !super::rules::is_permission(text) {
            entry.problem(&place, format!("`{text}` is not a permission name"), super::rules::PERMISSION_HELP);
        }
        permissions.push(Cow::Borrowed(text));
    }
    permissions
}

fn is_plain(text: &str) -> bool {
    (1..=100).contains(&text.chars().count()) && !text.chars().any(char::is_control)
}
