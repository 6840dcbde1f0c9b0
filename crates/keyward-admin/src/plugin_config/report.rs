//! What `keyward check` finds in files: mistakes, and warnings.

use super::document::{Document, Documents, Placed, ReadError, Source, no_configuration, read};
use super::find::{Edition, Found};
use super::finding::{Finding, Findings};
use super::versions::Versions;
use super::{around, lint, schema};
use crate::catalogue::Catalogue;
use keyward_policy::config::{Config, TokenSecret};
use serde_json::Value;

/// What the files are checked against.
#[derive(Debug, Default)]
pub struct Options {
    /// The versions of the control planes.
    pub versions: Versions,
    /// The permissions that can be granted. `None` means that the built-in catalogue is used if the rules use it.
    pub catalogue: Option<Catalogue>,
}

/// The findings of one configuration.
#[derive(Debug, Default)]
pub struct Report {
    /// Where the configuration is in the files. Empty: it is the whole file.
    pub place: String,
    /// Whether the filter would refuse the configuration.
    pub refused: bool,
    /// Mistakes.
    pub errors: Vec<Finding>,
    /// What is valid and should be looked at.
    pub warnings: Vec<Finding>,
    /// Whether a request can pass without a key because of something that was found.
    pub lets_pass: bool,
    /// Number of rules.
    pub rules: usize,
    /// Number of inline keys.
    pub keys: usize,
}

/// Checks every configuration in files that belong together.
///
/// # Errors
/// Returns an error if a text is not YAML, or there is no configuration in any; with the number of the text.
pub fn check(sources: &[Source<'_>], options: &Options) -> Result<Vec<Report>, (usize, ReadError)> {
    let read = read(sources)?;
    if read.found.is_empty() {
        return Err((0, no_configuration(&read.all)));
    }
    Ok(read.found.iter().map(|placed| report(placed, &read, options)).collect())
}

/// Checks one configuration, and the documents around it.
fn report(placed: &Placed, read: &Documents, options: &Options) -> Report {
    let Some(document) = read.all.get(placed.document) else { return Report::default() };
    let place = document.name(&placed.found.place);
    let locate = |mut finding: Finding| {
        finding.line = line(document, &placed.found.place, &finding.path);
        finding
    };
    let config = match Config::parse(&placed.found.bytes) {
        Ok(config) => config,
        Err(errors) => {
            let mut found: Vec<Finding> = match missing(&placed.found) {
                Some(missing) => vec![locate(missing)],
                None => errors.problems().iter().map(|problem| locate(Finding::from(problem))).collect(),
            };
            // Fields at the wrong depth or with a slip are often why.
            let mut around = Findings::default();
            schema::resources(&document.value, "", &mut around);
            found.extend(around.errors.into_iter().map(|finding| document.locate(finding)));
            return Report { place, refused: true, errors: found, ..Report::default() };
        }
    };
    let mut own = Findings::default();
    lint::lint_config(&config, options.catalogue.as_ref(), &mut own);
    let has_secret = config.admin.as_ref().is_some_and(|admin| admin.token_secret.is_some());
    let refused = has_secret && placed.found.edition == Some(Edition::Wasm);
    if refused {
        own.errors.push(Finding::from(&TokenSecret::native_only()));
    }
    let mut report = Report {
        place,
        refused,
        rules: config.routes.rules().len(),
        keys: config.manifest.as_ref().map_or(0, |manifest| manifest.keys.len()),
        errors: own.errors.into_iter().map(locate).collect(),
        warnings: own.warnings.into_iter().map(locate).collect(),
        lets_pass: false,
    };
    let all: Vec<Value> = read.all.iter().map(|document| document.value.clone()).collect();
    let (whole, each) = around::lint(&all, read.texts, &config, &options.versions);
    report.errors.extend(whole.errors.into_iter().map(locate));
    report.warnings.extend(whole.warnings.into_iter().map(locate));
    for (other, found) in read.all.iter().zip(each) {
        let locate = |finding| other.locate(finding);
        let mut fields = Findings::default();
        schema::resources(&other.value, "", &mut fields);
        report.errors.extend(fields.errors.into_iter().map(locate));
        report.errors.extend(found.errors.into_iter().map(locate));
        report.warnings.extend(found.warnings.into_iter().map(locate));
    }
    report.lets_pass = report.errors.iter().chain(&report.warnings).any(|finding| finding.lets_pass);
    report
}

/// Says that a resource lacks the field with the configuration, if it does.
fn missing(found: &Found) -> Option<Finding> {
    let field = found.place.rsplit('.').next().filter(|field| ["pluginConfig", "config"].contains(field))?;
    let mut findings = Findings::default();
    let message = format!("there is no `{field}`, which holds the filter's configuration");
    findings.error("", message, format!("add `{field}`"));
    findings.errors.pop().filter(|_| found.bytes.is_empty())
}

/// Finds the line of a field of a configuration, which may be the `value` of a protobuf `Any`.
fn line(document: &Document, place: &str, path: &str) -> Option<u32> {
    let parts = |middle: &[&str]| {
        let parts = [&[place], middle, &[path]].concat();
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(".")
    };
    let found = [parts(&[]), parts(&["value"])].into_iter().filter_map(|path| document.lines.find(&path));
    found.max_by_key(|(_, matched)| *matched).map(|(line, _)| line)
}
