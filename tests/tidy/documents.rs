//! That documents name what exists: functions and types, and in the code map every source file.

use crate::{files, read, root};
use proc_macro2::{TokenStream, TokenTree};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Names in documents that belong to HTTP or to other products, or that are reserved.
const OF_OTHERS: &[&str] = &[
    "ETag",
    "APIKeyAuth",
    "synchronous_standby_names",
    "host_env_keys",
    "allowed_clients",
    "key_in_header",
    "key_in_query",
    "not_before",
];

/// What stands between backticks, outside of blocks of code.
pub fn quoted(text: &str) -> Vec<String> {
    let prose: String = text.split("```").step_by(2).collect();
    prose.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn documents_name_functions_and_types_that_exist() {
    let known = Known::read();
    let mut missing = Vec::new();
    let documents = files(".md").into_iter().filter(|file| {
        file.starts_with("docs") || file == Path::new("ARCHITECTURE.md") || file == Path::new("CONTRIBUTING.md")
    });
    for document in documents {
        for name in quoted(&read(&document)) {
            if looks_like_code(&name) && !known.has(&name) && !OF_OTHERS.contains(&&*name) {
                missing.push(format!("{}: `{name}`", document.display()));
            }
        }
    }
    assert!(missing.is_empty(), "names that are nowhere in the code:\n{}", missing.join("\n"));
}

#[test]
fn a_name_that_is_in_comments_alone_does_not_exist() {
    let mut known = Known::default();
    let text = "/// Like `gone_function`.\nfn kept() { other(\"a_counter\"); } // also_gone";
    known.add_rust(Path::new("src/a.rs"), text);
    for (name, exists) in [
        ("kept", true),
        ("other", true),
        ("a_counter", true),
        ("a::kept", true),
        ("a::kept()", true),
        ("gone_function", false),
        ("also_gone", false),
        ("a::gone_function", false),
        ("b::kept", false),
    ] {
        assert_eq!(known.has(name), exists, "{name}");
    }
    assert!(looks_like_code("gone_function") && looks_like_code("ManifestSync") && looks_like_code("sync::load"));
    assert!(!looks_like_code("GET /v1/keys") && !looks_like_code("x-api-key") && !looks_like_code("keyward"));
}

fn looks_like_code(name: &str) -> bool {
    let plain = name.trim_end_matches("()");
    let words_alone = plain.split("::").all(|part| {
        !part.is_empty()
            && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
            && !part.starts_with(|c: char| c.is_ascii_digit())
    });
    let camel = plain.chars().next().is_some_and(|c| c.is_ascii_uppercase())
        && plain.chars().any(|c| c.is_ascii_lowercase())
        && plain.chars().skip(1).any(|c| c.is_ascii_uppercase());
    words_alone && (plain.contains('_') || plain.contains("::") || camel || plain != name)
}

/// Every word of the code, and the words of each module and type.
#[derive(Default)]
struct Known {
    words: BTreeSet<String>,
    by_module: BTreeMap<String, BTreeSet<String>>,
}

impl Known {
    fn read() -> Self {
        let mut known = Self::default();
        for file in files("") {
            if file.extension().is_some_and(|extension| extension == "md") {
                continue;
            }
            let Ok(text) = std::fs::read_to_string(root().join(&file)) else { continue };
            // The tests name what does not exist.
            if file.starts_with("tests/tidy") {
                continue;
            }
            if file.extension().is_some_and(|extension| extension == "rs") {
                known.add_rust(&file, &text);
            } else {
                known.words.extend(words(&text));
            }
        }
        known
    }

    fn add_rust(&mut self, file: &Path, text: &str) {
        let Ok(tokens) = text.parse::<TokenStream>() else { return };
        let (mut found, mut types) = (BTreeSet::new(), BTreeSet::new());
        collect(tokens, &mut found, &mut types);
        let stem = file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        let folder = file.parent().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
        let modules = types.into_iter().chain([stem]).chain(folder);
        for module in modules {
            self.by_module.entry(module).or_default().extend(found.iter().cloned());
        }
        self.words.extend(found);
    }

    fn has(&self, name: &str) -> bool {
        let parts: Vec<&str> = name.trim_end_matches("()").split("::").collect();
        match parts.as_slice() {
            [.., module, last] => self.by_module.get(*module).is_some_and(|words| words.contains(*last)),
            [one] => self.words.contains(*one),
            [] => false,
        }
    }
}

/// Names, and the words of texts; no comments, and no documentation, which the reader has as an attribute.
fn collect(tokens: TokenStream, found: &mut BTreeSet<String>, types: &mut BTreeSet<String>) {
    let mut before = String::new();
    for token in tokens {
        match token {
            TokenTree::Group(group) => {
                let first = group.stream().into_iter().next().map(|token| token.to_string());
                if first.as_deref() != Some("doc") {
                    collect(group.stream(), found, types);
                }
                before.clear();
            }
            TokenTree::Ident(name) => {
                let name = name.to_string();
                if ["struct", "enum", "trait", "impl", "for"].contains(&&*before) {
                    types.insert(name.clone());
                }
                found.insert(name.clone());
                before = name;
            }
            TokenTree::Literal(literal) => found.extend(words(&literal.to_string())),
            TokenTree::Punct(_) => {}
        }
    }
}

fn words(text: &str) -> impl Iterator<Item = String> {
    let parts = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    parts.filter(|word| !word.is_empty()).map(str::to_owned)
}

#[test]
fn the_code_map_names_every_source_file() {
    let text = read("ARCHITECTURE.md");
    let map = text.split("\n## ").find(|section| section.starts_with("Code map")).expect("a code map");
    let mut mapped: Vec<(PathBuf, Vec<PathBuf>)> = Vec::new();
    let mut missing = Vec::new();
    for section in map.split("\n### ").skip(1) {
        let (heading, body) = section.split_once('\n').unwrap_or((section, ""));
        let Some(folder) = quoted(heading).pop().map(PathBuf::from) else { continue };
        let rows = body.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
        let entries: Vec<PathBuf> = rows.flat_map(quoted).map(|name| folder.join(name)).collect();
        for entry in &entries {
            if !root().join(entry).exists() {
                missing.push(format!("the code map names {}, which is not there", entry.display()));
            }
        }
        mapped.push((folder, entries));
    }
    for folder in crate::source_folders() {
        for file in files(".rs").into_iter().filter(|file| file.starts_with(&folder)) {
            let is_root = file == folder.join("lib.rs") || file == folder.join("main.rs");
            // Tests belong to the file beside their folder.
            let tested = file.parent().map(|folder| folder.with_extension("rs"));
            let tested = tested.filter(|tested| file.ends_with("tests.rs") && root().join(tested).exists());
            let file = tested.unwrap_or(file);
            let in_map = mapped.iter().any(|(_, entries)| entries.iter().any(|entry| file.starts_with(entry)));
            if !is_root && !in_map {
                missing.push(format!("{} is not in the code map", file.display()));
            }
        }
    }
    assert!(missing.is_empty(), "ARCHITECTURE.md:\n{}", missing.join("\n"));
}
