//! What people would choose instead, doing as much of the same as it can.

use super::lua;
use super::rules::{Rule, TEN};
use crate::keys;
use serde_json::{Map, Value, json};

/// The header in which api_key_auth names the client.
const CLIENT: &str = "x-api-key-name";

/// Envoy's own filter: keys in the configuration, in the clear, no expiry. Hides the key, names the client.
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

/// RBAC knows the client by its name alone, so the name has to carry the permissions.
fn client(number: u32) -> String {
    let granted = keys::permissions(number).join(".");
    format!("{}.{granted}.", keys::name(number))
}

/// The ten rules as RBAC policies.
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

/// A Lua filter with the same rules, keys (in the clear) and expiry.
pub fn lua(count: u32, changes_by_route: bool) -> Value {
    json!({
        "name": "envoy.filters.http.lua",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua",
            "default_source_code": {"inline_string": lua::source(count, changes_by_route)},
        },
    })
}

/// The backstop for Lua, which leaves its decision in dynamic metadata.
pub fn lua_backstop() -> Value {
    let decision = |code: &str| json!({"metadata": {"filter": "keyward", "path": [{"key": "decision"}], "value": {"string_match": {"exact": code}}}});
    let policy = json!({"permissions": [{"any": true}], "principals": [decision("allowed"), decision("public")]});
    rbac("backstop", json!({"allowed_by_lua": policy}))
}

/// The identity headers of the route from where Lua leaves them.
pub fn identity_from_metadata(listener: &mut Value) {
    let place = "/filter_chains/0/filters/0/typed_config/route_config/request_headers_to_add";
    for header in listener.pointer_mut(place).and_then(Value::as_array_mut).into_iter().flatten() {
        let Some(value) = header.pointer_mut("/header/value") else { continue };
        let text = value.as_str().unwrap_or_default();
        let name = if text.contains("key_id") { "key_id" } else { "key_name" };
        *value = json!(format!("%DYNAMIC_METADATA(keyward:{name})%"));
    }
}

/// A call to a service of one's own for each request; the service here says yes and nothing else.
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
