//! The permission catalogue: the permissions that a key can be granted, in groups, with labels for people.

use keyward_policy::count::counted;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;

/// At most this many permissions: a key's set is one line of a manifest.
pub const MAX_PERMISSIONS: usize = 200;
/// Longest machine name.
pub const MAX_NAME_BYTES: usize = 64;

/// All groups, in the order they are shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Catalogue {
    /// In the order they are shown.
    pub groups: Vec<Group>,
}

/// Permissions that belong together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// Machine name of the group.
    #[schema(example = "records")]
    pub id: String,
    /// Heading.
    #[schema(example = "Records")]
    pub label: String,
    /// The text below the heading.
    #[serde(default)]
    pub description: String,
    /// In the order they are shown.
    pub permissions: Vec<Permission>,
}

/// One thing that a key can be allowed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Permission {
    /// Machine name, as rules require it.
    #[schema(example = "records:read")]
    pub id: String,
    /// What people call it.
    #[schema(example = "Read records")]
    pub label: String,
    /// What it allows.
    #[serde(default)]
    pub description: String,
}

/// The catalogue file is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidCatalogue(String);

impl Catalogue {
    /// That of the Databases API, which is there without configuration.
    pub fn databases_api() -> Self {
        let permission = |id: &str, label: &str, description: &str| Permission {
            id: id.to_owned(),
            label: label.to_owned(),
            description: description.to_owned(),
        };
        Self {
            groups: vec![
                Group {
                    id: "records".to_owned(),
                    label: "Records".to_owned(),
                    description: "The records in collections.".to_owned(),
                    permissions: vec![
                        permission("records:read", "Read records", "Read and search records in collections."),
                        permission(
                            "records:write",
                            "Create & update records",
                            "Create new records and change existing ones.",
                        ),
                        permission("records:delete", "Delete records", "Delete records for good."),
                    ],
                },
                Group {
                    id: "files".to_owned(),
                    label: "Files".to_owned(),
                    description: "The files attached to records.".to_owned(),
                    permissions: vec![
                        permission("files:read", "Read files", "Download attachments."),
                        permission("files:write", "Upload files", "Upload files to records."),
                    ],
                },
            ],
        }
    }

    /// Reads a catalogue file: JSON where it begins with `{`, TOML otherwise.
    ///
    /// # Errors
    /// Returns [`InvalidCatalogue`], saying what is wrong and where.
    pub fn parse(text: &str) -> Result<Self, InvalidCatalogue> {
        let catalogue: Self = if text.trim_start().starts_with('{') {
            serde_json::from_str(text).map_err(|error| InvalidCatalogue(error.to_string()))?
        } else {
            toml::from_str(text).map_err(|error| InvalidCatalogue(error.to_string()))?
        };
        catalogue.check()?;
        Ok(catalogue)
    }

    fn check(&self) -> Result<(), InvalidCatalogue> {
        let mut seen = HashSet::new();
        for group in &self.groups {
            if group.label.trim().is_empty() {
                return Err(InvalidCatalogue(format!("the group `{}` needs a label", group.id)));
            }
            for permission in &group.permissions {
                let id = &permission.id;
                if !is_machine_name(id) {
                    return Err(InvalidCatalogue(format!(
                        "the permission `{id}` in the group `{}`: an id has 1 to {MAX_NAME_BYTES} characters of A-Z a-z 0-9 . _ : / * -",
                        group.id
                    )));
                }
                if !seen.insert(id) {
                    return Err(InvalidCatalogue(format!("the permission `{id}` is given twice")));
                }
                if permission.label.trim().is_empty() {
                    return Err(InvalidCatalogue(format!("the permission `{id}` needs a label")));
                }
            }
        }
        match seen.len() {
            0 => Err(InvalidCatalogue("there is no permission in it".to_owned())),
            count if count > MAX_PERMISSIONS => Err(InvalidCatalogue(format!(
                "{}, and at most {MAX_PERMISSIONS} are allowed",
                counted(count as u64, "permission")
            ))),
            _ => Ok(()),
        }
    }

    /// Whether a key can be granted this.
    pub fn contains(&self, id: &str) -> bool {
        self.permissions().any(|permission| permission.id == id)
    }

    /// All permissions, in order.
    pub fn permissions(&self) -> impl Iterator<Item = &Permission> {
        self.groups.iter().flat_map(|group| &group.permissions)
    }
}

fn is_machine_name(text: &str) -> bool {
    (1..=MAX_NAME_BYTES).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:/*-".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_a_catalogue_in_both_notations() {
        let catalogue = Catalogue::databases_api();
        assert_eq!(Catalogue::parse(&toml::to_string(&catalogue).unwrap()).as_ref(), Ok(&catalogue));
        assert_eq!(Catalogue::parse(&serde_json::to_string(&catalogue).unwrap()).as_ref(), Ok(&catalogue));
        let ids: Vec<&str> = catalogue.permissions().map(|p| p.id.as_str()).collect();
        assert_eq!(ids, ["records:read", "records:write", "records:delete", "files:read", "files:write"]);
    }

    #[test]
    fn mistakes_are_named() {
        for (text, says) in [
            ("groups = []", "no permission"),
            ("[[groups]]\nid='a'\nlabel='A'\npermissions=[{id='a b',label='x'}]", "`a b`"),
            ("[[groups]]\nid='a'\nlabel='A'\npermissions=[{id='a',label='x'},{id='a',label='y'}]", "twice"),
            ("[[groups]]\nid='a'\nlabel='A'\npermissions=[{id='a',label=' '}]", "label"),
            ("[[groups]]\nid='a'\nlabel='A'\ncolour='red'\npermissions=[{id='a',label='x'}]", "colour"),
            ("{\"groups\": [", "EOF"),
        ] {
            let error = Catalogue::parse(text).unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
