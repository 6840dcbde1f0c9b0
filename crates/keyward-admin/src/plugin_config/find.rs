//! Finds Keyward's configuration inside the files that carry it.

use super::finding::join;
use base64::Engine as _;
use serde_json::Value;

/// A configuration, and its place in a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The path of the field, such as `spec.pluginConfig`. Empty: the document is the configuration.
    pub place: String,
    /// The configuration as the filter would get it.
    pub bytes: Vec<u8>,
    /// The edition of the filter that the file loads. `None`: the document does not say.
    pub edition: Option<Edition>,
}

/// An edition of the filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edition {
    /// The WebAssembly module.
    Wasm,
    /// The library for Envoy's dynamic modules.
    Native,
}

/// Top-level fields by which a plugin configuration of Keyward is known.
const OUR_FIELDS: [&str; 6] = ["rules", "key_sources", "manifest", "admin", "unmatched", "realm"];

/// Finds every configuration of Keyward in a document.
pub fn find(document: &Value) -> Vec<Found> {
    let mut found = Vec::new();
    if is_plugin_config(document) {
        found.push(Found { place: String::new(), bytes: json(document), edition: None });
    } else {
        walk(document, "", &mut found);
    }
    found
}

/// Returns whether a document is a plugin configuration without anything around it.
pub fn is_plugin_config(document: &Value) -> bool {
    document.as_object().is_some_and(|fields| {
        !fields.contains_key("kind")
            && !fields.contains_key("static_resources")
            && !fields.contains_key("@type")
            && OUR_FIELDS.iter().any(|name| fields.contains_key(*name))
    })
}

fn walk(value: &Value, path: &str, found: &mut Vec<Found>) {
    match value {
        Value::Object(fields) => {
            let kind = fields.get("kind").and_then(Value::as_str);
            let istio = match kind {
                Some("WasmPlugin") => Some("spec"),
                Some("TrafficExtension") => Some("spec.wasm"),
                _ => None,
            };
            if let Some(spec_path) = istio {
                let plugin = spec_path.split('.').fold(value, |value, name| &value[name]);
                let config = &plugin["pluginConfig"];
                if looks_like_ours(plugin, config) {
                    let bytes = if config.is_null() { Vec::new() } else { json(config) };
                    let place = join(path, &format!("{spec_path}.pluginConfig"));
                    found.push(Found { place, bytes, edition: Some(Edition::Wasm) });
                }
                return;
            }
            if kind == Some("EnvoyExtensionPolicy") {
                for (field, edition) in [("wasm", Edition::Wasm), ("dynamicModule", Edition::Native)] {
                    for (index, plugin) in value["spec"][field].as_array().into_iter().flatten().enumerate() {
                        let config = &plugin["config"];
                        if looks_like_ours(plugin, config) {
                            let bytes = if config.is_null() { Vec::new() } else { json(config) };
                            let place = join(path, &format!("spec.{field}[{index}].config"));
                            found.push(Found { place, bytes, edition: Some(edition) });
                        }
                    }
                }
                return;
            }
            if let Some(plugin) = wasm_plugin(value)
                && looks_like_ours(plugin, &plugin["configuration"]["value"])
            {
                found.push(Found {
                    place: join(path, "config.configuration"),
                    bytes: unwrap_any(&plugin["configuration"]),
                    edition: Some(Edition::Wasm),
                });
                return;
            }
            if let Some((prefix, module)) = dynamic_module(value)
                && looks_like_ours(module, &module["filter_config"]["value"])
            {
                found.push(Found {
                    place: join(path, &format!("{prefix}filter_config")),
                    bytes: unwrap_any(&module["filter_config"]),
                    edition: Some(Edition::Native),
                });
                return;
            }
            for (name, inner) in fields {
                walk(inner, &join(path, name), found);
            }
        }
        Value::Array(items) => {
            for (index, inner) in items.iter().enumerate() {
                walk(inner, &format!("{path}[{index}]"), found);
            }
        }
        _ => {}
    }
}

/// Returns the `PluginConfig` of a Wasm HTTP filter, given its typed config.
pub fn wasm_plugin(typed_config: &Value) -> Option<&Value> {
    let (_, filter) = message(typed_config, "envoy.extensions.filters.http.wasm.v3.Wasm")?;
    Some(&filter["config"])
}

/// Returns the `DynamicModuleFilter` of an HTTP filter, given its typed config, and the path to it with a dot at its end.
pub fn dynamic_module(typed_config: &Value) -> Option<(&'static str, &Value)> {
    message(typed_config, "envoy.extensions.filters.http.dynamic_modules.v3.DynamicModuleFilter")
}

/// Returns the message of this kind that a typed config is, or that is wrapped in its TypedStruct.
fn message<'v>(typed_config: &'v Value, wanted: &str) -> Option<(&'static str, &'v Value)> {
    let kind = typed_config.get("@type")?.as_str()?;
    if kind.ends_with(wanted) {
        return Some(("", typed_config));
    }
    let wrapped =
        kind.ends_with("TypedStruct") && typed_config["type_url"].as_str().is_some_and(|url| url.ends_with(wanted));
    wrapped.then(|| ("value.", &typed_config["value"]))
}

/// Returns whether a plugin is Keyward, by its names, its module or its configuration.
pub fn looks_like_ours(plugin: &Value, config: &Value) -> bool {
    let text = config.as_str().and_then(|text| serde_json::from_str::<Value>(text).ok());
    if is_plugin_config(text.as_ref().unwrap_or(config)) {
        return true;
    }
    let mut named = plugin.clone();
    if let Some(fields) = named.as_object_mut() {
        fields.remove("configuration");
        fields.remove("filter_config");
        fields.remove("pluginConfig");
        fields.remove("config");
    }
    named.to_string().contains("keyward")
}

/// Returns what Envoy gives to a plugin for a `configuration` of type `google.protobuf.Any` (measured on 1.40).
pub fn unwrap_any(any: &Value) -> Vec<u8> {
    match &any["value"] {
        Value::Null => Vec::new(),
        Value::String(text) if any["@type"].as_str().is_some_and(|kind| kind.ends_with("BytesValue")) => {
            base64::engine::general_purpose::STANDARD.decode(text).unwrap_or_default()
        }
        Value::String(text) => text.clone().into_bytes(),
        other => json(other),
    }
}

fn json(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}
