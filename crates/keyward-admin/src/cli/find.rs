//! The key that a command is about, by its id or its name.

use super::client::{Client, encode};
use super::error::CommandError;
use crate::suggest::did_you_mean;
use serde_json::Value;
use std::fmt;

/// A key that a command is about.
pub(super) struct Found {
    /// The id.
    pub(super) id: String,
    /// The name that was typed. `None` means that the id was typed.
    name: Option<String>,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "`{name}` ({})", self.id),
            None => f.write_str(&self.id),
        }
    }
}

/// Finds the key with this id or name.
pub(super) fn find(client: &Client, id_or_name: &str) -> Result<Found, CommandError> {
    let is_id = |text: &str| {
        text.strip_prefix("key_").is_some_and(|rest| {
            rest.len() == 16 && rest.bytes().all(|b| b.is_ascii_lowercase() || (b'2'..=b'7').contains(&b))
        })
    };
    if is_id(id_or_name) {
        return Ok(Found { id: id_or_name.to_owned(), name: None });
    }
    // The search text has a limit: a longer name is found by its start.
    let start: String = id_or_name.chars().take(100).collect();
    let mut found = None;
    pages(client, &start, |keys| {
        found = keys.iter().find(|key| key["name"] == id_or_name).and_then(|key| key["id"].as_str()).map(str::to_owned);
        found.is_some()
    })?;
    if let Some(id) = found {
        return Ok(Found { id, name: Some(id_or_name.to_owned()) });
    }
    // Only the newest names are looked through for one that was mistyped: a list of a million would take too long.
    let recent = client.get("/v1/keys?limit=200")?;
    let names = recent["keys"].as_array().into_iter().flatten().filter_map(|key| key["name"].as_str());
    let hint = did_you_mean(id_or_name, names);
    Err(CommandError::failed(format!("there is no key `{id_or_name}`{hint}")))
}

/// Reads the keys that a search finds, page by page, until `enough` says so.
fn pages(client: &Client, q: &str, mut enough: impl FnMut(&[Value]) -> bool) -> Result<(), CommandError> {
    let mut cursor = String::new();
    loop {
        let page = client.get(&format!("/v1/keys?limit=200&q={}{cursor}", encode(q)))?;
        if enough(page["keys"].as_array().map(Vec::as_slice).unwrap_or_default()) {
            return Ok(());
        }
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return Ok(()),
        }
    }
}
