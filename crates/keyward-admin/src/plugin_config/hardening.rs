//! Settings of the shipped files that protect what is behind the filter, where a file weakens them.

use super::around::Lint;
use super::finding::{join, text};
use crate::suggest::nearest;
use serde_json::Value;

/// Fields of Envoy's and of the control planes' messages: the field, the values that weaken, what follows, the mend.
const WEAKENED: [(&str, &[&str], &str, &str); 7] = [
    (
        "normalize_path",
        &["false"],
        "Envoy does not normalise paths, and the filter refuses ambiguous ones",
        "set `normalize_path: true`",
    ),
    (
        "merge_slashes",
        &["false"],
        "Envoy does not normalise paths, and the filter refuses ambiguous ones",
        "set `merge_slashes: true`",
    ),
    ("disableMergeSlashes", &["true"], "repeated slashes are kept, and the filter refuses such paths", "use `false`"),
    (
        "headers_with_underscores_action",
        &["ALLOW"],
        "many servers read `x_api_key_id` as `x-api-key-id`, and a client can send it",
        "use `REJECT_REQUEST`",
    ),
    (
        "withUnderscoresAction",
        &["Allow"],
        "many servers read `x_api_key_id` as `x-api-key-id`, and a client can send it",
        "use `RejectRequest`",
    ),
    (
        "stream_idle_timeout",
        &["0s", "0"],
        "a request that is held for keys in a VM that then crashes is never ended",
        "use `30s`",
    ),
    (
        "streamIdleTimeout",
        &["0s", "0"],
        "a request that is held for keys in a VM that then crashes is never ended",
        "use `30s`",
    ),
];

/// The values of `headers_with_underscores_action`.
const ACTIONS: [&str; 3] = ["ALLOW", "REJECT_REQUEST", "DROP_HEADER"];
/// Fields of a connection manager that the shipped files set, and those of similar names.
const MANAGER: [&str; 13] = [
    "stream_idle_timeout",
    "common_http_protocol_options",
    "http_protocol_options",
    "http2_protocol_options",
    "http3_protocol_options",
    "normalize_path",
    "merge_slashes",
    "path_with_escaped_slashes_action",
    "stream_flush_timeout",
    "request_timeout",
    "request_headers_timeout",
    "drain_timeout",
    "delayed_close_timeout",
];
/// The same of its options for all protocols.
const OPTIONS: [&str; 7] = [
    "headers_with_underscores_action",
    "idle_timeout",
    "max_headers_count",
    "max_stream_duration",
    "max_connection_duration",
    "max_requests_per_connection",
    "max_response_headers_kb",
];

impl Lint<'_> {
    /// Checks one object, which may be a part of any document.
    pub(super) fn hardening(&mut self, value: &Value, path: &str) {
        for (field, weak, message, help) in WEAKENED {
            let given = match &value[field] {
                Value::Null => continue,
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            // The settings of a connection manager without Keyward are not looked at, and those of one with it elsewhere.
            if weak.contains(&given.as_str()) && value.get("http_filters").is_none() {
                self.findings.warn(join(path, field), message, help);
            }
        }
        let action = &value["headers_with_underscores_action"];
        if !action.is_null() && !ACTIONS.contains(&text(action)) {
            self.findings.error(
                join(path, "headers_with_underscores_action"),
                format!("`{}` is not a value of this field: Envoy does not take it", text(action)),
                "use `REJECT_REQUEST`",
            );
        }
        // A connection manager without filters is a patch for one.
        let is_patch = value.get("http_filters").is_none()
            && text(&value["@type"]).ends_with("http_connection_manager.v3.HttpConnectionManager");
        let options = &value["common_http_protocol_options"];
        let parts = [("", value, &MANAGER[..]), ("common_http_protocol_options", options, &OPTIONS[..])];
        for (part, fields, known) in parts.into_iter().filter(|_| is_patch) {
            for name in fields.as_object().into_iter().flat_map(|fields| fields.keys()) {
                let near = nearest(name, known.iter().copied()).filter(|near| near != name);
                if let Some(near) = near {
                    self.findings.error(
                        join(&join(path, part), name),
                        format!("`{name}` is not a field here: Envoy does not take the patch"),
                        format!("did you mean `{near}`?"),
                    );
                }
            }
        }
        let normalization = &value["pathNormalization"]["normalization"];
        if matches!(text(normalization), "NONE" | "BASE") {
            self.findings.warn(
                join(path, "pathNormalization.normalization"),
                "Envoy does not merge slashes, and the filter refuses ambiguous paths",
                "use `MERGE_SLASHES` or `DECODE_AND_MERGE_SLASHES`",
            );
        }
    }
}
