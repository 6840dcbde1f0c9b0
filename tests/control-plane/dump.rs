//! Reading what Envoy says of its configuration.

use serde_json::Value;

/// Every value under a field of that name, however deep.
pub fn find_all<'a>(value: &'a Value, field: &str) -> Vec<&'a Value> {
    match value {
        Value::Object(fields) => fields
            .iter()
            .flat_map(|(name, inner)| if name == field { vec![inner] } else { find_all(inner, field) })
            .collect(),
        Value::Array(items) => items.iter().flat_map(|item| find_all(item, field)).collect(),
        _ => Vec::new(),
    }
}

/// The filters of each chain that is in use.
pub fn chains(dump: &Value) -> Vec<&Value> {
    let listeners = find_all(dump, "active_state");
    listeners.into_iter().flat_map(|state| find_all(state, "http_filters")).collect()
}

/// Returns whether a chain has the backstop right before the router.
pub fn has_backstop(filters: &Value) -> bool {
    let names: Vec<_> = filters.as_array().into_iter().flatten().map(|filter| &filter["name"]).collect();
    names.windows(2).any(|pair| *pair[0] == "keyward_backstop" && *pair[1] == "envoy.filters.http.router")
}

/// How many chains have the backstop right before the router.
pub fn backstops(dump: &Value) -> usize {
    chains(dump).into_iter().filter(|filters| has_backstop(filters)).count()
}
