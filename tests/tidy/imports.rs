//! Which files of a crate import which others: no circles, and the three ways into the service apart.
//!
//! Code under `#[cfg(test)]` is left out: a test may use anything.

use crate::{files, read};
use proc_macro2::{Delimiter, TokenStream, TokenTree};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

type Module = Vec<String>;
/// The files that each file imports.
type Imports = BTreeMap<PathBuf, BTreeSet<PathBuf>>;

/// Files that are still in a circle. An entry that is no longer needed fails.
const KNOWN_IN_A_CIRCLE: &[&str] = &[];

/// A file that composes the service of its parts, and so imports two of the three ways into it.
const COMPOSES: &str = "crates/keyward-admin/src/cli/serve.rs";

#[test]
fn no_files_import_each_other_in_a_circle() {
    let mut found = BTreeMap::new();
    for folder in crate::source_folders() {
        found.extend(in_circles(&imports_below(&folder)));
    }
    let known: BTreeSet<PathBuf> = KNOWN_IN_A_CIRCLE.iter().map(PathBuf::from).collect();
    let new: Vec<_> = found.iter().filter(|(file, _)| !known.contains(*file)).collect();
    assert!(new.is_empty(), "files that import each other in a circle, and what they import: {new:#?}");
    let mended: Vec<_> = known.iter().filter(|file| !found.contains_key(*file)).collect();
    assert!(mended.is_empty(), "in no circle any more: {mended:?}");
}

#[test]
fn the_api_the_page_and_the_command_do_not_import_each_other() {
    let source = Path::new("crates/keyward-admin/src");
    let ways = ["api", "web", "cli"];
    let way = |file: &Path| {
        let first = file.strip_prefix(source).ok()?.components().next()?.as_os_str().to_str()?;
        ways.into_iter().find(|way| first.trim_end_matches(".rs") == *way)
    };
    let imports = imports_below(source);
    let crossing: Vec<_> = imports
        .iter()
        .flat_map(|(file, imported)| imported.iter().map(move |imported| (file, imported)))
        .filter(|(file, _)| *file != Path::new(COMPOSES))
        .filter(|(file, imported)| matches!((way(file), way(imported)), (Some(from), Some(to)) if from != to))
        .collect();
    assert!(crossing.is_empty(), "{crossing:#?}");
    assert!(imports.keys().filter_map(|file| way(file)).collect::<BTreeSet<_>>().len() == 3, "a way is missing");
}

#[test]
fn a_planted_circle_is_found() {
    let texts = [
        ("src/lib.rs", "mod a; mod b; mod c; mod d; mod e;"),
        ("src/a.rs", "use crate::{b::{self, Thing}, c};"),
        ("src/b.rs", "fn f() { crate::d::g(); } #[cfg(test)] mod tests { use crate::e::h; }"),
        ("src/c.rs", "//! Says `crate::a` in words alone.\nconst TEXT: &str = \"crate::a\";"),
        ("src/d.rs", "mod inner; use inner::Deep;"),
        ("src/d/inner.rs", "mod nested { fn f() { format!(\"{}\", super::super::super::a::VALUE); } }"),
        ("src/e.rs", "use super::b;"),
    ];
    let texts: Vec<_> = texts.iter().map(|(file, text)| (PathBuf::from(file), (*text).to_owned())).collect();
    let circle: Vec<_> = in_circles(&imports_of(Path::new("src"), &texts)).into_keys().collect();
    assert_eq!(circle, ["src/a.rs", "src/b.rs", "src/d/inner.rs", "src/d.rs"].map(PathBuf::from));
    let cut: Vec<_> = texts.into_iter().filter(|(file, _)| !file.ends_with("inner.rs")).collect();
    assert!(in_circles(&imports_of(Path::new("src"), &cut)).is_empty());
}

fn imports_below(folder: &Path) -> Imports {
    let files = files(".rs").into_iter().filter(|file| file.starts_with(folder));
    let texts: Vec<_> = files.map(|file| (file.clone(), read(&file))).collect();
    imports_of(folder, &texts)
}

fn imports_of(folder: &Path, texts: &[(PathBuf, String)]) -> Imports {
    let modules: BTreeMap<Module, PathBuf> =
        texts.iter().map(|(file, _)| (module(folder, file), file.clone())).collect();
    texts
        .iter()
        .map(|(file, text)| {
            let tokens: TokenStream = text.parse().unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            let (own, mut paths) = (module(folder, file), Vec::new());
            scan(&tokens.into_iter().collect::<Vec<_>>(), &own, &modules, &mut paths);
            let imported = paths.iter().filter_map(|path| resolve(path, &modules)).filter(|imported| imported != file);
            (file.clone(), imported.collect())
        })
        .collect()
}

/// The module that a file holds: none for `lib.rs` and `main.rs`, which are the crate's root.
fn module(folder: &Path, file: &Path) -> Module {
    let inner = file.strip_prefix(folder).unwrap_or(file).with_extension("");
    let mut module: Module = inner.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if module.last().is_some_and(|last| last == "mod") || module == ["lib"] || module == ["main"] {
        module.pop();
    }
    module
}

/// The file that holds what a path names: the longest part of the path that is a module with a file.
fn resolve(path: &Module, modules: &BTreeMap<Module, PathBuf>) -> Option<PathBuf> {
    (0..=path.len()).rev().find_map(|length| modules.get(&path[..length])).cloned()
}

/// Collects the absolute paths that the tokens of a module name.
fn scan(tokens: &[TokenTree], own: &Module, modules: &BTreeMap<Module, PathBuf>, paths: &mut Vec<Module>) {
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        match token {
            TokenTree::Punct(punct) if punct.as_char() == '#' && is_test_only(tokens.get(at + 1)) => {
                at = end_of_item(tokens, at + 2);
                continue;
            }
            TokenTree::Ident(word) if *word == "mod" => {
                if let (Some(TokenTree::Ident(name)), Some(TokenTree::Group(body))) =
                    (tokens.get(at + 1), tokens.get(at + 2))
                {
                    let inner: Module = own.iter().cloned().chain([name.to_string()]).collect();
                    scan(&body.stream().into_iter().collect::<Vec<_>>(), &inner, modules, paths);
                    at += 3;
                    continue;
                }
            }
            TokenTree::Ident(word) if is_separator(tokens, at + 1) && !(at >= 2 && is_separator(tokens, at - 2)) => {
                let word = word.to_string();
                let child: Module = own.iter().cloned().chain([word.clone()]).collect();
                if ["crate", "super", "self"].contains(&&*word) || modules.contains_key(&child) {
                    collect(tokens, at, own.clone(), paths);
                }
            }
            TokenTree::Group(group) => scan(&group.stream().into_iter().collect::<Vec<_>>(), own, modules, paths),
            _ => {}
        }
        at += 1;
    }
}

/// Reads the path that begins at `at`; a group of paths at its end gives several.
fn collect(tokens: &[TokenTree], mut at: usize, mut path: Module, paths: &mut Vec<Module>) {
    loop {
        match tokens.get(at) {
            Some(TokenTree::Ident(word)) => match word.to_string().as_str() {
                "crate" => path.clear(),
                "self" => {}
                "super" => {
                    path.pop();
                }
                word => path.push(word.to_owned()),
            },
            Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                let inner: Vec<TokenTree> = group.stream().into_iter().collect();
                for part in inner.split(|token| matches!(token, TokenTree::Punct(punct) if punct.as_char() == ',')) {
                    collect(part, 0, path.clone(), paths);
                }
                return;
            }
            _ => break,
        }
        if !is_separator(tokens, at + 1) {
            break;
        }
        at += 3;
    }
    paths.push(path);
}

/// Whether `::` begins at `at`.
fn is_separator(tokens: &[TokenTree], at: usize) -> bool {
    let colon = |token: Option<&TokenTree>| matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == ':');
    colon(tokens.get(at)) && colon(tokens.get(at + 1))
}

fn is_test_only(attribute: Option<&TokenTree>) -> bool {
    matches!(attribute, Some(TokenTree::Group(group)) if group.stream().to_string().replace(' ', "") == "cfg(test)")
}

/// Behind the item that begins at `at`.
fn end_of_item(tokens: &[TokenTree], at: usize) -> usize {
    let ends = |token: &TokenTree| match token {
        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
        TokenTree::Punct(punct) => punct.as_char() == ';',
        _ => false,
    };
    tokens.iter().skip(at).position(ends).map_or(tokens.len(), |length| at + length + 1)
}

/// The files that can be reached from themselves, and what they import of each other.
fn in_circles(imports: &Imports) -> Imports {
    let mut left = imports.clone();
    loop {
        let imported: BTreeSet<PathBuf> = left.values().flatten().cloned().collect();
        let before = left.len();
        left.retain(|file, imports| !imports.is_empty() && imported.contains(file));
        let files: BTreeSet<PathBuf> = left.keys().cloned().collect();
        left.values_mut().for_each(|imports| imports.retain(|file| files.contains(file)));
        if left.len() == before {
            return left.into_iter().filter(|(_, imports)| !imports.is_empty()).collect();
        }
    }
}
