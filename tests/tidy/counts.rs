//! Numbers in messages and nouns agree: a count that may be 1 is written with `counted`, or the text chooses by it.

use crate::{files, read};

/// The nouns that messages count, in the plural.
const NOUNS: [&str; 16] = [
    "keys",
    "rules",
    "errors",
    "warnings",
    "instances",
    "revisions",
    "requests",
    "permissions",
    "mistakes",
    "hosts",
    "fields",
    "characters",
    "proxies",
    "days",
    "entries",
    "VMs",
];
/// Words that may be between a number and its noun.
const BETWEEN: [&str; 5] = ["filter", "more", "further", "other", "live"];

/// Whether a placeholder holds a limit, which is never 1.
fn is_limit(placeholder: &str) -> bool {
    let is_constant = placeholder.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
    (is_constant && !placeholder.is_empty()) || ["max", "limit", "chart.days"].contains(&placeholder)
}

/// Returns the counts in a line whose noun is in the plural whatever the number is.
fn plurals<'t>(line: &'t str, close: &str, open: &str) -> Vec<&'t str> {
    let mut found = Vec::new();
    for (end, _) in line.match_indices(close) {
        let Some(begin) = line[..end].rfind(open) else { continue };
        let placeholder = line[begin + open.len()..end].trim();
        let rest = line[end + close.len()..].trim_start_matches("</strong>");
        let Some(rest) = rest.strip_prefix(' ') else { continue };
        // A number beyond a limit is not 1.
        if rest.contains("at most") {
            continue;
        }
        let mut words = rest.split(|c: char| !c.is_alphabetic()).skip_while(|word| BETWEEN.contains(word));
        let is_noun = |word: &str| NOUNS.contains(&word) && !rest.contains(&format!("{word}="));
        if words.next().is_some_and(is_noun) && !is_limit(placeholder) {
            found.push(&line[begin..]);
        }
    }
    found
}

/// Whether a line, or the one before it, has chosen by the number.
fn chooses(before: &str, line: &str) -> bool {
    [before, line].iter().any(|line| {
        line.contains("== 1 %}") || ["1 =>", "Some(1) "].iter().any(|arm| line.trim_start().starts_with(arm))
    })
}

#[test]
fn numbers_and_nouns_agree() {
    let mut wrong = Vec::new();
    for (ending, close, open) in [(".rs", "}", "{"), (".html", "}}", "{{")] {
        for file in files(ending) {
            let path = file.to_string_lossy().into_owned();
            let is_text = path.starts_with("src/")
                || ["policy", "edge", "native", "admin"]
                    .iter()
                    .any(|name| path.starts_with(&format!("crates/keyward-{name}/")) && !path.contains("/tests"));
            if !is_text {
                continue;
            }
            let text = read(&file);
            let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
            let mut before = "";
            for (number, line) in code.lines().enumerate() {
                if !chooses(before, line) {
                    let found = plurals(line, close, open);
                    wrong.extend(found.iter().map(|text| format!("{path}:{}: {text}", number + 1)));
                }
                before = line;
            }
        }
    }
    assert!(wrong.is_empty(), "use `keyward_policy::count::counted`:\n{}", wrong.join("\n"));
}

#[test]
fn a_count_that_ignores_its_number_is_found() {
    let found = |line| plurals(line, "}", "{").len();
    assert_eq!(found("format!(\"{} keys at revision {}\", a, b)"), 1);
    assert_eq!(found("format!(\"{vms} of {of} filter instances\")"), 1);
    assert_eq!(found("format!(\"at most {MAX_RULES} rules\")"), 0);
    assert_eq!(found("format!(\"{} at revision {}\", counted(a, \"key\"), b)"), 0);
    assert_eq!(plurals("<strong>{{ out }}</strong> instances", "}}", "{{").len(), 1);
}
