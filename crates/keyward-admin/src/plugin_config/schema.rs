//! The fields that the APIs of the control planes have, for the resources that carry the filter or protect what is behind it.
//!
//! The tables are those of the CRDs of Istio 1.26 to 1.31 and of Envoy Gateway 1.7 to 1.9. A field that they do not have is
//! dropped or refused by the API server, so that it is not in effect although it is in the file.

use super::backstop;
use super::find::looks_like_ours;
use super::finding::{Findings, join, list, text};
use super::known::Known::{self, Anything, Duration, Each, Number, Only, Values, Whole};
use super::known::{TARGET, expect};
use serde_json::Value;

const FAIL_STRATEGY: Known = Values(&["FAIL_CLOSE", "FAIL_OPEN", "FAIL_RELOAD"]);
const PULL_POLICY: Known = Values(&["UNSPECIFIED_POLICY", "IfNotPresent", "Always"]);
const PLUGIN_TYPE: Known =
    Only(&["HTTP", "UNSPECIFIED_PLUGIN_TYPE"], "a plugin of another type does not see requests: nothing is checked");
const SELECTOR: Known = Whole(&[("matchLabels", Anything)]);
const ISTIO_TARGET: Known =
    Whole(&[("group", Anything), ("kind", Anything), ("name", Anything), ("namespace", Anything)]);
const ISTIO_MATCH: Known = Each(&Whole(&[
    ("mode", Values(&["UNDEFINED", "CLIENT", "SERVER", "CLIENT_AND_SERVER"])),
    ("ports", Each(&Whole(&[("number", Number)]))),
]));
const VM_CONFIG: Known = Whole(&[(
    "env",
    Each(&Whole(&[("name", Anything), ("value", Anything), ("valueFrom", Values(&["INLINE", "HOST"]))])),
)]);

/// A WasmPlugin of Istio 1.26 to 1.31; what 1.26 does not know of it is checked elsewhere.
const WASM_PLUGIN: Known = Whole(&[
    ("selector", SELECTOR),
    ("targetRef", ISTIO_TARGET),
    ("targetRefs", Each(&ISTIO_TARGET)),
    ("url", Anything),
    ("sha256", Anything),
    ("imagePullPolicy", PULL_POLICY),
    ("imagePullSecret", Anything),
    ("verificationKey", Anything),
    ("pluginConfig", Anything),
    ("pluginName", Anything),
    ("phase", Values(&["UNSPECIFIED_PHASE", "AUTHN", "AUTHZ", "STATS"])),
    ("priority", Number),
    ("failStrategy", FAIL_STRATEGY),
    ("vmConfig", VM_CONFIG),
    ("match", ISTIO_MATCH),
    ("type", PLUGIN_TYPE),
]);

/// A TrafficExtension of Istio 1.30 and 1.31.
const TRAFFIC_EXTENSION: Known = Whole(&[
    ("selector", SELECTOR),
    ("targetRefs", Each(&ISTIO_TARGET)),
    ("match", ISTIO_MATCH),
    ("phase", Values(&["UNSPECIFIED", "AUTHN", "AUTHZ", "STATS"])),
    ("priority", Number),
    ("lua", Anything),
    (
        "wasm",
        Whole(&[
            ("url", Anything),
            ("sha256", Anything),
            ("imagePullPolicy", PULL_POLICY),
            ("imagePullSecret", Anything),
            ("verificationKey", Anything),
            ("pluginConfig", Anything),
            ("pluginName", Anything),
            ("failStrategy", FAIL_STRATEGY),
            ("vmConfig", VM_CONFIG),
            ("type", PLUGIN_TYPE),
        ]),
    ),
]);

/// An entry of `wasm` in an EnvoyExtensionPolicy of Envoy Gateway 1.7 to 1.9.
const GATEWAY_WASM: Known = Whole(&[
    ("name", Anything),
    ("rootID", Anything),
    (
        "code",
        Whole(&[
            ("type", Anything),
            ("http", Whole(&[("url", Anything), ("sha256", Anything), ("tls", Anything)])),
            (
                "image",
                Whole(&[("url", Anything), ("sha256", Anything), ("pullSecretRef", Anything), ("tls", Anything)]),
            ),
            ("pullPolicy", Values(&["IfNotPresent", "Always"])),
        ]),
    ),
    ("config", Anything),
    ("failOpen", Anything),
    ("env", Whole(&[("hostKeys", Each(&Anything))])),
]);

/// An entry of `dynamicModule` in an EnvoyExtensionPolicy of Envoy Gateway 1.8 and 1.9.
const GATEWAY_MODULE: Known =
    Whole(&[("name", Anything), ("filterName", Anything), ("config", Anything), ("terminalFilter", Anything)]);

const FILTER_NAME: Known = Whole(&[("name", Anything), ("subFilter", Whole(&[("name", Anything)]))]);

/// A patch of an EnvoyFilter of Istio 1.26 to 1.31 that does something else than to add the backstop.
const OTHER_PATCH: Known = Whole(&[
    (
        "applyTo",
        Values(&[
            "LISTENER",
            "FILTER_CHAIN",
            "NETWORK_FILTER",
            "HTTP_FILTER",
            "ROUTE_CONFIGURATION",
            "VIRTUAL_HOST",
            "HTTP_ROUTE",
            "CLUSTER",
            "EXTENSION_CONFIG",
            "BOOTSTRAP",
            "LISTENER_FILTER",
        ]),
    ),
    (
        "match",
        Whole(&[
            ("context", Values(&["ANY", "SIDECAR_INBOUND", "SIDECAR_OUTBOUND", "GATEWAY", "WAYPOINT"])),
            ("proxy", Anything),
            (
                "listener",
                Whole(&[
                    ("name", Anything),
                    ("portName", Anything),
                    ("portNumber", Number),
                    ("listenerFilter", Anything),
                    (
                        "filterChain",
                        Whole(&[
                            ("name", Anything),
                            ("sni", Anything),
                            ("transportProtocol", Anything),
                            ("applicationProtocols", Anything),
                            ("destinationPort", Number),
                            ("filter", FILTER_NAME),
                        ]),
                    ),
                ]),
            ),
            ("routeConfiguration", Anything),
            ("cluster", Anything),
            ("waypoint", Anything),
        ]),
    ),
    (
        "patch",
        Whole(&[
            ("filterClass", Anything),
            (
                "operation",
                Values(&[
                    "MERGE",
                    "ADD",
                    "REMOVE",
                    "INSERT_BEFORE",
                    "INSERT_AFTER",
                    "INSERT_FIRST",
                    "REPLACE",
                    "MERGE_AND_REPLACE_LIST",
                ]),
            ),
            ("value", Anything),
        ]),
    ),
]);

/// A ClientTrafficPolicy of Envoy Gateway 1.7 to 1.9.
const CLIENT_TRAFFIC_POLICY: Known = Whole(&[
    ("targetRef", TARGET),
    ("targetRefs", Each(&TARGET)),
    ("targetSelectors", Anything),
    ("clientIPDetection", Anything),
    ("connection", Anything),
    ("enableProxyProtocol", Anything),
    ("grpc", Anything),
    ("healthCheck", Anything),
    ("http1", Anything),
    ("http2", Anything),
    ("http3", Anything),
    ("proxyProtocol", Anything),
    ("scheme", Anything),
    ("tcpKeepalive", Anything),
    ("tls", Anything),
    (
        "path",
        Whole(&[
            ("disableMergeSlashes", Anything),
            (
                "escapedSlashesAction",
                Values(&["KeepUnchanged", "RejectRequest", "UnescapeAndForward", "UnescapeAndRedirect"]),
            ),
        ]),
    ),
    (
        "headers",
        Whole(&[
            ("disableRateLimitHeaders", Anything),
            ("earlyRequestHeaders", Anything),
            ("enableEnvoyHeaders", Anything),
            ("host", Anything),
            ("lateResponseHeaders", Anything),
            ("preserveXRequestID", Anything),
            ("requestID", Anything),
            ("withUnderscoresAction", Values(&["Allow", "RejectRequest", "DropHeader"])),
            ("xForwardedClientCert", Anything),
        ]),
    ),
    (
        "timeout",
        Whole(&[
            (
                "http",
                Whole(&[
                    ("idleTimeout", Duration),
                    ("requestHeadersReceivedTimeout", Duration),
                    ("requestReceivedTimeout", Duration),
                    ("streamIdleTimeout", Duration),
                ]),
            ),
            ("tcp", Anything),
        ]),
    ),
]);

/// Checks the fields of every resource in a document that carries the filter, or protects what is behind it.
pub(super) fn resources(document: &Value, path: &str, findings: &mut Findings) {
    let spec = &document["spec"];
    let place = join(path, "spec");
    match text(&document["kind"]) {
        "List" => {
            for (index, item) in list(&document["items"]).iter().enumerate() {
                resources(item, &join(path, &format!("items[{index}]")), findings);
            }
        }
        "WasmPlugin" if looks_like_ours(spec, &spec["pluginConfig"]) => expect(findings, spec, &WASM_PLUGIN, &place),
        "TrafficExtension" if looks_like_ours(&spec["wasm"], &spec["wasm"]["pluginConfig"]) => {
            expect(findings, spec, &TRAFFIC_EXTENSION, &place);
        }
        "EnvoyFilter" => {
            let patches = list(&spec["configPatches"]).iter().enumerate();
            for (index, patch) in patches.filter(|(_, patch)| !backstop::is_backstop(&patch["patch"]["value"])) {
                expect(findings, patch, &OTHER_PATCH, &join(&place, &format!("configPatches[{index}]")));
            }
        }
        "ClientTrafficPolicy" => expect(findings, spec, &CLIENT_TRAFFIC_POLICY, &place),
        "EnvoyExtensionPolicy" => {
            for (field, known) in [("wasm", &GATEWAY_WASM), ("dynamicModule", &GATEWAY_MODULE)] {
                let plugins = list(&spec[field]).iter().enumerate();
                for (index, plugin) in plugins.filter(|(_, plugin)| looks_like_ours(plugin, &plugin["config"])) {
                    expect(findings, plugin, known, &join(&place, &format!("{field}[{index}]")));
                }
            }
        }
        _ => {}
    }
}
