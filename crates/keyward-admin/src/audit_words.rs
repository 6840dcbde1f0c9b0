//! Entries of the audit log in words, for the page and the command.

use crate::lifetime::Lifetime;
use keyward_policy::count::counted;
use serde_json::Value;

/// Returns an action of the audit log in words. An action that is not known keeps its name.
pub fn label(action: &str) -> &str {
    match action {
        "key.create" => "Key created",
        "key.regenerate" => "Key regenerated",
        "key.update" => "Key changed",
        "key.delete" => "Key deleted",
        "key.purge" => "Expired key removed",
        "token.create" => "Token created",
        "token.revoke" => "Token revoked",
        "proxy.forget" => "Filter instance forgotten",
        "proxies.confirm" => "List of proxies confirmed",
        "store.new_identity" => "Store given a new identity",
        unknown => unknown,
    }
}

/// Returns the details of an entry, one to a line. `permission` says how a permission is called.
pub fn details(detail: &Value, permission: impl Fn(&str) -> String) -> Vec<String> {
    let fields = detail.as_object().into_iter().flatten();
    fields.map(|(name, value)| line(&permission, name, value)).filter(|line| !line.is_empty()).collect()
}

/// Returns what was done. A change of one thing is named after it.
pub fn in_words(action: &str, detail: &Value) -> String {
    let only = detail.as_object().filter(|fields| fields.len() == 1).and_then(|fields| fields.iter().next());
    let words = match (action, only.map(|(name, value)| (name.as_str(), value.get("after")))) {
        ("key.update", Some(("disabled", Some(Value::Bool(true))))) => "Key disabled",
        ("key.update", Some(("disabled", Some(Value::Bool(false))))) => "Key enabled",
        ("key.update", Some(("name", _))) => "Key renamed",
        ("key.update", Some(("permissions", _))) => "Permissions changed",
        _ => label(action),
    };
    words.to_owned()
}

fn line(permission: &impl Fn(&str) -> String, name: &str, value: &Value) -> String {
    let change = value.get("before").zip(value.get("after"));
    match (name, change) {
        ("permissions", Some((before, after))) => {
            let (before, after) = (ids(before), ids(after));
            let list = |ids: &[&str], but: &[&str]| -> Vec<String> {
                ids.iter().filter(|id| !but.contains(id)).map(|id| permission(id)).collect()
            };
            let (added, removed) = (list(&after, &before), list(&before, &after));
            let part =
                |word: &str, labels: &[String]| (!labels.is_empty()).then(|| format!("{word}: {}", labels.join(", ")));
            let parts: Vec<String> =
                [part("Granted", &added), part("Removed", &removed)].into_iter().flatten().collect();
            if parts.is_empty() { "Permissions in another order".to_owned() } else { parts.join(". ") }
        }
        ("permissions", None) => {
            let labels: Vec<String> = ids(value).into_iter().map(permission).collect();
            format!("Granted: {}", labels.join(", "))
        }
        ("disabled", Some((_, after))) => {
            if after.as_bool() == Some(true) {
                "Disabled".to_owned()
            } else {
                "Enabled".to_owned()
            }
        }
        ("name", Some((before, after))) => format!("Renamed from “{}” to “{}”", text(before), text(after)),
        ("expires_in", None) => {
            let lifetime = value.as_str().and_then(|text| text.parse::<Lifetime>().ok());
            lifetime.map_or_else(String::new, |lifetime| match lifetime.days() {
                Some(days) => format!("For {}", counted(days.unsigned_abs(), "day")),
                None => "Without expiration".to_owned(),
            })
        }
        ("role", None) => format!("Role {}", text(value)),
        ("realm", None) => format!("Bound to the realm {}", text(value)),
        ("nodes", None) => format!("Bound to the nodes {}", text(value)),
        ("expires_at", None) => match value.as_str() {
            Some(at) => format!("Until {at}"),
            None => "Without an end".to_owned(),
        },
        (_, Some((before, after))) => format!("{name}: {} → {}", text(before), text(after)),
        (_, None) => format!("{name}: {}", text(value)),
    }
}

fn ids(value: &Value) -> Vec<&str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_change_is_named_after_what_it_changed() {
        let change = |value: Value| in_words("key.update", &value);
        assert_eq!(change(json!({"disabled": {"before": false, "after": true}})), "Key disabled");
        assert_eq!(change(json!({"disabled": {"before": true, "after": false}})), "Key enabled");
        assert_eq!(change(json!({"name": {"before": "a", "after": "b"}})), "Key renamed");
        let two = json!({"name": {"before": "a", "after": "b"}, "disabled": {"before": true, "after": false}});
        assert_eq!(change(two), "Key changed");
        assert_eq!(in_words("token.create", &json!({})), "Token created");
        assert_eq!(in_words("something.new", &json!({})), "something.new");
        for action in crate::store::audit::ACTIONS {
            assert_ne!(label(action), action, "it has no words");
        }
    }

    #[test]
    fn details_are_words() {
        let in_capitals = |id: &str| id.to_uppercase();
        let words = |name: &str, value: Value| line(&in_capitals, name, &value);
        assert_eq!(words("permissions", json!(["records:read", "gone"])), "Granted: RECORDS:READ, GONE");
        assert_eq!(
            words(
                "permissions",
                json!({"before": ["records:read", "files:read"], "after": ["records:read", "files:write"]})
            ),
            "Granted: FILES:WRITE. Removed: FILES:READ"
        );
        assert_eq!(words("name", json!({"before": "a", "after": "b"})), "Renamed from “a” to “b”");
        assert_eq!(words("disabled", json!({"before": false, "after": true})), "Disabled");
        assert_eq!(words("expires_in", json!("30d")), "For 30 days");
        assert_eq!(words("expires_in", json!("never")), "Without expiration");
        assert_eq!(words("other", json!(3)), "other: 3");
        let token = details(&json!({"role": "edge", "expires_at": null}), in_capitals);
        assert_eq!(token, ["Without an end", "Role edge"]);
        assert_eq!(details(&json!({}), in_capitals), [""; 0]);
    }
}
