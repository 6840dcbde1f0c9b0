//! The example: the configuration in the shipped `envoy.yaml`, and requests that its rules allow.

use crate::address::ApiUrl;
use crate::plugin_config::document::read_one;
use crate::plugin_config::normalise::Normalisation;
use crate::service::Settings;
use keyward_policy::config::Config;
use keyward_policy::rule::{Access, Rule};
use std::sync::LazyLock;

const ENVOY: &str = include_str!("../../../../envoy.yaml");

/// The plugin configuration as it is written there, with its comments.
static CONFIG: LazyLock<String> = LazyLock::new(|| plugin_config(ENVOY).unwrap_or_default());

static RULES: LazyLock<Vec<Rule>> = LazyLock::new(|| {
    let value = serde_saphyr::from_str::<serde_json::Value>(&CONFIG).unwrap_or_default();
    Config::parse(value.to_string().as_bytes()).map(|config| config.routes.rules().to_vec()).unwrap_or_default()
});

static NORMALISATION: LazyLock<Option<Normalisation>> =
    LazyLock::new(|| read_one(ENVOY).ok().and_then(|(_, normalisation)| normalisation));

/// Returns the example configuration as YAML.
pub(super) fn config() -> &'static str {
    &CONFIG
}

/// Returns how the shipped Envoy normalises paths.
pub(super) fn normalisation() -> Option<Normalisation> {
    *NORMALISATION
}

/// Returns the block below `value:` of the first Struct, without its indentation.
fn plugin_config(yaml: &str) -> Option<String> {
    let mut lines = yaml.lines().skip_while(|line| !line.contains("type.googleapis.com/google.protobuf.Struct"));
    let indent = |line: &str| line.len() - line.trim_start().len();
    let value = lines.find(|line| line.trim() == "value:")?;
    let block: Vec<&str> = lines.take_while(|line| line.trim().is_empty() || indent(line) > indent(value)).collect();
    let left = block.iter().filter(|line| !line.trim().is_empty()).map(|line| indent(line)).min()?;
    let mut text = String::new();
    for line in block {
        text.push_str(line.get(left..).unwrap_or_default().trim_end());
        text.push('\n');
    }
    Some(text.trim_end().to_owned() + "\n")
}

/// Returns method and path of a request that the first rule with permissions matches.
pub(super) fn request() -> (String, String) {
    let rule = RULES.iter().find(|rule| matches!(rule.access, Access::Require(_)));
    rule.map_or_else(|| ("GET".to_owned(), "/".to_owned()), request_of)
}

fn request_of(rule: &Rule) -> (String, String) {
    let method = rule.methods.as_ref().and_then(|methods| methods.first()).map_or("GET", |method| &**method);
    let mut path = String::new();
    for segment in rule.path_text.split('/').skip(1) {
        path.push('/');
        match segment.strip_prefix('{').and_then(|name| name.strip_suffix('}')) {
            Some(name) => path.push_str(&format!("your_{name}")),
            None if segment == "**" => {}
            None => path.push_str(segment),
        }
    }
    (method.to_owned(), path)
}

/// What is shown of a new key besides the key itself.
pub(super) struct Snippets {
    /// A command that the key may run.
    pub curl: String,
    /// A sentence about the command.
    pub note: &'static str,
    /// A line for an `.env` file.
    pub env: String,
}

/// Returns what is shown of a key with these permissions.
pub(super) fn snippets(settings: &Settings, key: &str, permissions: &[String]) -> Snippets {
    let own = settings.explain_config.as_deref().and_then(|text| read_one(text).ok());
    let rules = own.as_ref().map_or(&RULES[..], |(config, _)| config.routes.rules());
    let (curl, note) = curl(settings.api_url.as_ref(), rules, key, permissions);
    Snippets { curl, note, env: format!("API_KEY={key}") }
}

fn curl(api: Option<&ApiUrl>, rules: &[Rule], key: &str, permissions: &[String]) -> (String, &'static str) {
    let command = |method: &str, url: &str| {
        let body = if matches!(method, "POST" | "PUT" | "PATCH") {
            " \\\n  -H 'Content-Type: application/json' \\\n  -d '{}'"
        } else {
            ""
        };
        format!("curl -s -X {method} '{url}' \\\n  -H 'X-Api-Key: {key}' \\\n  -H 'Accept: application/json'{body}")
    };
    // A call that the operator has chosen runs as it is.
    if let Some(call) = api.and_then(ApiUrl::call) {
        return (
            command("GET", call),
            "Run it as it is: a key that may not make this call gets an answer that says so.",
        );
    }
    let granted = |rule: &&Rule| match &rule.access {
        Access::Require(required) => {
            rule.hosts.is_none() && required.iter().all(|name| permissions.iter().any(|have| **have == **name))
        }
        _ => false,
    };
    let Some(rule) = rules.iter().find(granted) else {
        let url = api.map_or_else(|| "https://host/".to_owned(), |api| api.of_path("/"));
        return (command("GET", &url), "Put your API’s host and path in place of the address.");
    };
    let (method, path) = request_of(rule);
    match api {
        None => (
            command(&method, &format!("https://host{path}")),
            "Put your gateway’s host in place of “host”, and your own names in place of those that begin with “your”.",
        ),
        Some(api) if !rule.path_text.contains(['{', '*']) => {
            (command(&method, &api.of_path(&path)), "Run it as it is.")
        }
        Some(api) => {
            (command(&method, &api.of_path(&path)), "Put your own names in place of those that begin with “your”.")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_the_shipped_configuration() {
        let value: serde_json::Value = serde_saphyr::from_str(config()).unwrap();
        assert_eq!(value["realm"], "databases");
        assert!(RULES.len() > 10);
        assert!(config().contains("# "), "its comments are worth reading");
        assert!(!config().contains("http_filters"));
    }

    #[test]
    fn the_command_runs_as_it_is_where_the_api_is_known() {
        let permissions = ["records:read".to_owned()];
        let text = |api: &str, rules: &[Rule]| {
            let api = api.parse::<ApiUrl>().ok();
            curl(api.as_ref(), rules, "kw_x", &permissions).0.lines().next().unwrap_or_default().to_owned()
        };
        assert_eq!(
            text("https://api.example/api/collections/posts/records", &RULES),
            "curl -s -X GET 'https://api.example/api/collections/posts/records' \\"
        );
        assert_eq!(
            text("https://api.example", &RULES),
            "curl -s -X GET 'https://api.example/api/collections/your_collection/records' \\"
        );
        assert_eq!(text("https://api.example/v2/", &[]), "curl -s -X GET 'https://api.example/v2/' \\");
    }

    #[test]
    fn the_command_is_one_that_the_key_may_do() {
        let curl = |key: &str, permissions: &[String]| curl(None, &RULES, key, permissions);
        let permissions = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let (text, _) = curl("kw_x", &permissions(&["files:read", "records:read"]));
        assert_eq!(
            text.replace(" \\\n ", ""),
            "curl -s -X GET 'https://host/api/collections/your_collection/records' -H 'X-Api-Key: kw_x' \
             -H 'Accept: application/json'"
        );
        let (text, _) = curl("kw_x", &permissions(&["records:delete"]));
        assert!(text.starts_with("curl -s -X DELETE 'https://host/api/collections/your_collection/records/your_id'"));
        let (text, _) = curl("kw_x", &permissions(&["of another catalogue"]));
        assert!(text.starts_with("curl -s -X GET 'https://host/'"));
    }
}
