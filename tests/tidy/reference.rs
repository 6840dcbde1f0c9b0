//! That `docs/configuration.md` describes each field that the configuration has, and no other one, and names the limits that hold.

use crate::{quoted, read};
use keyward_edge::hold::MAX_HELD;
use keyward_policy::config::{self, Config};
use keyward_policy::table;
use keyward_policy::{key, pattern};
use std::collections::BTreeSet;

/// A name that is no field of any object, and not like one.
const UNKNOWN: &str = "zzzzzzzz";

/// Returns the fields of the object at `path`, which the parser names when it meets an unknown one.
fn fields(path: &str) -> BTreeSet<String> {
    let object = format!(r#"{{"{UNKNOWN}":1}}"#);
    let configuration = match path {
        "" => object,
        "rules[0]" => format!(r#"{{"rules":[{object}]}}"#),
        "key_sources[0]" => format!(r#"{{"key_sources":[{object}]}}"#),
        "manifest.keys[0]" => format!(r#"{{"manifest":{{"keys":[{object}]}}}}"#),
        _ => format!(r#"{{"{path}":{object}}}"#),
    };
    let errors = Config::parse(configuration.as_bytes()).expect_err("an unknown field is a mistake");
    let place = if path.is_empty() { UNKNOWN.to_owned() } else { format!("{path}.{UNKNOWN}") };
    let text = errors.to_string();
    let line = text.lines().find(|line| line.starts_with(&format!("{place}: "))).unwrap_or_else(|| panic!("{text}"));
    let (_, known) = line.split_once("known here: ").unwrap_or_else(|| panic!("{line}"));
    known.trim_end_matches(')').split(", ").map(str::to_owned).collect()
}

/// Returns a section of the reference without its heading, up to the next heading.
fn section(heading: &str) -> String {
    let text = read("docs/configuration.md");
    let start = text.find(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("no section {heading}"));
    let body = &text[start + heading.len() + 2..];
    body.split("\n#").next().unwrap_or_default().to_owned()
}

/// Returns what the first column of the tables in a section names.
fn listed(section: &str) -> BTreeSet<String> {
    section.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).map(str::to_owned).collect()
}

#[test]
fn each_field_has_a_row_in_its_table() {
    for (path, heading) in [("", "## Fields"), ("admin", "### `admin`"), ("paths", "### `paths`")] {
        assert_eq!(listed(&section(heading)), fields(path), "{heading}");
    }
}

#[test]
fn fields_without_a_table_are_named_in_their_section() {
    for (path, heading) in [
        ("manifest", "### `manifest`"),
        ("manifest.keys[0]", "### `manifest`"),
        ("rules[0]", "### `rules`"),
        ("key_sources[0]", "### `key_sources`"),
        ("identity_headers", "## Fields"),
    ] {
        let named: BTreeSet<String> = quoted(&section(heading))
            .iter()
            .flat_map(|text| text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_'))
            .map(str::to_owned)
            .collect();
        let missing: Vec<String> = fields(path).into_iter().filter(|field| !named.contains(field)).collect();
        assert!(missing.is_empty(), "{heading} does not name {missing:?}");
    }
}

/// Returns a number as the documents write it: with a comma before each three digits.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[test]
fn the_limits_are_those_that_hold() {
    let limits = section("## Limits");
    let mebibytes = |bytes: usize| format!("{} MiB", bytes >> 20);
    for (what, limit) in [
        ("bytes of the configuration", mebibytes(config::MAX_CONFIG_BYTES)),
        ("fields of one object", grouped(config::MAX_FIELDS)),
        ("rules", grouped(config::MAX_RULES)),
        ("segments of one path pattern", grouped(pattern::MAX_SEGMENTS)),
        ("compiled rules", mebibytes(config::MAX_RULES_BYTES)),
        ("inline keys", mebibytes(config::MAX_INLINE_BYTES)),
        (
            "characters of the id and of the name of an inline key, none of them a control character",
            grouped(key::MAX_ID_CHARACTERS),
        ),
        ("permissions of one key", grouped(table::MAX_KEY_PERMISSIONS)),
        ("requests that wait for the first manifest at the same time", grouped(MAX_HELD)),
        ("mistakes that are listed", grouped(config::MAX_PROBLEMS)),
    ] {
        let row = format!("| {what} | ");
        let said = limits.lines().find_map(|line| line.strip_prefix(&row)).unwrap_or_else(|| panic!("no row `{what}`"));
        let said =
            said.split([':', ';', '|']).next().unwrap_or_default().trim().trim_end_matches(", then their number");
        assert_eq!(said, limit, "{what}");
    }
    let fetched = format!(
        "{} bytes for an id, {} for a name, {} permissions of up to {} bytes, {} for one table and {} for all tables",
        grouped(table::MAX_ID_BYTES),
        grouped(table::MAX_NAME_BYTES),
        grouped(table::MAX_KEY_PERMISSIONS),
        grouped(table::MAX_PERMISSION_BYTES),
        mebibytes(table::MAX_TABLE_BYTES),
        mebibytes(table::MAX_ALL_TABLES_BYTES),
    );
    assert!(limits.contains(&fetched), "{fetched}");
    let startup = format!("At most `{}m`", config::MAX_STARTUP_WAIT.as_secs() / 60);
    assert!(section("## Fields").contains(&startup), "{startup}");
}
