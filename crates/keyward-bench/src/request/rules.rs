//! The rules that are measured, and requests that they allow or deny.

use crate::keys;
use crate::wrk::Load;
use serde_json::{Value, json};

/// The number of different requests in a load.
const REQUESTS: u32 = 20_000;

/// One rule, which each variant translates into its own configuration.
pub struct Rule {
    pub methods: &'static [&'static str],
    /// The path; `{}` matches one segment.
    pub path: &'static str,
    pub require: &'static [&'static str],
}

/// The ten rules of the example's Records API.
pub const TEN: [Rule; 10] = [
    Rule { methods: &["GET", "HEAD"], path: "/api/collections/{}/records", require: &["records:read"] },
    Rule { methods: &["GET", "HEAD"], path: "/api/collections/{}/records/{}", require: &["records:read"] },
    Rule { methods: &["POST"], path: "/api/collections/{}/records", require: &["records:write"] },
    Rule { methods: &["PATCH"], path: "/api/collections/{}/records/{}", require: &["records:write"] },
    Rule { methods: &["DELETE"], path: "/api/collections/{}/records/{}", require: &["records:delete"] },
    Rule { methods: &["GET", "HEAD"], path: "/api/files/{}/{}/{}", require: &["files:read"] },
    Rule { methods: &["POST"], path: "/api/files/{}/{}", require: &["files:write"] },
    Rule { methods: &["POST"], path: "/api/batch", require: &["records:write", "records:delete", "files:write"] },
    Rule { methods: &["GET", "POST"], path: "/api/realtime", require: &["records:read"] },
    Rule { methods: &["GET", "HEAD"], path: "/api/logs/{}", require: &["logs:read"] },
];

/// Returns the ten rules as the plugin configuration writes them.
pub fn ten() -> Value {
    TEN.iter().map(|rule| written(rule, "")).collect()
}

/// Returns a thousand rules: the ten rules for each of a hundred services.
pub fn thousand() -> Value {
    (0..100).flat_map(|service| TEN.iter().map(move |rule| written(rule, &format!("/service{service:02}")))).collect()
}

fn written(rule: &Rule, prefix: &str) -> Value {
    json!({"methods": rule.methods, "path": format!("{prefix}{}", rule.path.replace("{}", "{x}")), "require": rule.require})
}

/// Returns requests that the ten rules allow to keys `0..keys`.
pub fn allowed(keys: u32) -> Load {
    load(keys, |_| String::new())
}

/// Returns requests that the thousand rules allow.
pub fn allowed_by_thousand(keys: u32) -> Load {
    load(keys, |number| format!("/service{:02}", number.wrapping_mul(2_654_435_761) % 100))
}

fn load(keys: u32, prefix: impl Fn(u32) -> String) -> Load {
    let requests = (0..REQUESTS).map(|number| {
        // A fixed stride visits keys in all parts of the table.
        let key = (u64::from(number) * 7_919_317 % u64::from(keys)) as u32;
        let path = match number % 3 {
            0 => "/api/collections/posts/records".to_owned(),
            1 => format!("/api/collections/posts/records/r{number:014}"),
            _ => format!("/api/collections/articles/records?page={number}"),
        };
        (prefix(number) + &path, vec![("x-api-key", keys::key(key))])
    });
    Load { requests: requests.collect(), status: 200 }
}

/// Returns requests with keys that do not exist, which get 401.
pub fn unknown_keys() -> Load {
    let load = allowed(1_000);
    let requests = load
        .requests
        .into_iter()
        .enumerate()
        .map(|(number, (path, _))| (path, vec![("x-api-key", keys::key(u32::MAX - number as u32))]));
    Load { requests: requests.collect(), status: 401 }
}

/// Returns requests for files with keys that may not read files, which get 403.
pub fn missing_permissions() -> Load {
    let requests = (0..100)
        .map(|number| (format!("/api/files/posts/r{number}/photo.jpg"), vec![("x-api-key", keys::key(number * 10))]));
    Load { requests: requests.collect(), status: 403 }
}
