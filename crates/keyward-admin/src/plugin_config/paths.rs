//! Checks that the proxy leaves alone what the configuration's `paths` let through.
//!
//! The filter sees a path as the proxy has rewritten it. A proxy that decodes `%2F` makes another path of it, and
//! `encoded_slash: segment` then means nothing.

use super::around::{Lint, is_keyward};
use super::finding::{join, list, text};
use serde_json::Value;

const REDIRECTS: &str = "Envoy decodes `%2F` and redirects there: no request reaches the filter with an encoded slash, \
                         which `paths.encoded_slash: segment` is for";
const DECODES: &str =
    "Envoy decodes `%2F` before the filter sees the path, and `paths.encoded_slash: segment` asks it to be kept";
const REFUSES: &str = "Envoy refuses paths with `%2F`, which `paths.encoded_slash: segment` lets through";

impl Lint<'_> {
    /// Checks one object, which may be a part of any document, for a setting of what becomes of encoded slashes.
    pub(super) fn escaped_slashes(&mut self, value: &Value, path: &str) {
        let is_of_others = value.get("http_filters").is_some_and(|filters| !list(filters).iter().any(is_keyward));
        if !self.config.paths.encoded_slash_in_segment || is_of_others {
            return;
        }
        let field = "path_with_escaped_slashes_action";
        let message = match text(&value[field]) {
            "UNESCAPE_AND_REDIRECT" => Some(REDIRECTS),
            "UNESCAPE_AND_FORWARD" => Some(DECODES),
            "REJECT_REQUEST" => Some(REFUSES),
            _ => None,
        };
        if let Some(message) = message {
            self.findings.error(join(path, field), message, "use `KEEP_UNCHANGED`");
        }
        if value["pathNormalization"]["normalization"] == "DECODE_AND_MERGE_SLASHES" {
            self.findings.error(join(path, "pathNormalization.normalization"), DECODES, "use `MERGE_SLASHES`");
        }
        if value["kind"] == "ClientTrafficPolicy" {
            let message = match text(&value["spec"]["path"]["escapedSlashesAction"]) {
                "KeepUnchanged" => return,
                "RejectRequest" => REFUSES,
                "UnescapeAndForward" => DECODES,
                _ => REDIRECTS,
            };
            self.findings.error(
                join(path, "spec.path.escapedSlashesAction"),
                message,
                "use `escapedSlashesAction: KeepUnchanged`",
            );
        }
    }

    /// Checks whether Envoy Gateway is left to do what it does by default.
    pub(super) fn escaped_slashes_by_default(&mut self) {
        let has = |kind: &str| self.all.iter().any(|document| document["kind"] == kind);
        if self.config.paths.encoded_slash_in_segment && has("EnvoyExtensionPolicy") && !has("ClientTrafficPolicy") {
            self.findings.warn(
                "paths.encoded_slash",
                "Envoy Gateway decodes `%2F` and redirects there unless a ClientTrafficPolicy says otherwise",
                "add one with `path: {escapedSlashesAction: KeepUnchanged}`, or check the file that has it together with \
                 this one",
            );
        }
    }
}
