//! Keys, permissions and times as the views show them.

use super::moment::{expiry, expiry_relative, time, time_relative};
use super::state::Web;
use super::tag::Tag;
use crate::catalogue::Catalogue;
use crate::lifetime::Lifetime;
use crate::secret::masked;
use crate::store::keys::KeyRecord;

/// How many permissions of a key a list shows before it folds the others.
const SHOWN_PERMISSIONS: usize = 3;

/// A permission by its label, or by its id if the catalogue no longer has it.
#[derive(Debug, Clone)]
pub(super) struct PermissionTag {
    pub id: String,
    pub label: String,
}

/// A key, as lists and confirmations show it.
pub(super) struct KeyRow {
    pub id: String,
    pub name: String,
    /// `None` means that the key is active, which a list does not say.
    pub state: Option<Tag>,
    pub permissions: Vec<PermissionTag>,
    pub masked: String,
    /// When the key was created. All times here are markup.
    pub created: String,
    pub regenerated: Option<String>,
    pub expires: String,
    pub last_used: String,
    /// The same three, as a list shows them: how long ago, or how long from now.
    pub created_ago: String,
    pub expires_soon: String,
    pub last_used_ago: String,
    pub lifetime: &'static str,
    pub never_used: bool,
    pub disabled: bool,
    pub revision: u64,
}

/// Returns the label of a lifetime.
pub(super) const fn lifetime_label(lifetime: Lifetime) -> &'static str {
    match lifetime {
        Lifetime::Week => "7 days",
        Lifetime::Month => "30 days",
        Lifetime::TwoMonths => "60 days",
        Lifetime::Quarter => "90 days",
        Lifetime::HalfYear => "180 days",
        Lifetime::Never => "No expiration",
    }
}

/// Returns the label of a permission.
pub(super) fn permission_label(catalogue: &Catalogue, id: &str) -> String {
    catalogue.permissions().find(|known| known.id == id).map_or(id, |known| &known.label).to_owned()
}

impl KeyRow {
    /// The permissions that a list shows one by one. One alone is not folded away, because the fold is no smaller.
    pub fn shown(&self) -> &[PermissionTag] {
        let count =
            if self.permissions.len() <= SHOWN_PERMISSIONS + 1 { self.permissions.len() } else { SHOWN_PERMISSIONS };
        &self.permissions[..count]
    }

    /// The labels of the others.
    pub fn folded(&self) -> Vec<&str> {
        self.permissions[self.shown().len()..].iter().map(|permission| &*permission.label).collect()
    }

    pub fn new(web: &Web, key: &KeyRecord) -> Self {
        let now = web.service().clock().now();
        let catalogue = &web.service().settings.catalogue;
        let state = if key.disabled {
            Some(Tag::new("bad", "Disabled"))
        } else if key.expires_at.is_some_and(|at| at <= now) {
            Some(Tag::new("bad", "Expired"))
        } else {
            None
        };
        let mut permissions = key.permissions.clone();
        // What the catalogue no longer has comes last.
        permissions.sort_by_key(|id| catalogue.permissions().position(|known| known.id == *id).unwrap_or(usize::MAX));
        let permissions = permissions.iter();
        let begun = key.regenerated_at.unwrap_or(key.created_at);
        Self {
            id: key.id.clone(),
            name: key.name.clone(),
            state,
            permissions: permissions
                .map(|id| PermissionTag { id: id.clone(), label: permission_label(catalogue, id) })
                .collect(),
            masked: masked(&key.prefix, &key.last_four),
            created: time(key.created_at),
            regenerated: key.regenerated_at.map(time),
            expires: expiry(key.expires_at, begun, now),
            last_used: key.last_used_at.map_or_else(|| Tag::new("quiet", "Never used").html(), time),
            created_ago: time_relative(key.created_at, now),
            expires_soon: expiry_relative(key.expires_at, begun, now),
            last_used_ago: key
                .last_used_at
                .map_or_else(|| Tag::new("quiet", "Never used").html(), |at| time_relative(at, now)),
            lifetime: lifetime_label(key.expires_in),
            never_used: key.last_used_at.is_none(),
            disabled: key.disabled,
            revision: key.revision,
        }
    }
}
