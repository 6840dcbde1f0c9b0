//! `key_sources`: the places where requests may carry a key.

use super::object::ObjectReader;
use crate::credential::KeySource;
use crate::header;

/// Reads `key_sources`; the default is the header `x-api-key`.
pub(super) fn read(fields: &mut ObjectReader<'_, '_>) -> Vec<KeySource> {
    let default = || vec![KeySource::Header { name: "x-api-key".into(), scheme: None }];
    let mut sources: Vec<KeySource> = Vec::new();
    let list = fields.objects("key_sources", |entry| {
        let source = read_one(entry)?;
        match sources.iter().find(|earlier| overlaps(earlier, &source)) {
            Some(_) => entry.problem(
                "",
                "the same source as an earlier one",
                "list each source once: a key in it would count twice",
            ),
            None => sources.push(source),
        }
        Some(())
    });
    match list {
        Some(list)
            if list.is_empty() && sources.is_empty() && fields.list("key_sources").is_some_and(<[_]>::is_empty) =>
        {
            fields.problem(
                "key_sources",
                "the list is empty",
                "leave it out for the header `x-api-key`, or name a source",
            );
            default()
        }
        Some(_) if !sources.is_empty() => sources,
        _ => default(),
    }
}

fn read_one(entry: &mut ObjectReader<'_, '_>) -> Option<KeySource> {
    let (header, query, cookie) = (entry.string("header"), entry.string("query"), entry.string("cookie"));
    let scheme = entry.string("scheme");
    let given = ["header", "query", "cookie"].into_iter().filter(|kind| entry.get(kind).is_some()).count();
    if given != 1 {
        entry.problem(
            "",
            "a source is exactly one of `header`, `query` and `cookie`",
            "write `{header: x-api-key}`, `{query: api_key}` or `{cookie: api_key}`",
        );
        return None;
    }
    if let Some(scheme) = scheme {
        if entry.get("header").is_none() {
            entry.problem(
                "scheme",
                "only a header has a scheme",
                "remove it, or use `{header: authorization, scheme: Bearer}`",
            );
        } else if scheme.is_empty() || !scheme.bytes().all(header::is_token_byte) {
            entry.problem(
                "scheme",
                format!("`{scheme}` is not an authentication scheme"),
                "use one word, like `Bearer`",
            );
        }
    }
    let plain = |text: &str| (1..=100).contains(&text.len()) && text.chars().all(|c| !c.is_control());
    if let Some(name) = header {
        let lower = name.to_ascii_lowercase();
        if !header::is_name(name) {
            entry.problem(
                "header",
                format!("`{name}` is not a header name"),
                "use letters, digits and `-`, like `x-api-key`",
            );
        } else if matches!(&*lower, "cookie" | "host" | "content-type" | "content-length") {
            entry.problem(
                "header",
                format!("`{lower}` already has a meaning"),
                "use a header for the key alone; for cookies use `{cookie: name}`",
            );
        }
        return Some(KeySource::Header { name: lower.into(), scheme: scheme.map(Into::into) });
    }
    if let Some(name) = query {
        if !plain(name) {
            entry.problem("query", "not a parameter name", "use 1 to 100 characters, written decoded, like `api_key`");
        }
        return Some(KeySource::Query { name: name.into() });
    }
    let name = cookie?;
    if name.is_empty() || name.len() > 100 || !name.bytes().all(header::is_token_byte) {
        entry.problem("cookie", "not a cookie name", "use letters, digits, `_` and `-`, like `api_key`");
    }
    Some(KeySource::Cookie { name: name.into() })
}

/// Whether the same credential could be found in both sources.
fn overlaps(a: &KeySource, b: &KeySource) -> bool {
    match (a, b) {
        (KeySource::Header { name: a, scheme: a_scheme }, KeySource::Header { name: b, scheme: b_scheme }) => {
            let schemes_overlap = match (a_scheme, b_scheme) {
                (Some(a), Some(b)) => a.eq_ignore_ascii_case(b),
                _ => true,
            };
            a == b && schemes_overlap
        }
        _ => a == b,
    }
}
