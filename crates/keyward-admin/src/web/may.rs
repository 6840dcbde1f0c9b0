//! What a key may do: the rules of the configured filter, each with a tick or with the reason why not.

use crate::catalogue::Catalogue;
use crate::plugin_config::document::read_one;
use crate::web::view::permission_label;
use keyward_policy::count::counted;
use keyward_policy::rule::{Access, Rule};

/// The rules, as a view shows them.
pub(super) struct MayView {
    /// The rules that some key may meet, in their order.
    pub rows: Vec<MayRow>,
    /// How many rules close paths to every key.
    pub closed: usize,
}

/// A rule, as a view shows it.
pub(super) struct MayRow {
    /// The methods and the path.
    pub methods: String,
    pub path: String,
    /// What else the request has to be like. Empty means nothing.
    pub condition: String,
    /// Whether the key may do it.
    pub allowed: bool,
    /// Who may do it, or what the key lacks.
    pub reason: String,
    /// The permissions that the rule requires, for the script: the ids, joined by commas.
    pub requires: String,
    /// Their labels.
    pub labels: String,
}

/// Returns the rules of a configuration as a key with these permissions meets them. `None` means that no configuration is
/// set.
pub(super) fn view(config: Option<&str>, catalogue: &Catalogue, granted: &[String]) -> Option<MayView> {
    let (config, _) = read_one(config?).ok()?;
    let is_closed = |rule: &&Rule| matches!(rule.access, Access::Deny);
    let (closed, open): (Vec<&Rule>, Vec<&Rule>) = config.routes.rules().iter().partition(is_closed);
    Some(MayView { rows: open.into_iter().map(|rule| row(rule, catalogue, granted)).collect(), closed: closed.len() })
}

fn row(rule: &Rule, catalogue: &Catalogue, granted: &[String]) -> MayRow {
    let required: Vec<&str> = rule.access.required().iter().map(|id| &**id).collect();
    let label = |ids: &[&str]| -> String {
        ids.iter().map(|id| permission_label(catalogue, id)).collect::<Vec<_>>().join(", ")
    };
    let missing: Vec<&str> = required.iter().copied().filter(|id| !granted.iter().any(|has| has == id)).collect();
    let (allowed, reason) = match &rule.access {
        Access::Public => (true, "Open to everybody, without a key".to_owned()),
        Access::Authenticated => (true, "Open to every key".to_owned()),
        Access::Deny => (false, "Closed to every key".to_owned()),
        Access::Require(_) if missing.is_empty() => (true, label(&required)),
        Access::Require(_) => (false, format!("Needs {}", label(&missing))),
    };
    let list = |items: &Option<Box<[Box<str>]>>| items.as_ref().map(|items| items.join(", "));
    let mut conditions = Vec::new();
    if let Some(hosts) = &rule.hosts {
        conditions.push(counted(hosts.len() as u64, "host").to_string());
    }
    if rule.content_type.is_some() {
        conditions.push("some content types".to_owned());
    }
    MayRow {
        methods: list(&rule.methods).unwrap_or_else(|| "Any".to_owned()),
        path: rule.path_text.to_string(),
        condition: conditions.join(", "),
        allowed,
        reason,
        requires: required.join(","),
        labels: label(&required),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_says_whether_and_why() {
        let config = "manifest: {keys: []}\nrules:\n- {path: /health, access: public}\n- {path: /me, access: authenticated}\n\
                      - {path: /_*, access: deny}\n- {methods: [GET, HEAD], path: /a, require: [records:read]}\n\
                      - {path: /b, hosts: [a.example], content_type: [none], require: [records:read, records:delete]}\n";
        let MayView { rows, closed } =
            view(Some(config), &Catalogue::databases_api(), &["records:read".to_owned()]).unwrap();
        assert_eq!(closed, 1);
        let shown: Vec<(bool, &str)> = rows.iter().map(|row| (row.allowed, &*row.reason)).collect();
        assert_eq!(
            shown,
            [
                (true, "Open to everybody, without a key"),
                (true, "Open to every key"),
                (true, "Read records"),
                (false, "Needs Delete records"),
            ]
        );
        assert_eq!((&*rows[2].methods, &*rows[2].path), ("GET, HEAD", "/a"));
        assert_eq!(rows[3].condition, "1 host, some content types");
        assert_eq!(rows[3].requires, "records:read,records:delete");
        assert!(view(None, &Catalogue::databases_api(), &[]).is_none());
    }
}
