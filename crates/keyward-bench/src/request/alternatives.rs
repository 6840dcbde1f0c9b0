//! The alternatives to Keyward that are measured, each configured to do as much of the same work as it can.

use super::lua;
use super::rules::{Rule, TEN};
use crate::keys;
use serde_json::{Map, Value, json};

/// The header in which api_key_auth forwards the client's name.
const CLIENT: &str = "x-api-key-name";

/// Returns Envoy's api_key_auth filter. It keeps keys in its configuration in the clear and knows no expiry. It
/// removes the key from the request and adds the client's name.
pub fn api_key_auth(count: u32) -> Value {
    let credentials: Value =
        (0..count).map(|number| json!({"key": keys::key(number), "client": client(number)})).collect();
    json!({
        "name": "envoy.filters.http.api_key_auth",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.api_key_auth.v3.ApiKeyAuth",
            "credentials": credentials,
            "key_sources": [{"header": "x-api-key"}],
            "forwarding": {"header": CLIENT, "hide_credentials": true},
        },
    })
}

/// Returns the client name of a key. RBAC sees only this name, so the name has to carry the permissions.
fn client(number: u32) -> String {
    let granted = keys::permissions(number).join(".");
    format!("{}.{granted}.", keys::name(number))
}

/// Returns the ten rules as RBAC policies.
pub fn rbac_rules() -> Value {
    let policies: Map<String, Value> = TEN
        .iter()
        .enumerate()
        .map(|(number, rule)| {
            let methods = rule
                .methods
                .iter()
                .map(|method| json!({"header": {"name": ":method", "string_match": {"exact": method}}}));
            let granted = rule.require.iter().map(|permission| {
                json!({"header": {"name": CLIENT, "string_match": {"contains": format!(".{permission}.")}}})
            });
            let policy = json!({
                "permissions": [{"and_rules": {"rules": [
                    {"or_rules": {"rules": methods.collect::<Value>()}},
                    {"url_path": {"path": {"safe_regex": {"regex": regex(rule)}}}},
                ]}}],
                "principals": [{"and_ids": {"ids": granted.collect::<Value>()}}],
            });
            (format!("rule{number}"), policy)
        })
        .collect();
    rbac("rules", json!(policies))
}

fn regex(rule: &Rule) -> String {
    rule.path.replace("{}", "[^/]+")
}

fn rbac(name: &str, policies: Value) -> Value {
    json!({
        "name": name,
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC",
            "rules": {"action": "ALLOW", "policies": policies},
        },
    })
}

/// Returns a Lua filter with the same rules, expiry, and keys (in the clear).
pub fn lua(count: u32, changes_by_route: bool) -> Value {
    json!({
        "name": "envoy.filters.http.lua",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua",
            "default_source_code": {"inline_string": lua::source(count, changes_by_route)},
        },
    })
}

/// Returns the backstop for the Lua filter, which leaves its decision in dynamic metadata.
pub fn lua_backstop() -> Value {
    let decision = |code: &str| json!({"metadata": {"filter": "keyward", "path": [{"key": "decision"}], "value": {"string_match": {"exact": code}}}});
    let policy = json!({"permissions": [{"any": true}], "principals": [decision("allowed"), decision("public")]});
    rbac("backstop", json!({"allowed_by_lua": policy}))
}

/// Returns the route's header changes, with the identity taken from the Lua filter's dynamic metadata.
pub fn identity_from_metadata(listener: &mut Value) {
    let place = "/filter_chains/0/filters/0/typed_config/route_config/request_headers_to_add";
    for header in listener.pointer_mut(place).and_then(Value::as_array_mut).into_iter().flatten() {
        let Some(value) = header.pointer_mut("/header/value") else { continue };
        let text = value.as_str().unwrap_or_default();
        let name = if text.contains("key_id") { "key_id" } else { "key_name" };
        *value = json!(format!("%DYNAMIC_METADATA(keyward:{name})%"));
    }
}

/// Returns an ext_authz filter, which calls a service for each request. The measured service allows everything.
pub fn ext_authz() -> Value {
    let header = |name: &str| json!({"exact": name});
    json!({
        "name": "envoy.filters.http.ext_authz",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz",
            "allowed_headers": {"patterns": [header("x-api-key")]},
            "http_service": {
                "server_uri": {"uri": "http://authorization", "cluster": "authorization", "timeout": "1s"},
                "authorization_response": {
                    "allowed_upstream_headers": {"patterns": [header("x-api-key-id"), header(CLIENT)]},
                },
            },
        },
    })
}
