//! What `keyward check` finds in a text: the mistakes that the filter refuses, and warnings.

use super::document::{Documents, ReadError, in_document, read};
use super::{around, lint};
use keyward_policy::config::{Config, Problem};
use serde_json::Value;

/// The findings of one configuration.
#[derive(Debug, Default)]
pub struct Report {
    /// Where the configuration is in the text. Empty: the text is the configuration.
    pub place: String,
    /// Mistakes for which the filter refuses the configuration.
    pub errors: Vec<Problem>,
    /// What is valid and should be looked at.
    pub warnings: Vec<Problem>,
    /// Number of rules.
    pub rules: usize,
    /// Number of inline keys.
    pub keys: usize,
}

/// Checks every configuration in a text.
///
/// # Errors
/// If the text is not YAML, or holds no configuration.
pub fn check(text: &str) -> Result<Vec<Report>, ReadError> {
    let Documents { documents, found } = read(text)?;
    if found.is_empty() {
        return Err(ReadError::NoConfiguration);
    }
    Ok(found.into_iter().map(|found| report(found.place, &found.bytes, &documents)).collect())
}

/// Checks one configuration, and the documents around it.
fn report(place: String, bytes: &[u8], around: &[Value]) -> Report {
    match Config::parse(bytes) {
        Err(errors) => Report { place, errors: errors.problems().to_vec(), ..Report::default() },
        Ok(config) => {
            let mut warnings = lint::lint_config(&config);
            warnings.extend(around::lint_file(around, &config));
            for (index, document) in around.iter().enumerate() {
                let found = around::lint_document(document, &config).into_iter();
                warnings.extend(
                    found.map(|problem| Problem { path: in_document(around, index, &problem.path), ..problem }),
                );
            }
            let keys = config.manifest.as_ref().map_or(0, |manifest| manifest.keys.len());
            Report { place, errors: Vec::new(), warnings, rules: config.routes.rules().len(), keys }
        }
    }
}
