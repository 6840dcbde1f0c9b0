//! What a file of the decision corpus holds, and how to add a case.
//!
//! To add a case, append a `[[case]]` to the file whose configuration fits, or copy a file: every `*.toml` beside this one
//! runs by itself. Then `cargo test --test decisions native` says within seconds whether the policy core agrees, and
//! `cargo test --test decisions` whether the compiled module, `keyward explain` and a real Envoy do.
//!
//! ```toml
//! # The plugin configuration, as YAML or JSON; "envoy.yaml" takes the one of the shipped file.
//! config = '''
//! rules:
//! - {path: /a, require: ["a:read"]}
//! '''
//! # Inline keys by a short name. The text of each is `{name}` below, its id is `key_<name>`. The fields are those of
//! # `manifest.keys`; a key without `permissions` has none.
//! [keys]
//! reader = { permissions = ["a:read"] }
//!
//! # Keys that the filter has fetched, likewise; the configuration has to have `admin` then. `must` lists what a filter has
//! # to know to honour the key. Without this table the filter has not reached its admin service yet.
//! [fetched]
//! writer = { permissions = ["a:write"], must = ["resources"] }
//!
//! # Every request with every key and every list of headers, and for all of them the same code.
//! [[case]]
//! name = "a key with the permission may"
//! request = ["GET /a", "HEAD /a"]
//! key = "reader"                    # sent as x-api-key
//! headers = ["accept: text/plain"]  # sent too; `\xNN` is a byte, `{reader}` the text of that key
//! code = "allowed"
//! ```
//!
//! `contact = "stale"` at the top of a file means that the last contact with the admin service is longer ago than
//! `max_staleness`.
//!
//! A case may also have: `id` (the key that must be recognised; by default `key`, where the code comes after the
//! look-up), `missing` (permissions), `now`, `route` (the route's metadata), `envoy` (the status that Envoy gives
//! before the filter sees the request), `not` (runners that cannot run it: native, wasm, explain, envoy) with `because`.

use keyward_policy::checksum::{Checksum, contribution};
use keyward_policy::decision::Code;
use keyward_policy::manifest::{Change, FORMAT, Live, LiveKey, Page};
use keyward_testbed::{envoy_config, workspace};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The runners, as `not` names them.
const RUNNERS: [&str; 4] = ["native", "wasm", "explain", "envoy"];
/// When the corpus takes place, for the runners that can choose.
const NOW: &str = "2026-06-01T00:00:00Z";
/// The least number of requests of all files together. A glob that finds nothing is no success.
pub const LEAST_REQUESTS: usize = 300;

/// One file.
pub struct Suite {
    pub name: String,
    /// The whole plugin configuration, keys and all.
    pub plugin: Value,
    /// The keys that the filter has fetched. `None` means that it has not reached its admin service.
    pub fetched: Option<Vec<LiveKey<'static>>>,
    /// The last contact is longer ago than `max_staleness`.
    pub stale: bool,
    pub requests: Vec<Request>,
}

impl Suite {
    /// The fetched keys as the admin service sends them.
    pub fn page(&self) -> Option<Page<'static>> {
        let keys = self.fetched.clone()?;
        let mut sum = Checksum::default();
        keys.iter().for_each(|key| sum.add(contribution(key)));
        let head = keys.len() as u64;
        let live = Live { count: head, checksum: Some(sum.to_string().into()) };
        let keys = keys.into_iter().map(Change::Live).collect();
        let store = "st_1".into();
        Some(Page { format: FORMAT, store, since: 0, revision: head, mark: None, head, more: false, keys, live })
    }
}

/// One request and what is to become of it.
pub struct Request {
    pub name: String,
    pub method: String,
    pub target: Vec<u8>,
    pub host: Vec<u8>,
    /// Without `host`.
    pub headers: Vec<(Vec<u8>, Vec<u8>)>,
    pub now: String,
    pub route: Option<Value>,
    pub expected: Expected,
    pub envoy: Option<u16>,
    pub not: Vec<String>,
}

/// What is to become of it.
pub struct Expected {
    pub code: String,
    pub key_id: Option<String>,
    pub missing: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    config: String,
    #[serde(default)]
    keys: BTreeMap<String, Value>,
    fetched: Option<BTreeMap<String, Fetched>>,
    contact: Option<Contact>,
    case: Vec<Case>,
}

/// A fetched key.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fetched {
    #[serde(default)]
    permissions: Vec<String>,
    expires_at: Option<String>,
    #[serde(default)]
    disabled: bool,
    #[serde(default)]
    must: Vec<String>,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Contact {
    Fresh,
    Stale,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    request: OneOrMore<String>,
    #[serde(default)]
    key: OneOrMore<String>,
    /// One list for all, or several to try each.
    #[serde(default)]
    headers: OneOrMore<OneOrMore<String>>,
    code: String,
    id: Option<String>,
    missing: Option<Vec<String>>,
    now: Option<String>,
    route: Option<Value>,
    envoy: Option<u16>,
    #[serde(default)]
    not: Vec<String>,
    because: Option<String>,
}

#[derive(Deserialize, Clone)]
#[serde(untagged, expecting = "a text, or a list of texts")]
enum OneOrMore<T> {
    One(T),
    More(Vec<T>),
}

impl<T> Default for OneOrMore<T> {
    fn default() -> Self {
        Self::More(Vec::new())
    }
}

impl<T> OneOrMore<T> {
    fn as_slice(&self) -> &[T] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::More(more) => more,
        }
    }
}

/// The text of a key, from its short name.
pub fn key_text(name: &str) -> String {
    format!("kw_{name}_0123456789abcdefghijklmnopqrstuv")
}

/// All files, in the order of their names.
pub fn load() -> Vec<Suite> {
    const FOLDER: &str = "tests/decisions";
    let mut files = workspace::files(FOLDER);
    files.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    let suites: Vec<Suite> = files
        .iter()
        .map(|path| {
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            let text = std::fs::read_to_string(path).unwrap();
            suite(&name, &text).unwrap_or_else(|error| panic!("{name}.toml: {error}"))
        })
        .collect();
    let total: usize = suites.iter().map(|suite| suite.requests.len()).sum();
    assert!(total >= LEAST_REQUESTS, "only {total} requests in {FOLDER}");
    suites
}

/// The requests that a runner can run.
pub fn requests_for<'s>(suite: &'s Suite, runner: &'s str) -> impl Iterator<Item = &'s Request> {
    suite.requests.iter().filter(move |request| !request.not.iter().any(|not| not == runner))
}

fn suite(name: &str, text: &str) -> Result<Suite, String> {
    let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
    let mut plugin = match file.config.as_str() {
        "envoy.yaml" => {
            let mut plugin = envoy_config::shipped_plugin();
            plugin.as_object_mut().map(|fields| fields.remove("admin"));
            plugin
        }
        yaml => envoy_config::parse_yaml(yaml)?,
    };
    let fields = plugin.as_object_mut().ok_or("`config` is no object")?;
    if !file.keys.is_empty() {
        let keys: Vec<Value> = file.keys.iter().map(|(name, fields)| key(name, fields)).collect();
        let manifest = fields.entry("manifest").or_insert_with(|| json!({}));
        manifest["keys"] = json!(keys);
    }
    if file.fetched.is_some() && !fields.contains_key("admin") {
        return Err("`fetched` needs `admin` in `config`".to_owned());
    }
    if file.contact.is_some() && file.fetched.is_none() {
        return Err("`contact` needs `[fetched]`: without it there was no contact".to_owned());
    }
    let names: Vec<&str> =
        file.keys.keys().chain(file.fetched.iter().flatten().map(|(name, _)| name)).map(|name| &**name).collect();
    let mut requests = Vec::new();
    for case in &file.case {
        expand(case, &names, &mut requests).map_err(|error| format!("case \"{}\": {error}", case.name))?;
    }
    let stale = file.contact == Some(Contact::Stale);
    for request in &mut requests {
        // The command takes no fetched keys, and no proxy is waited for until it is stale.
        let cannot = [(file.fetched.is_some(), "explain"), (stale, "envoy")];
        request.not.extend(cannot.iter().filter(|(cannot, _)| *cannot).map(|(_, runner)| (*runner).to_owned()));
    }
    let fetched =
        file.fetched.map(|keys| keys.into_iter().zip(1..).map(|(key, revision)| live(key, revision)).collect());
    Ok(Suite { name: name.to_owned(), plugin, fetched, stale, requests })
}

fn live((name, fields): (String, Fetched), revision: u64) -> LiveKey<'static> {
    LiveKey {
        revision,
        id: format!("key_{name}").into(),
        sha256: keyward_policy::digest::Digest::of_key(key_text(&name).as_bytes()).to_hex().into(),
        name: name.into(),
        permissions: fields.permissions.into_iter().map(Into::into).collect(),
        expires_at: fields.expires_at.map(Into::into),
        disabled: fields.disabled,
        must: fields.must.into_iter().map(Into::into).collect(),
    }
}

fn key(name: &str, fields: &Value) -> Value {
    let mut key = json!({"id": format!("key_{name}"), "name": name, "permissions": []});
    key["sha256"] = json!(keyward_policy::digest::Digest::of_key(key_text(name).as_bytes()).to_hex());
    for (field, value) in fields.as_object().into_iter().flatten() {
        key[field] = value.clone();
    }
    key
}

fn expand(case: &Case, keys: &[&str], requests: &mut Vec<Request>) -> Result<(), String> {
    if !case.not.is_empty() && case.because.is_none() {
        return Err("`not` needs a `because`".to_owned());
    }
    if let Some(unknown) = case.not.iter().find(|runner| !RUNNERS.contains(&&***runner)) {
        return Err(format!("no runner `{unknown}`; there are {}", RUNNERS.join(", ")));
    }
    if !Code::ALL.iter().any(|code| code.as_str() == case.code) {
        let codes: Vec<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
        return Err(format!("no code `{}`; there are {}", case.code, codes.join(", ")));
    }
    if case.request.as_slice().is_empty() {
        return Err("`request` is empty".to_owned());
    }
    let each_key: Vec<Option<&String>> = match case.key.as_slice() {
        [] => vec![None],
        names => names.iter().map(Some).collect(),
    };
    let each_headers: Vec<Vec<&String>> = match case.headers.as_slice() {
        [] => vec![Vec::new()],
        // A plain list of strings is one list of headers.
        lists if lists.iter().all(|list| matches!(list, OneOrMore::One(_))) => {
            vec![lists.iter().flat_map(OneOrMore::as_slice).collect()]
        }
        lists => lists.iter().map(|list| list.as_slice().iter().collect()).collect(),
    };
    for line in case.request.as_slice() {
        for key in &each_key {
            for headers in &each_headers {
                requests.push(request(case, line, key.map(String::as_str), headers, keys)?);
            }
        }
    }
    Ok(())
}

fn request(case: &Case, line: &str, key: Option<&str>, headers: &[&String], keys: &[&str]) -> Result<Request, String> {
    let (method, target) =
        line.split_once(' ').ok_or_else(|| format!("`{line}` has to be a method, a space and a target"))?;
    let mut fields: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    if let Some(key) = key {
        if !keys.contains(&key) {
            return Err(format!("no key `{key}` in this file; it has {}", keys.join(", ")));
        }
        fields.push((b"x-api-key".to_vec(), key_text(key).into_bytes()));
    }
    for header in headers {
        let (name, value) = header.split_once(':').ok_or_else(|| format!("`{header}` has to be `name: value`"))?;
        fields.push((name.as_bytes().to_vec(), bytes(value.trim_matches(' '), keys)?));
    }
    let host = fields.iter().position(|(name, _)| name == b"host").map(|at| fields.remove(at).1);
    // Up to here the key was not looked up, or not found.
    const WITHOUT_KEY: [&str; 7] = [
        "public",
        "path_ambiguous",
        "host_ambiguous",
        "key_missing",
        "key_malformed",
        "manifest_unavailable",
        "key_unknown",
    ];
    let found = key.filter(|_| !WITHOUT_KEY.contains(&case.code.as_str()));
    Ok(Request {
        name: format!("{}: {line} {key:?} {headers:?}", case.name),
        method: method.to_owned(),
        target: bytes(target, keys)?,
        host: host.unwrap_or_else(|| b"api.example.com".to_vec()),
        headers: fields,
        now: case.now.clone().unwrap_or_else(|| NOW.to_owned()),
        route: case.route.clone(),
        expected: Expected {
            code: case.code.clone(),
            key_id: case.id.clone().or_else(|| found.map(|name| format!("key_{name}"))),
            missing: case.missing.clone(),
        },
        envoy: case.envoy,
        not: case.not.clone(),
    })
}

/// Puts in key texts and bytes.
fn bytes(text: &str, keys: &[&str]) -> Result<Vec<u8>, String> {
    let mut text = text.to_owned();
    for name in keys {
        text = text.replace(&format!("{{{name}}}"), &key_text(name));
    }
    let mut out = Vec::new();
    let mut rest = text.as_str();
    while let Some((before, after)) = rest.split_once("\\x") {
        out.extend(before.as_bytes());
        let digits = after.get(..2).ok_or("`\\x` needs two digits")?;
        out.push(u8::from_str_radix(digits, 16).map_err(|error| format!("\\x{digits}: {error}"))?);
        rest = &after[2..];
    }
    out.extend(rest.as_bytes());
    Ok(out)
}

#[test]
fn a_wrong_file_gets_an_error_that_says_how_to_mend_it() {
    let file = |head: &str, case: &str| format!("{head}\nconfig = '{{rules: [{{path: /a, require: [a]}}]}}'\n{case}");
    let case = |more: &str| format!("[keys]\nreader = {{}}\n[[case]]\nname = \"it\"\n{more}");
    for (text, expected) in [
        (file("", &case("request = 'GET /a'\ncode = 'allowd'")), "case \"it\": no code `allowd`; there are "),
        (file("", &case("request = 'GET /a'\ncode = 'allowed'\nkey = 'x'")), "no key `x` in this file; it has reader"),
        (file("", &case("request = '/a'\ncode = 'allowed'")), "`/a` has to be a method, a space and a target"),
        (file("", &case("request = 3\ncode = 'allowed'")), "a text, or a list of texts"),
        (file("", &case("request = []\ncode = 'allowed'")), "`request` is empty"),
        (file("", &case("request = 'GET /a'\ncode = 'allowed'\nheaders = 'x'")), "`x` has to be `name: value`"),
        (
            file("", &case("request = 'GET /a'\ncode = 'allowed'\nnot = ['wsam']\nbecause = 'x'")),
            "no runner `wsam`; there are native",
        ),
        (file("", &case("request = 'GET /a'\ncode = 'allowed'\nnot = ['wasm']")), "`not` needs a `because`"),
        (
            file("", "[fetched]\na = {}\n[[case]]\nname = 'it'\nrequest = 'GET /a'\ncode = 'allowed'"),
            "`fetched` needs `admin`",
        ),
        (file("contact = 'stale'", &case("request = 'GET /a'\ncode = 'allowed'")), "`contact` needs `[fetched]`"),
        (file("", "[[case]]\nname = 'it'\nrequst = 'GET /a'\ncode = 'allowed'"), "unknown field `requst`"),
    ] {
        let error = suite("wrong", &text).err().unwrap_or_else(|| panic!("nothing is wrong with\n{text}"));
        assert!(error.contains(expected), "{error}\n  does not say: {expected}");
    }
}
