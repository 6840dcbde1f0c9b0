//! The form fields of a key's name and permissions.

use crate::catalogue::Catalogue;
use crate::service::FieldError;

/// As many permissions are looked through at a glance.
const FEW_PERMISSIONS: usize = 10;

/// The fields, with their values and mistakes.
pub(super) struct KeyFields {
    pub name: String,
    pub name_error: Option<String>,
    pub groups: Vec<GroupFields>,
    pub permissions_error: Option<String>,
}

pub(super) struct GroupFields {
    pub label: String,
    pub permissions: Vec<PermissionField>,
}

pub(super) struct PermissionField {
    pub id: String,
    pub label: String,
    pub description: String,
    pub granted: bool,
}

impl KeyFields {
    /// Returns the fields with every permission of the catalogue, and with those that the key `has` although the catalogue
    /// no longer does.
    pub fn new(catalogue: &Catalogue, name: &str, granted: &[String], has: &[String]) -> Self {
        let field = |id: &str, label: &str, description: &str| PermissionField {
            id: id.to_owned(),
            label: label.to_owned(),
            description: description.to_owned(),
            granted: granted.iter().any(|name| name == id),
        };
        let mut groups: Vec<GroupFields> = catalogue
            .groups
            .iter()
            .map(|group| GroupFields {
                label: group.label.clone(),
                permissions: group.permissions.iter().map(|p| field(&p.id, &p.label, &p.description)).collect(),
            })
            .collect();
        let others: Vec<PermissionField> = has
            .iter()
            .filter(|id| !catalogue.contains(id))
            .map(|id| field(id, id, "No longer in the catalogue. Once removed, it cannot be granted again."))
            .collect();
        if !others.is_empty() {
            groups.push(GroupFields { label: "Others".to_owned(), permissions: others });
        }
        Self { name: name.to_owned(), name_error: None, groups, permissions_error: None }
    }

    /// Whether something is wrong with a field.
    pub fn are_wrong(&self) -> bool {
        self.name_error.is_some() || self.permissions_error.is_some()
    }

    /// Whether there are so many permissions that choosing wants a filter and a button for each group.
    pub fn are_many(&self) -> bool {
        self.groups.iter().map(|group| group.permissions.len()).sum::<usize>() > FEW_PERMISSIONS
    }

    /// Puts each mistake beside its field. Returns the mistakes that belong to none of the fields.
    pub fn put(&mut self, errors: &[FieldError]) -> Option<String> {
        let mut rest = Vec::new();
        for error in errors {
            match error.field.as_str() {
                "name" if self.name.is_empty() => self.name_error = Some("Give the key a name.".to_owned()),
                "name" => self.name_error = Some(format!("The name {}.", error.message)),
                "permissions" => self.permissions_error = Some("Choose at least one permission.".to_owned()),
                field if field.starts_with("permissions[") => {
                    self.permissions_error = Some(format!("One of them {}.", error.message));
                }
                field => rest.push(format!("{field} {}.", error.message)),
            }
        }
        (!rest.is_empty()).then(|| rest.join(" "))
    }
}
