//! Checks of names and permissions.

use super::error::FieldError;
use crate::catalogue::{Catalogue, MAX_PERMISSIONS};
use crate::suggest::nearest;
use unicode_normalization::UnicodeNormalization as _;

/// The longest name of a key or a token.
pub const MAX_NAME_CHARACTERS: usize = 100;

/// Characters that nobody sees: Unicode's format characters (category Cf), among them those that turn the direction of
/// writing, and fillers that are drawn as nothing. With them two names look alike, or one looks like none.
const INVISIBLE: &[(char, char)] = &[
    ('\u{ad}', '\u{ad}'),
    ('\u{34f}', '\u{34f}'),
    ('\u{600}', '\u{605}'),
    ('\u{61c}', '\u{61c}'),
    ('\u{6dd}', '\u{6dd}'),
    ('\u{70f}', '\u{70f}'),
    ('\u{890}', '\u{891}'),
    ('\u{8e2}', '\u{8e2}'),
    ('\u{115f}', '\u{1160}'),
    ('\u{17b4}', '\u{17b5}'),
    ('\u{180e}', '\u{180e}'),
    ('\u{200b}', '\u{200f}'),
    ('\u{202a}', '\u{202e}'),
    ('\u{2060}', '\u{206f}'),
    ('\u{2800}', '\u{2800}'),
    ('\u{3164}', '\u{3164}'),
    ('\u{feff}', '\u{feff}'),
    ('\u{ffa0}', '\u{ffa0}'),
    ('\u{fff9}', '\u{fffb}'),
    ('\u{110bd}', '\u{110bd}'),
    ('\u{110cd}', '\u{110cd}'),
    ('\u{13430}', '\u{1343f}'),
    ('\u{1bca0}', '\u{1bca3}'),
    ('\u{1d173}', '\u{1d17a}'),
    ('\u{e0000}', '\u{e0fff}'),
];

/// The characters of [`INVISIBLE`] in a class of a regular expression.
macro_rules! invisible {
    () => {
        "\\u00ad\\u034f\\u0600-\\u0605\\u061c\\u06dd\\u070f\\u0890-\\u0891\\u08e2\\u115f-\\u1160\\u17b4-\\u17b5\\u180e\\u200b-\\u200f\\u202a-\\u202e\\u2060-\\u206f\\u2800\\u3164\\ufeff\\uffa0\\ufff9-\\ufffb\u{110bd}\u{110cd}\u{13430}-\u{1343f}\u{1bca0}-\u{1bca3}\u{1d173}-\u{1d17a}\u{e0000}-\u{e0fff}"
    };
}

/// The rule for names as a regular expression of JSON Schema: no control characters, nothing invisible, and no white
/// space at the ends.
pub const NAME_PATTERN: &str = concat!(
    "^[^\\u0000-\\u0020\\u007f-\\u00a0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000",
    invisible!(),
    "]([^\\u0000-\\u001f\\u007f-\\u009f",
    invisible!(),
    "]{0,98}[^\\u0000-\\u0020\\u007f-\\u00a0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000",
    invisible!(),
    "])?$"
);

/// Returns a name in the one form in which it is kept and compared (NFC): an `é` is the same however it was typed.
pub fn normalized(name: &str) -> String {
    name.nfc().collect()
}

/// Checks the name of a key or a token.
pub fn name(field: &str, name: &str, errors: &mut Vec<FieldError>) {
    let characters = name.chars().count();
    let is_invisible = |c: &char| INVISIBLE.iter().any(|(first, last)| (first..=last).contains(&c));
    if characters == 0 || characters > MAX_NAME_CHARACTERS {
        let message = format!("must have 1 to {MAX_NAME_CHARACTERS} characters, not {characters}");
        errors.push(FieldError::new(field, message));
    } else if name.chars().any(char::is_control) {
        errors.push(FieldError::new(field, "must not hold control characters"));
    } else if let Some(c) = name.chars().find(is_invisible) {
        errors.push(FieldError::new(field, format!("must not hold the invisible character U+{:04X}", u32::from(c))));
    } else if name.trim() != name {
        errors.push(FieldError::new(field, "must not begin or end with white space"));
    }
}

/// Checks the permissions of a key against the catalogue and returns each of them once. A permission that the key `has`
/// already may stay even if the catalogue no longer lists it.
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
    if wanted.len() > MAX_PERMISSIONS {
        errors.push(FieldError::new("permissions", format!("must not have more than {MAX_PERMISSIONS} entries")));
        return once;
    }
    for (index, permission) in wanted.into_iter().enumerate() {
        if !catalogue.contains(&permission) && !has.contains(&permission) {
            let near = nearest(&permission, catalogue.permissions().map(|known| known.id.as_str()));
            let message = match near {
                Some(near) => format!("is not a permission; did you mean `{near}`?"),
                None => format!("is not a permission: {}", known(catalogue)),
            };
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
        let invisible = ["\u{3164}", "a\u{200b}b", "\u{202e}evil", "a\u{e0041}", "\u{2800}", "soft\u{ad}hyphen"];
        let bad = bad.iter().copied().chain(invisible);
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
    fn the_pattern_of_names_names_everything_invisible() {
        for &(first, last) in INVISIBLE {
            let written = |c: char| match u32::from(c) {
                code @ ..0x10000 => format!("\\u{code:04x}"),
                _ => c.to_string(),
            };
            let class = if first == last { written(first) } else { format!("{}-{}", written(first), written(last)) };
            assert_eq!(NAME_PATTERN.matches(&class).count(), 3, "{class}");
        }
    }

    #[test]
    fn a_name_is_the_same_however_it_was_typed() {
        assert_eq!(normalized("e\u{301}"), "\u{e9}");
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
