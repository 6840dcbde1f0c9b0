//! `rules`: what each route asks for.

use super::object::ObjectReader;
use crate::header;
use crate::host::HostPattern;
use crate::media_type::MediaType;
use crate::path::PathSettings;
use crate::pattern::Pattern;
use crate::route::Routes;
use crate::rule::{Access, Rule};

pub(super) const PERMISSION_HELP: &str = "use 1 to 100 visible ASCII characters without commas, like `records:read`";

/// The limit of rules in one configuration.
pub const MAX_RULES: usize = 10_000;

/// The limit of memory that compiled rules may take in a VM, in bytes of [`Rule::compiled_bytes`].
pub const MAX_RULES_BYTES: usize = 6 << 20;

/// Reads `rules` and compiles them.
pub(super) fn read(fields: &mut ObjectReader<'_, '_>, paths: PathSettings) -> Routes {
    let help = "put what the routes have in common into fewer rules with `{name}`, `_*` and `**`, or split the routes over several listeners";
    if let Some(count) = fields.list_len("rules").filter(|count| *count > MAX_RULES) {
        fields.problem("rules", format!("{count} rules, and at most {MAX_RULES} are read"), help);
        return Routes::default();
    }
    let rules = fields.objects("rules", |entry| read_rule(entry, paths)).unwrap_or_default();
    let bytes: usize = rules.iter().map(Rule::compiled_bytes).sum();
    if bytes > MAX_RULES_BYTES {
        let message =
            format!("compiled, the rules take {bytes} bytes in every VM, and at most {MAX_RULES_BYTES} are allowed");
        fields.problem("rules", message, help);
        return Routes::default();
    }
    Routes::new(rules)
}

fn read_rule(entry: &mut ObjectReader<'_, '_>, paths: PathSettings) -> Option<Rule> {
    entry.missing("path", "a rule is for a path; `/**` means every path");
    let path_text = entry.string("path");
    let path = path_text.and_then(|text| match Pattern::parse_with(text, paths) {
        Ok(pattern) => Some(pattern),
        Err(why) => {
            entry.problem("path", format!("`{text}`: {why}"), why.help());
            None
        }
    });
    let methods = read_methods(entry);
    let hosts = read_hosts(entry);
    let content_type = read_content_types(entry);
    let access = read_access(entry);
    Some(Rule {
        path_text: path_text?.into(),
        path: path?,
        methods,
        hosts,
        content_type,
        // A configuration with this missing is refused as a whole.
        access: access.unwrap_or(Access::Deny),
    })
}

fn read_methods(entry: &mut ObjectReader<'_, '_>) -> Option<Box<[Box<str>]>> {
    let list = entry.strings("methods", "leave it out for every method")?;
    for (place, method) in &list {
        if method.is_empty() || !method.bytes().all(header::is_token_byte) {
            entry.problem(place, format!("`{method}` is not a method"), "write it like `GET`");
        } else if method.bytes().any(|byte| byte.is_ascii_lowercase()) {
            let help = format!("methods are compared with case: write `{}`", method.to_ascii_uppercase());
            entry.problem(place, format!("`{method}` is not in upper case"), help);
        }
    }
    Some(list.into_iter().map(|(_, method)| method.into()).collect())
}

fn read_hosts(entry: &mut ObjectReader<'_, '_>) -> Option<Box<[HostPattern]>> {
    let list = entry.strings("hosts", "leave it out for every host")?;
    let mut hosts = Vec::with_capacity(list.len());
    for (place, text) in list {
        match HostPattern::parse(text) {
            Ok(host) => hosts.push(host),
            Err(why) => entry.problem(
                &place,
                format!("`{text}`: {why}"),
                "leave out scheme, port and path, write names in ASCII (`xn--…`) and addresses in their usual spelling",
            ),
        }
    }
    Some(hosts.into())
}

fn read_content_types(entry: &mut ObjectReader<'_, '_>) -> Option<Box<[MediaType]>> {
    let list = entry.strings("content_type", "leave it out for every type")?;
    let mut types = Vec::with_capacity(list.len());
    for (place, text) in list {
        match MediaType::parse(text) {
            Some(kind) => types.push(kind),
            None => entry.problem(
                &place,
                format!("`{text}` is not a media type"),
                "write it like `application/json`, without parameters; `none` means that there is no such header",
            ),
        }
    }
    Some(types.into())
}

fn read_access(entry: &mut ObjectReader<'_, '_>) -> Option<Access> {
    let require =
        entry.strings("require", "name at least one permission; for any valid key use `access: authenticated`");
    let access = entry.choice("access", &ACCESS_WORDS);
    if let Some(require) = &require {
        if require.len() > MAX_REQUIRED {
            let message = format!("{} permissions, and at most {MAX_REQUIRED} are allowed", require.len());
            entry.problem("require", message, "require one permission that stands for all of them");
        }
        for (place, permission) in require {
            if !is_permission(permission) {
                entry.problem(place, format!("`{permission}` is not a permission name"), PERMISSION_HELP);
            }
        }
    }
    match (entry.get("require").is_some(), entry.get("access").is_some()) {
        (true, true) => entry.problem(
            "",
            "`require` and `access` exclude each other",
            "keep `require` for permissions, or `access` for public, authenticated or deny",
        ),
        (false, false) => entry.problem(
            "",
            "the rule asks for nothing",
            "add `require: [permission]`, or `access: public`, `authenticated` or `deny`",
        ),
        _ => {}
    }
    let required = require.map(|list| {
        let mut names: Vec<Box<str>> = Vec::with_capacity(list.len().min(MAX_REQUIRED));
        for (_, name) in list.into_iter().take(MAX_REQUIRED) {
            if !names.iter().any(|have| **have == *name) {
                names.push(name.into());
            }
        }
        Access::Require(names.into())
    });
    required.or_else(|| access.map(AccessWord::access))
}

/// The limit of permissions that one rule may require.
const MAX_REQUIRED: usize = 100;

/// The words of `access`.
#[derive(Debug, Clone, Copy)]
pub(crate) enum AccessWord {
    Public,
    Authenticated,
    Deny,
}

pub(crate) const ACCESS_WORDS: [(&str, AccessWord); 3] =
    [("public", AccessWord::Public), ("authenticated", AccessWord::Authenticated), ("deny", AccessWord::Deny)];

impl AccessWord {
    pub(crate) fn access(self) -> Access {
        match self {
            Self::Public => Access::Public,
            Self::Authenticated => Access::Authenticated,
            Self::Deny => Access::Deny,
        }
    }
}

pub(crate) fn is_permission(text: &str) -> bool {
    (1..=100).contains(&text.len()) && header::is_visible_ascii(text.as_bytes()) && !text.contains(',')
}
