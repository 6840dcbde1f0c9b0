//! Reads a text, which may hold several YAML documents, as configurations and what is around them.

use super::around::any;
use super::backstop;
use super::find::{Found, find, is_plugin_config};
use super::finding::{Finding, text};
use super::known;
use super::lines::Lines;
use super::normalise::Normalisation;
use super::yaml::from_yaml;
use keyward_policy::config::{Config, ConfigErrors};
use serde_json::Value;
use std::fmt;

/// Why no configuration could be read from a text.
#[derive(Debug)]
pub enum ReadError {
    /// The text is neither YAML nor JSON.
    NotYaml(String),
    /// The texts hold no plugin configuration of Keyward; what they hold, and what to do.
    NoConfiguration(String),
    /// The text holds several, and one is needed.
    Several,
    /// The filter would refuse the configuration.
    Invalid(ConfigErrors),
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotYaml(error) => write!(f, "neither YAML nor JSON: {error}"),
            Self::NoConfiguration(found) => write!(f, "no Keyward configuration in it{found}"),
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

/// A text and the name of its file, for messages.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// The name of the file.
    pub name: &'a str,
    /// The text.
    pub text: &'a str,
}

/// One YAML document.
#[derive(Debug)]
pub struct Document {
    /// Which of several documents it is, such as `document 2`. Empty: it is the only one.
    pub label: String,
    /// The document.
    pub value: Value,
    /// The lines of its fields.
    pub lines: Lines,
}

/// A configuration, and where it was found.
#[derive(Debug)]
pub struct Placed {
    /// The number of the document, from zero.
    pub document: usize,
    /// The configuration.
    pub found: Found,
}

/// The documents of some texts and the configurations in them.
#[derive(Debug, Default)]
pub struct Documents {
    /// Every document that is not empty.
    pub all: Vec<Document>,
    /// Every configuration.
    pub found: Vec<Placed>,
    /// The number of texts.
    pub texts: usize,
}

/// Finds how the proxy normalises paths before the filter sees them.
fn normalisation(placed: &Placed, all: &[Document]) -> Option<Normalisation> {
    if let Some((manager, _)) = placed.found.place.split_once(".http_filters[") {
        let path = manager.replace('[', ".").replace(']', "");
        let document = &all.get(placed.document)?.value;
        let manager = path.split('.').try_fold(document, |value, name| match name.parse::<usize>() {
            Ok(index) => value.get(index),
            Err(_) => value.get(name),
        })?;
        return Some(Normalisation::of_manager(manager));
    }
    let policy = all.iter().find(|document| document.value["kind"] == "ClientTrafficPolicy")?;
    Some(Normalisation::of_client_traffic_policy(&policy.value["spec"]))
}

/// Reads the YAML documents, or the JSON document, of a text.
///
/// # Errors
/// Returns [`ReadError::NotYaml`].
pub fn parse(text: &str) -> Result<Vec<Value>, ReadError> {
    let documents: Vec<Value> = from_yaml(text)
        .map_err(|error| ReadError::NotYaml(error.render_with_formatter(&serde_saphyr::UserMessageFormatter)))?;
    Ok(documents.into_iter().filter(|document| !document.is_null()).collect())
}

/// Reads texts that belong together and finds the configurations in them.
///
/// # Errors
/// Returns [`ReadError::NotYaml`], with the number of the text.
pub fn read(sources: &[Source<'_>]) -> Result<Documents, (usize, ReadError)> {
    let mut read = Documents { texts: sources.len(), ..Documents::default() };
    for (number, source) in sources.iter().enumerate() {
        // The filter's own parser gets JSON unchanged: it reports repeated fields, which a YAML value no longer shows.
        let json = serde_json::from_str::<Value>(source.text).ok().filter(is_plugin_config);
        let (values, plain) = match json {
            Some(value) => (vec![value], true),
            None => (parse(source.text).map_err(|error| (number, error))?, false),
        };
        let mut lines = Lines::read(source.text).into_iter();
        let count = values.len();
        for (index, value) in values.into_iter().enumerate() {
            let label = match (sources.len(), count) {
                (1, 1) => String::new(),
                (1, _) => format!("document {}", index + 1),
                (_, 1) => source.name.to_owned(),
                _ => format!("{}: document {}", source.name, index + 1),
            };
            let found = if plain {
                vec![Found { place: String::new(), bytes: source.text.as_bytes().to_vec(), edition: None }]
            } else {
                find(&value)
            };
            let document = read.all.len();
            read.found.extend(found.into_iter().map(|found| Placed { document, found }));
            read.all.push(Document { label, value, lines: lines.next().unwrap_or_default() });
        }
    }
    Ok(read)
}

/// Says that there is no configuration, and what there is.
pub fn no_configuration(all: &[Document]) -> ReadError {
    const EXPECTED: &str = "\n  help: expected a plugin configuration, or an Envoy, WasmPlugin, TrafficExtension or \
                            EnvoyExtensionPolicy file with one";
    let has_backstop = |document: &Document| any(&document.value, &backstop::is_backstop);
    let names: Vec<String> = all
        .iter()
        .map(|document| match text(&document.value["kind"]) {
            "" => "a document without `kind`".to_owned(),
            kind if has_backstop(document) => format!("{kind} with a backstop"),
            kind => kind.to_owned(),
        })
        .collect();
    let mut found = if names.is_empty() { String::new() } else { format!(": found {}", names.join(", ")) };
    let kinds = all.iter().map(|document| text(&document.value["kind"]));
    if let Some((kind, near)) = kinds.filter_map(|kind| Some((kind, known::nearest_kind(kind)?))).next() {
        found.push_str(&format!("\n  help: `{kind}` is not a kind: did you mean `{near}`?"));
    } else if all.iter().any(has_backstop) {
        found.push_str("\n  help: give the filter's file together with it: `keyward check FILTER BACKSTOP`");
    } else {
        found.push_str(EXPECTED);
    }
    ReadError::NoConfiguration(found)
}

/// Reads the only configuration of a text, and how the proxy around it normalises paths. `None` means that the text does
/// not say.
///
/// # Errors
/// Returns an error if there is no configuration or more than one, or the filter would refuse it.
pub fn read_one(text: &str) -> Result<(Config, Option<Normalisation>), ReadError> {
    let Documents { found, all, .. } = read(&[Source { name: "", text }]).map_err(|(_, error)| error)?;
    match &found[..] {
        [one] => {
            let config = Config::parse(&one.found.bytes).map_err(ReadError::Invalid)?;
            Ok((config, normalisation(one, &all)))
        }
        [] => Err(no_configuration(&all)),
        _ => Err(ReadError::Several),
    }
}

impl Document {
    /// Gives a finding of this document its line, and the document's name.
    pub fn locate(&self, finding: Finding) -> Finding {
        let line = self.lines.find(&finding.path).map(|(line, _)| line);
        Finding { line, path: self.name(&finding.path), ..finding }
    }

    /// Names a place in this document.
    pub fn name(&self, place: &str) -> String {
        match (self.label.as_str(), place) {
            ("", place) => place.to_owned(),
            (label, "") => label.to_owned(),
            (label, place) => format!("{label}: {place}"),
        }
    }
}
