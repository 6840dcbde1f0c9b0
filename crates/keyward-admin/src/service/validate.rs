//! What people may send.

use super::error::FieldError;
use crate::catalogue::{Catalogue, MOST_PERMISSIONS};

/// Longest name, in characters.
pub const LONGEST_NAME: usize = 100;
/// The rule for names as a regular expression of JSON Schema: no control characters, no white space at the ends.
pub const NAME_PATTERN: &str = "^[^\\u0000-\\u0020\\u007f-\\u00a0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000]\
    ([^\\u0000-\\u001f\\u007f-\\u009f]{0,98}[^\\u0000-\\u0020\\u007f-\\u00a0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000])?$";

/// Checks the name of a key or a token.
pub fn name(field: &str, name: &str, errors: &mut Vec<FieldError>) {
    let characters = name.chars().count();
    if characters == 0 || characters > LONGEST_NAME {
        errors.push(FieldError::new(field, format!("must have 1 to {LONGEST_NAME} characters, not {characters}")));
    } else if name.chars().any(char::is_control) {
        errors.push(FieldError::new(field, "must not hold control characters"));
    } else if name.trim() != name {
        errors.push(FieldError::new(field, "must not begin or end with white space"));
    }
}

/// Checks the permissions of a key against the catalogue and gives them, each once. What the key `has` already may
/// stay, even where the catalogue has lost it.
pub fn permissions(
    wanted: Vec<String>,
    has: &[String],
    catalogue: &Catalogue,
    errors: &mut Vec<FieldError>,
) -> Vec<String> {
    let mut once: Vec<String> = Vec::new();
    if wanted.is_empty() {
        errors
            .push(FieldError::new("permissions", "must name at least one permission: GET /v1/permissions lists them"));
    }
    if wanted.len() > MOST_PERMISSIONS {
        errors.push(FieldError::new("permissions", format!("must not have more than {MOST_PERMISSIONS} entries")));
        return once;
    }
    for (index, permission) in wanted.into_iter().enumerate() {
        if !catalogue.contains(&permission) && !has.contains(&permission) {
            let message = format!("is not a permission: {}", known(catalogue));
            errors.push(FieldError::new(format!("permissions[{index}]"), message));
        } else if !once.contains(&permission) {
            once.push(permission);
        }
    }
    once
}

fn known(catalogue: &Catalogue) -> String {
    let ids: Vec<String> = catalogue.permissions().map(|permission| format!("`{}`", permission.id)).collect();
    match ids.len() {
        0..=12 => format!("there are {}", ids.join(", ")),
        _ => "GET /v1/permissions lists them".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let ok = ["a", "CI Bot", "ключ", "🔑", &"é".repeat(100)];
        let bad = ["", " ", " a", "a ", "a\nb", "a\u{7f}", "\u{85}", "\u{a0}x", &"a".repeat(101)];
        for text in ok {
            let mut errors = Vec::new();
            name("name", text, &mut errors);
            assert_eq!(errors, [], "{text:?}");
        }
        for text in bad {
            let mut errors = Vec::new();
            name("name", text, &mut errors);
            assert_eq!(errors.len(), 1, "{text:?}");
        }
    }

    #[test]
    fn permissions_are_of_the_catalogue_and_each_once() {
        let catalogue = Catalogue::databases_api();
        let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let mut errors = Vec::new();
        let once = permissions(list(&["files:read", "records:read", "files:read"]), &[], &catalogue, &mut errors);
        assert_eq!((once, errors.len()), (list(&["files:read", "records:read"]), 0));
        permissions(list(&["records:read", "old", "odd"]), &list(&["old"]), &catalogue, &mut errors);
        assert_eq!(errors.iter().map(|error| error.field.as_str()).collect::<Vec<_>>(), ["permissions[2]"]);
        permissions(Vec::new(), &[], &catalogue, &mut errors);
        assert_eq!(errors.len(), 2);
    }
}
