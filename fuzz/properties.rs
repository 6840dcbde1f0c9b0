//! What must hold for every input, whatever its bytes are. The fuzz targets call these functions with inputs that they
//! invent; `crates/keyward-policy/tests/robustness.rs` calls them with the corpus and with changes to it.

use keyward_policy::config::{Config, MAX_PROBLEMS};
use keyward_policy::decide::{RequestHead, decide};
use keyward_policy::decision::{Code, ProblemDetails};
use keyward_policy::digest::Digest;
use keyward_policy::explain::explain;
use keyward_policy::host::{self, HostPattern};
use keyward_policy::manifest::{Change, Page};
use keyward_policy::path::{CanonicalPath, PathSettings};
use keyward_policy::policy::{Keys, Policy, RouteMetadata};
use keyward_policy::table::{KeyTable, MAX_TABLE_BYTES};
use keyward_policy::timestamp::Timestamp;
use std::cell::OnceCell;
use std::collections::BTreeMap;

/// A configuration is valid, or is refused with mistakes that can be read; the same bytes always mean the same.
pub fn configuration(data: &[u8]) {
    match Config::parse(data) {
        Ok(config) => {
            let again = Config::parse(data).expect("the same bytes are as good as before");
            assert_eq!(*config.routes, *again.routes);
            let head = RequestHead { method: b"GET", path: b"/a/b", host: b"a.example", headers: &[] };
            let policy =
                Policy { config: &config, keys: Keys::choose(&config, None, None), route: RouteMetadata::Absent };
            let decision = decide(&policy, &head, Timestamp::from_unix_ms(0));
            assert!(decision.code != Code::Allowed, "there is no key in the request");
        }
        Err(errors) => {
            let problems = errors.problems();
            assert!((1..=MAX_PROBLEMS + 1).contains(&problems.len()));
            assert!(problems.iter().all(|problem| !problem.message.is_empty() && !problem.help.is_empty()));
            assert!(errors.to_string().len() < 2_000 * problems.len());
            assert_eq!(Config::parse(data).err(), Some(errors));
        }
    }
}

/// A page is taken in up to its first change that cannot be, and the table then holds what the changes say.
pub fn page(data: &[u8]) {
    let Ok(page) = serde_json::from_slice::<Page<'_>>(data) else { return };
    let mut table = KeyTable::new();
    let mut held: BTreeMap<&str, (&str, Option<Digest>)> = BTreeMap::new();
    if table.apply(&page.keys).is_ok() {
        for change in &page.keys {
            match change {
                Change::Live(key) => held.insert(&*key.id, (&*key.name, Digest::from_hex(&key.sha256).ok())),
                Change::Deleted { id, .. } => held.remove(&**id),
            };
        }
        assert_eq!(table.len(), held.len());
        for (id, (name, digest)) in held {
            let key = digest.as_ref().and_then(|digest| table.get(digest)).expect("what was taken in is found");
            assert_eq!((key.id.to_string().as_str(), key.name), (id, name));
        }
    }
    assert!(table.bytes() <= MAX_TABLE_BYTES);
    let text = serde_json::to_vec(&page).expect("a page can be written");
    assert_eq!(serde_json::from_slice::<Page<'_>>(&text).ok(), Some(page));
}

/// The key that the configuration for heads knows.
const KEY: &[u8] = b"kw_fuzz";

const HEAD_CONFIG: &str = r#"{"manifest":{"keys":[{"id":"key_1","sha256":"SHA256","permissions":["a:read"]}]},
"key_sources":[{"header":"x-api-key"},{"header":"authorization","scheme":"Bearer"},{"query":"k"},{"cookie":"k"}],
"paths":{"encoded_slash":"segment","semicolon":"literal"},"cors_preflight":"pass",
"rules":[{"path":"/public/**","access":"public"},{"hosts":["deny.example","*.deny.example"],"path":"/**","access":"deny"},
{"methods":["GET"],"path":"/a/{b}","require":["a:read"]},{"methods":["POST"],"path":"/a/{b}:go","content_type":["application/json","none"],"require":["a:read"]},
{"path":"/a/{b}","require":["a:write"]}]}"#;

thread_local! {
    static CONFIG: OnceCell<Config> = const { OnceCell::new() };
}

/// A request without the key is never allowed, and what is explained is what is decided. The input is a head in lines:
/// method, path, host, then `name:value`.
pub fn head(data: &[u8]) {
    let mut lines = data.split(|byte| *byte == b'\n');
    let mut next = || lines.next().unwrap_or_default();
    let (method, path, host) = (next(), next(), next());
    let headers: Vec<(&[u8], &[u8])> = lines
        .filter_map(|line| {
            let at = line.iter().position(|byte| *byte == b':')?;
            Some((line.get(..at)?, line.get(at + 1..)?))
        })
        .collect();
    let head = RequestHead { method, path, host, headers: &headers };
    CONFIG.with(|config| {
        let config = config.get_or_init(|| {
            let text = HEAD_CONFIG.replace("SHA256", &Digest::of_key(KEY).to_hex());
            Config::parse(text.as_bytes()).expect("the configuration is valid")
        });
        let policy = Policy { config, keys: Keys::choose(config, None, None), route: RouteMetadata::Absent };
        let now = Timestamp::from_unix_ms(0);
        let decision = decide(&policy, &head, now);
        let has_key = data.windows(KEY.len()).any(|window| window == KEY) || data.contains(&b'%');
        assert!(decision.code != Code::Allowed || has_key);
        if let Ok(host) = host::parse(host) {
            let denied = &*host == "deny.example" || host.ends_with(".deny.example");
            assert!(!denied || decision.code != Code::Allowed);
        } else {
            assert!(matches!(decision.code, Code::HostAmbiguous | Code::PathAmbiguous));
        }
        assert_eq!(explain(&policy, &head, now).code, decision.code.as_str());
        let body = serde_json::to_string(&ProblemDetails::of(&decision, &config.key_sources));
        assert!(!body.expect("a reply can be written").contains("kw_fuzz"));
    });
}

/// A path has one reading or none. The first byte chooses the settings.
pub fn path(data: &[u8]) {
    let Some((settings, path)) = data.split_first() else { return };
    let settings = PathSettings {
        encoded_slash_in_segment: settings & 1 != 0,
        literal_semicolon: settings & 2 != 0,
        literal_encoded_delimiters: settings & 4 != 0,
    };
    let read = CanonicalPath::parse_with(path, settings);
    if let Ok(strict) = CanonicalPath::parse(path) {
        assert_eq!(Ok(&strict), read.as_ref(), "settings add paths and change none");
    }
    let Ok(read) = read else { return };
    let text = read.as_str();
    assert!(text.starts_with('/') && !text.contains("//") && !text.contains('\\') && !text.contains('\0'));
    assert!(settings.literal_semicolon || !text.contains(';'));
    assert!(settings.literal_encoded_delimiters || !text.contains(['?', '#']));
    assert!(settings.encoded_slash_in_segment || !text.contains("%2F"));
    assert!(text.replace("%2F", "/").split('/').all(|part| part != "." && part != ".."));
    // Written encoded, it is the same path again.
    let encode = |byte: u8| match byte {
        b'/' => "/".to_owned(),
        byte => format!("%{byte:02x}"),
    };
    let encoded: String =
        text.split("%2F").map(|part| part.bytes().map(encode).collect()).collect::<Vec<String>>().join("%2F");
    assert_eq!(CanonicalPath::parse_with(encoded.as_bytes(), settings).as_ref(), Ok(&read));
}

/// A host has one reading or none.
pub fn host(data: &[u8]) {
    let Ok(host) = host::parse(data) else { return };
    let plain = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b':' | b'[' | b']');
    assert!(!host.is_empty() && host.bytes().all(plain), "{host}");
    assert!(!host.starts_with('.') && !host.ends_with('.') && !host.contains(".."), "{host}");
    assert_eq!(host::parse(host.as_bytes()).as_deref().ok(), Some(&*host));
    assert_eq!(HostPattern::parse(&host), Ok(HostPattern::Exact(host.as_ref().into())));
    if let Some(address) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        assert!(address.parse::<core::net::Ipv6Addr>().is_ok(), "{host}");
    }
}
