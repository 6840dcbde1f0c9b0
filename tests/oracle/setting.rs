//! A configuration and a request as plain data, which the generator makes, the reference reads, and Envoy is given.

use serde_json::{Value, json};

/// A plugin configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting {
    pub sources: Vec<Source>,
    pub keys: Vec<Key>,
    pub rules: Vec<Rule>,
    /// What a request needs that no rule matches; never `Require`.
    pub unmatched: Access,
    pub preflight_passes: bool,
    pub hide_key: bool,
    pub paths: Paths,
}

/// How the upstream reads what is ambiguous by default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Paths {
    pub slash_is_in_a_segment: bool,
    pub semicolon_is_literal: bool,
    pub delimiters_are_literal: bool,
}

/// Where a key may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    Header(String),
    Scheme(String, String),
    Query(String),
    Cookie(String),
}

/// An inline key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    pub id: String,
    pub text: String,
    pub permissions: Vec<String>,
    pub disabled: bool,
    pub expired: bool,
}

/// A rule. An empty list matches everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    pub path: String,
    pub methods: Vec<String>,
    pub hosts: Vec<String>,
    pub content_types: Vec<String>,
    pub access: Access,
}

/// What a rule asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    Public,
    Authenticated,
    Deny,
    Require(Vec<String>),
}

/// A request as it is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub method: String,
    pub target: Vec<u8>,
    pub host: Vec<u8>,
    pub headers: Vec<(String, Vec<u8>)>,
    pub http2: bool,
}

/// The decision of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    pub code: String,
    /// The id of the key that was found.
    pub key: Option<String>,
    /// The permissions that the key lacks.
    pub missing: Vec<String>,
}

impl Verdict {
    pub fn passes(&self) -> bool {
        self.code == "allowed" || self.code == "public"
    }
}

impl Setting {
    /// The configuration as the filter gets it.
    pub fn to_json(&self) -> Value {
        let sources = self.sources.iter().map(|source| match source {
            Source::Header(name) => json!({"header": name}),
            Source::Scheme(name, scheme) => json!({"header": name, "scheme": scheme}),
            Source::Query(name) => json!({"query": name}),
            Source::Cookie(name) => json!({"cookie": name}),
        });
        let keys = self.keys.iter().map(|key| {
            let mut fields = json!({"id": key.id, "sha256": sha256(&key.text), "permissions": key.permissions});
            if key.disabled {
                fields["disabled"] = json!(true);
            }
            if key.expired {
                fields["expires_at"] = json!("2020-01-01T00:00:00Z");
            }
            fields
        });
        let rules = self.rules.iter().map(|rule| {
            let mut fields = json!({"path": rule.path});
            let lists = [("methods", &rule.methods), ("hosts", &rule.hosts), ("content_type", &rule.content_types)];
            for (name, list) in lists.into_iter().filter(|(_, list)| !list.is_empty()) {
                fields[name] = json!(list);
            }
            match &rule.access {
                Access::Require(permissions) => fields["require"] = json!(permissions),
                access => fields["access"] = json!(access.name()),
            }
            fields
        });
        let mut config = json!({
            "key_sources": sources.collect::<Vec<_>>(),
            "manifest": {"keys": keys.collect::<Vec<_>>()},
            "rules": rules.collect::<Vec<_>>(),
            "unmatched": self.unmatched.name(),
            "cors_preflight": if self.preflight_passes { "pass" } else { "deny" },
            "hide_key": self.hide_key,
        });
        if self.paths != Paths::default() {
            let word = |literal: bool, word: &'static str| if literal { word } else { "refuse" };
            config["paths"] = json!({
                "encoded_slash": word(self.paths.slash_is_in_a_segment, "segment"),
                "semicolon": word(self.paths.semicolon_is_literal, "literal"),
                "encoded_delimiters": word(self.paths.delimiters_are_literal, "literal"),
            });
        }
        config
    }
}

impl Access {
    fn name(&self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Authenticated => "authenticated",
            Self::Deny => "deny",
            Self::Require(_) => panic!("permissions have no single word"),
        }
    }
}

fn sha256(text: &str) -> String {
    use sha2::Digest as _;
    hex::encode(sha2::Sha256::digest(text))
}
