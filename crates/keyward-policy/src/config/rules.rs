//! `rules`: which route asks for what.

use super::fields::Fields;
use crate::header;
use crate::host::HostPattern;
use crate::media_type::MediaType;
use crate::pattern::Pattern;
use crate::route::Routes;
use crate::rule::{Access, Rule};

pub(super) const PERMISSION_HELP: &str = "use 1 to 100 visible ASCII characters without commas, like `records:read`";

/// Reads `rules` and compiles them.
pub(super) fn read(fields: &mut Fields<'_, '_>) -> Routes {
    Routes::new(fields.objects("rules", read_rule).unwrap_or_default())
}

fn read_rule(entry: &mut Fields<'_, '_>) -> Option<Rule> {
    entry.missing("path", "a rule is for a path; `/**` is every path");
    let path_text = entry.string("path");
    let path = path_text.and_then(|text| match Pattern::parse(text) {
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
        // The rule is refused anyway where this is missing.
        access: access.unwrap_or(Access::Deny),
    })
}

fn read_methods(entry: &mut Fields<'_, '_>) -> Option<Box<[Box<str>]>> {
    let list = entry.strings("methods", "leave it out for every method")?;
    for (place, method) in &list {
        if method.is_empty() || !method.bytes().all(header::is_token_byte) {
            entry.problem(place, format!("`{method}` is no method"), "write it like `GET`");
        } else if method.bytes().any(|byte| byte.is_ascii_lowercase()) {
            let help = format!("methods are compared with case: write `{}`", method.to_ascii_uppercase());
            entry.problem(place, format!("`{method}` is not in upper case"), help);
        }
    }
    Some(list.into_iter().map(|(_, method)| method.into()).collect())
}

fn read_hosts(entry: &mut Fields<'_, '_>) -> Option<Box<[HostPattern]>> {
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

fn read_content_types(entry: &mut Fields<'_, '_>) -> Option<Box<[MediaType]>> {
    let list = entry.strings("content_type", "leave it out for every type")?;
    let mut types = Vec::with_capacity(list.len());
    for (place, text) in list {
        match MediaType::parse(text) {
            Some(kind) => types.push(kind),
            None => entry.problem(
                &place,
                format!("`{text}` is no media type"),
                "write it like `application/json`, without parameters; `none` is an absent header",
            ),
        }
    }
    Some(types.into())
}

fn read_access(entry: &mut Fields<'_, '_>) -> Option<Access> {
    let require =
        entry.strings("require", "name at least one permission; for any valid key use `access: authenticated`");
    let access = entry.choice("access", &ACCESS_WORDS);
    if let Some(require) = &require {
        for (place, permission) in require {
            if !is_permission(permission) {
                entry.problem(place, format!("`{permission}` is no permission name"), PERMISSION_HELP);
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
        let mut names: Vec<Box<str>> = Vec::with_capacity(list.len());
        for (_, name) in list {
            if !names.iter().any(|have| **have == *name) {
                names.push(name.into());
            }
        }
        Access::Require(names.into())
    });
    required.or_else(|| access.map(AccessWord::access))
}

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
