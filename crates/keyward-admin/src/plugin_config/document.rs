//! Reads a text, which may hold several YAML documents, as configurations and what is around them.

use super::find::{Found, find, is_plugin_config};
use keyward_policy::config::{Config, ConfigErrors};
use serde_json::Value;
use std::fmt;

/// Why no configuration could be read from a text.
#[derive(Debug)]
pub enum ReadError {
    /// The text is neither YAML nor JSON.
    NotYaml(String),
    /// The text holds no plugin configuration of Keyward.
    NoConfiguration,
    /// The text holds several, and one is needed.
    Several,
    /// The filter would refuse the configuration.
    Invalid(ConfigErrors),
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotYaml(error) => write!(f, "neither YAML nor JSON: {error}"),
            Self::NoConfiguration => f.write_str(
                "no Keyward configuration in it\n  help: expected a plugin configuration, or an Envoy, WasmPlugin or \
                 EnvoyExtensionPolicy file with one",
            ),
            Self::Several => f.write_str(
                "more than one Keyward configuration in it\n  help: give a text with exactly one, such as the plugin \
                 configuration alone",
            ),
            Self::Invalid(errors) => {
                f.write_str("invalid configuration")?;
                errors.problems().iter().try_for_each(|problem| write!(f, "\n  {problem}"))
            }
        }
    }
}

/// The documents of a text and the configurations in them.
#[derive(Debug)]
pub struct Documents {
    /// Every document that is not empty.
    pub documents: Vec<Value>,
    /// Every configuration, with its place in the text.
    pub found: Vec<Found>,
}

/// Reads the YAML documents, or the JSON document, of a text.
///
/// # Errors
/// [`ReadError::NotYaml`].
pub fn parse(text: &str) -> Result<Vec<Value>, ReadError> {
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(text).map_err(|error| ReadError::NotYaml(error.to_string()))?;
    Ok(documents.into_iter().filter(|document| !document.is_null()).collect())
}

/// Reads a text and finds the configurations in it.
///
/// # Errors
/// [`ReadError::NotYaml`].
pub fn read(text: &str) -> Result<Documents, ReadError> {
    // The filter's own parser gets JSON unchanged: it reports repeated fields, which a YAML value no longer shows.
    if serde_json::from_str::<Value>(text).is_ok_and(|value| is_plugin_config(&value)) {
        let found = Found { place: String::new(), bytes: text.as_bytes().to_vec() };
        return Ok(Documents { documents: Vec::new(), found: vec![found] });
    }
    let documents = parse(text)?;
    let mut all = Vec::new();
    for (index, document) in documents.iter().enumerate() {
        for found in find(document) {
            all.push(Found { place: in_document(&documents, index, &found.place), ..found });
        }
    }
    // A text that is nothing but the configuration has nothing around it.
    let alone = documents.len() == 1 && matches!(&all[..], [found] if found.place.is_empty());
    Ok(Documents { documents: if alone { Vec::new() } else { documents }, found: all })
}

/// Reads the only configuration of a text.
///
/// # Errors
/// If there is none or more than one, or the filter would refuse it.
pub fn read_one(text: &str) -> Result<Config, ReadError> {
    let Documents { found, .. } = read(text)?;
    match &found[..] {
        [one] => Config::parse(&one.bytes).map_err(ReadError::Invalid),
        [] => Err(ReadError::NoConfiguration),
        _ => Err(ReadError::Several),
    }
}

/// Names a place in one of several documents.
pub(super) fn in_document(documents: &[Value], index: usize, place: &str) -> String {
    match (documents.len(), place) {
        (1, place) => place.to_owned(),
        (_, "") => format!("document {}", index + 1),
        (_, place) => format!("document {}: {place}", index + 1),
    }
}
