//! Settings of the shipped files that protect what is behind the filter, where a file weakens them.

use super::around::Lint;
use super::finding::{join, text};
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
