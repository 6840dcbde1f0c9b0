//! YAML as large as the filter takes a configuration.

use serde::de::DeserializeOwned;

/// Reads every document of a text. The library's limits are for texts from strangers, and a configuration with as many keys
/// as the filter takes is beyond them; what aliases repeat stays limited.
///
/// # Errors
/// Returns an error when the text is no YAML.
pub(super) fn from_yaml<T: DeserializeOwned>(text: &str) -> Result<Vec<T>, serde_saphyr::Error> {
    let usual = serde_saphyr::Budget::default();
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_nodes: usual.max_nodes.max(2 * text.len()),
            max_events: usual.max_events.max(4 * text.len()),
        },
    };
    serde_saphyr::from_multiple_with_options(text, options)
}
