//! Configurations and requests from a seed. The words are few, so that requests meet rules often.

use crate::setting::{Access, Key, Paths, Request, Rule, Setting, Source};
use fastrand::Rng;

const SEGMENTS: &[&str] = &["a", "b", "api", "records", "_x", "_", "é", "A", "a.csv", "x:cancel", "a b"];
/// Those are in the catalogue that an admin service has by default.
pub const PERMISSIONS: &[&str] = &["records:read", "records:write", "files:read"];
const METHODS: &[&str] = &["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PURGE"];
const HOSTS: &[&str] = &[
    "api.example.com",
    "internal.example.com",
    "*.corp.example.com",
    "*.example.com",
    "10.0.0.1",
    "[2001:db8::1]",
    "xn--bcher-kva.example",
];
const MEDIA_TYPES: &[&str] = &["application/json", "multipart/form-data", "text/plain", "none"];

/// Pieces that are put somewhere into a path.
const ODDITIES: &[&[u8]] = &[
    b"/",
    b"//",
    b"/.",
    b"/..",
    b"/./",
    b"/../",
    b"%2f",
    b"%2F",
    b"%5c",
    b"\\",
    b"%2e",
    b"%2e%2e",
    b".",
    b";",
    b"%3b",
    b";v=1",
    b"%00",
    b"%25",
    b"%252f",
    b"%2541",
    b"%zz",
    b"%",
    b"%4",
    b"_",
    b"%5f",
    b"%61",
    b"%c3%a9",
    b"%ff",
    b"\xc3\xa9",
    b"\xff",
    b"?",
    b"%3f",
    b"%23",
    b"a",
    b"~",
    b"+",
    b"%20",
    b":cancel",
    b".csv",
    b"%0a",
    b"%7f",
    b"%80",
    b"%c2%85",
    b"*",
    b"**",
    b"{x}",
    b"!",
    b"%",
    b"&",
    b"=",
];

pub fn setting(rng: &mut Rng) -> Setting {
    let paths = Paths {
        slash_is_in_a_segment: rng.u8(..) < 64,
        semicolon_is_literal: rng.u8(..) < 64,
        delimiters_are_literal: rng.u8(..) < 64,
    };
    let rules = (0..rng.usize(1..9)).map(|_| rule(rng, paths)).collect();
    let mut sources = vec![Source::Header("x-api-key".to_owned())];
    if rng.bool() {
        let more = [
            Source::Scheme("authorization".to_owned(), "Bearer".to_owned()),
            Source::Query("k".to_owned()),
            Source::Cookie("k".to_owned()),
            Source::Header("x-other-key".to_owned()),
        ];
        sources.extend(more.into_iter().filter(|_| rng.bool()));
        rng.shuffle(&mut sources);
        sources.truncate(rng.usize(1..=sources.len()));
    }
    Setting {
        sources,
        keys: keys(rng),
        rules,
        unmatched: match rng.u8(..6) {
            0 => Access::Public,
            1 => Access::Authenticated,
            _ => Access::Deny,
        },
        preflight_passes: rng.bool(),
        hide_key: rng.bool(),
        paths,
    }
}

fn keys(rng: &mut Rng) -> Vec<Key> {
    (0..5)
        .map(|number| Key {
            id: format!("key_{number}"),
            text: format!("kw_{number}_0123456789abcdefghijklmnopqrstuvwx"),
            permissions: PERMISSIONS.iter().filter(|_| rng.bool()).map(|name| (*name).to_owned()).collect(),
            disabled: number == 3,
            expired: number == 4,
        })
        .collect()
}

fn rule(rng: &mut Rng, paths: Paths) -> Rule {
    let some = |rng: &mut Rng, of: &[&str], chance: u8| -> Vec<String> {
        if rng.u8(..100) >= chance {
            return Vec::new();
        }
        let mut list: Vec<String> = (0..rng.usize(1..3)).map(|_| pick(rng, of).to_owned()).collect();
        list.dedup();
        list.sort();
        list.dedup();
        list
    };
    let (methods, hosts) = (some(rng, METHODS, 50), some(rng, HOSTS, 20));
    let content_types = some(rng, MEDIA_TYPES, 20);
    let access = match rng.u8(..8) {
        0 => Access::Public,
        1 => Access::Deny,
        2 => Access::Authenticated,
        _ => {
            let mut permissions: Vec<String> = PERMISSIONS.iter().map(|name| (*name).to_owned()).collect();
            rng.shuffle(&mut permissions);
            permissions.truncate(rng.usize(1..=2));
            Access::Require(permissions)
        }
    };
    Rule { path: pattern(rng, paths), methods, hosts, content_types, access }
}

/// A segment of a pattern, which may hold what the settings let through.
fn segment(rng: &mut Rng, paths: Paths) -> &'static str {
    let mut odd: Vec<&str> = Vec::new();
    if paths.slash_is_in_a_segment {
        odd.extend(["g%2Fn", "a%2Fb%2Fc"]);
    }
    if paths.semicolon_is_literal {
        odd.extend(["a;b", ";", "a;v=1"]);
    }
    if paths.delimiters_are_literal {
        odd.extend(["a#b", "?", "a?b=c"]);
    }
    if odd.is_empty() || rng.u8(..3) > 0 { pick(rng, SEGMENTS) } else { pick(rng, &odd) }
}

fn pattern(rng: &mut Rng, paths: Paths) -> String {
    let mut pattern = String::new();
    for number in 0..rng.usize(..4) {
        pattern.push('/');
        match rng.u8(..10) {
            0 | 1 => pattern.push_str(&format!("{{v{number}}}")),
            2 => pattern.push_str("_*"),
            3 => pattern.push_str("a*"),
            4 => {
                let ends = [":cancel", ".csv", "b", "é", if paths.slash_is_in_a_segment { "%2Fraw" } else { "-x" }];
                let end = pick(rng, &ends);
                pattern.push_str(&format!("{{v{number}}}{end}"));
            }
            _ => pattern.push_str(segment(rng, paths)),
        }
    }
    match rng.u8(..10) {
        0 | 1 => pattern.push_str("/**"),
        2 if !pattern.is_empty() => pattern.push('/'),
        _ => {}
    }
    if pattern.is_empty() { "/".to_owned() } else { pattern }
}

pub fn request(rng: &mut Rng, setting: &Setting) -> Request {
    let method =
        if rng.u8(..10) < 7 { pick(rng, &["GET", "GET", "POST", "HEAD", "OPTIONS"]) } else { pick(rng, METHODS) };
    let mut target = path(rng, setting);
    // Half of the requests have no odd place at all, so that many get through and what they show counts.
    let odd = rng.bool();
    for _ in 0..if odd { rng.usize(..3) } else { 0 } {
        let piece = ODDITIES[rng.usize(..ODDITIES.len())];
        let at = rng.usize(1..=target.len());
        target.splice(at..at, piece.iter().copied());
    }
    let mut headers: Vec<(String, Vec<u8>)> = Vec::new();
    let count = [1, 1, 1, 1, 1, 1, 0, 2][rng.usize(..8)];
    for _ in 0..count {
        let carried = credential(rng, setting, odd);
        let source = setting.sources[rng.usize(..setting.sources.len())].clone();
        carry(rng, &source, carried, odd, &mut target, &mut headers);
    }
    if odd && rng.u8(..10) == 0 {
        headers.push((pick(rng, &["x_api_key", "x-api-keys", "x-api"]).to_owned(), credential(rng, setting, odd)));
    }
    for _ in 0..[0, 0, 0, 1, 1, 1, 1, 2][rng.usize(..8)] {
        let media_types = [
            "application/json",
            "APPLICATION/JSON; a=b",
            "application/json;charset=utf-8",
            "multipart/form-data; boundary=x",
            "text/plain",
            "",
            "application/json,text/plain",
            "none",
            "application/json ; a",
        ];
        headers.push(("content-type".to_owned(), pick(rng, &media_types).as_bytes().to_vec()));
    }
    if method == "OPTIONS" || rng.u8(..20) == 0 {
        if rng.u8(..5) > 0 {
            headers.push(("origin".to_owned(), b"https://app.example.com".to_vec()));
        }
        if rng.u8(..5) > 0 {
            let announced = pick(rng, &["GET", "POST", "DELETE", "PURGE", "get", "GET,POST", ""]);
            headers.push(("access-control-request-method".to_owned(), announced.as_bytes().to_vec()));
        }
    }
    if odd && rng.u8(..5) == 0 {
        let extra = [("x-api-key-id", "key_0"), ("x-forwarded-host", "internal.example.com"), ("x-original-url", "/a")];
        let (name, value) = extra[rng.usize(..extra.len())];
        headers.push((name.to_owned(), value.as_bytes().to_vec()));
    }
    let host = if odd { odd_host(rng) } else { pick(rng, PLAIN_HOSTS).as_bytes().to_vec() };
    Request { method: method.to_owned(), target, host, headers, http2: rng.u8(..4) == 0 }
}

/// A host of several spellings, or one that is not known to mean anything: a plain one with a piece put in.
fn odd_host(rng: &mut Rng) -> Vec<u8> {
    if rng.bool() {
        return pick(rng, ODD_HOSTS).as_bytes().to_vec();
    }
    let mut host = pick(rng, PLAIN_HOSTS).as_bytes().to_vec();
    let piece = pick(rng, HOST_ODDITIES);
    let at = [0, host.len(), rng.usize(0..=host.len())][rng.usize(..3)];
    host.splice(at..at, piece.bytes());
    host
}

const PLAIN_HOSTS: &[&str] =
    &["api.example.com", "api.example.com", "internal.example.com", "x.corp.example.com", "a.b", "10.0.0.1"];
const HOST_ODDITIES: &[&str] = &[
    ".",
    "..",
    ":",
    ":0",
    ":65535",
    ":123456",
    ":x",
    "@",
    "user@",
    ",",
    ",internal.example.com",
    "%2e",
    "%61",
    "_",
    "-",
    "é",
    "1",
    ".1",
    ".0x1",
    ".01",
    "[",
    "]",
    "~",
    "*",
    "*.",
    "+",
    "!",
    "0",
    ".0",
    "x",
    ".x",
    "..:1",
];
const ODD_HOSTS: &[&str] = &[
    "api.example.com",
    "api.example.com:443",
    "INTERNAL.example.com",
    "internal.example.com.",
    "internal.example.com.:80",
    "x.corp.example.com",
    "a.b.corp.example.com:1",
    "corp.example.com",
    "example.com",
    "xcorp.example.com",
    "XN--BCHER-KVA.example",
    "xn--bcher-kva.example.:8080",
    "10.0.0.1:80",
    "10.0.0.1.",
    "10.0.0.01",
    "10.0.1",
    "167772161",
    "0xa000001",
    "0xa.0.0.1",
    "012.0.0.1",
    "256.0.0.1",
    "10.0.0.1.2",
    "1.2.3.4.example.com",
    "10.0.0.1.example",
    "[2001:db8::1]",
    "[2001:db8::1]:443",
    "[2001:db8:0::1]",
    "[2001:0db8::1]",
    "[2001:db8:0:0:0:0:0:1]",
    "[2001:DB8::1]",
    "[2001:db8::1].",
    "[2001:db8::1%25eth0]",
    "[::ffff:10.0.0.1]",
    "[::ffff:a00:1]",
    "[::1]",
    "[::]",
    "[::1",
    "::1",
    "2001:db8::1",
    "[api.example.com]",
    "user@api.example.com",
    "api.example.com,internal.example.com",
    "api.example.com, internal.example.com",
    "api%2eexample%2ecom",
    "api..example.com",
    ".api.example.com",
    "",
    ".",
];

/// A path that a rule matches, or any other.
fn path(rng: &mut Rng, setting: &Setting) -> Vec<u8> {
    let mut path = Vec::new();
    if rng.u8(..4) > 0 {
        let rule = &setting.rules[rng.usize(..setting.rules.len())];
        for part in rule.path.split('/').skip(1) {
            match part {
                "" => path.push(b'/'),
                "**" => {
                    for _ in 0..rng.usize(..3) {
                        let segment = segment(rng, setting.paths);
                        push(rng, &mut path, segment);
                    }
                }
                _ if part.starts_with('{') => {
                    let end = part.split_once('}').map_or("", |(_, end)| end);
                    // An end alone is not enough, and a start that ends the same way is.
                    let start = if rng.u8(..8) == 0 { pick(rng, &["", end]) } else { segment(rng, setting.paths) };
                    let text = format!("{start}{end}");
                    push(rng, &mut path, &text);
                }
                _ => {
                    let rest = pick(rng, &["", "", "x", "b"]);
                    push(rng, &mut path, &part.replace('*', rest));
                }
            }
        }
    } else {
        for _ in 0..rng.usize(..4) {
            let segment = segment(rng, setting.paths);
            push(rng, &mut path, segment);
        }
    }
    if path.is_empty() {
        path.push(b'/');
    }
    if rng.u8(..12) == 0 {
        path.push(b'/');
    }
    path
}

/// Adds a segment, some of its bytes encoded.
fn push(rng: &mut Rng, path: &mut Vec<u8>, segment: &str) {
    path.push(b'/');
    let mut escape = 0;
    for (at, byte) in segment.bytes().enumerate() {
        if segment.as_bytes()[at..].starts_with(b"%2F") {
            escape = 3;
        }
        if escape > 0 {
            // A slash within a segment, which stays as it is.
            path.push(if rng.bool() { byte } else { byte.to_ascii_lowercase() });
            escape -= 1;
        } else if matches!(byte, b' ' | b'#' | b'?') || (byte != b'/' && rng.u8(..16) == 0) {
            path.extend(if rng.bool() { format!("%{byte:02x}") } else { format!("%{byte:02X}") }.bytes());
        } else {
            path.push(byte);
        }
    }
}

fn credential(rng: &mut Rng, setting: &Setting, odd: bool) -> Vec<u8> {
    if odd && rng.u8(..3) == 0 {
        let long = "k".repeat(rng.usize(500..520));
        let odd: [&[u8]; 9] =
            [b"", b"a b", b"\xff", b",", b"kw_nobody,kw_other", b"kw_nobody", b"a\tb", b"\"q\"", long.as_bytes()];
        return odd[rng.usize(..odd.len())].to_vec();
    }
    if rng.u8(..16) == 0 {
        return b"kw_nobody".to_vec();
    }
    setting.keys[rng.usize(..setting.keys.len())].text.clone().into_bytes()
}

fn carry(
    rng: &mut Rng,
    source: &Source,
    value: Vec<u8>,
    odd: bool,
    target: &mut Vec<u8>,
    headers: &mut Vec<(String, Vec<u8>)>,
) {
    match source {
        Source::Header(name) => headers.push((name.clone(), value)),
        Source::Scheme(name, scheme) => {
            let start = if odd {
                pick(rng, &["Bearer ", "bearer ", "BEARER ", "Basic ", "Bearer", "Bearer  "])
            } else {
                "Bearer "
            };
            let _ = scheme;
            headers.push((name.clone(), [start.as_bytes(), &value].concat()));
        }
        Source::Query(name) => {
            let separator = if target.contains(&b'?') { b'&' } else { b'?' };
            target.push(separator);
            let written = if odd { pick(rng, &["k", "k", "%6b", "K", "x", "k+"]) } else { name.as_str() };
            target.extend(written.bytes());
            if rng.u8(..16) > 0 {
                target.push(b'=');
                // What a target cannot carry plainly is encoded.
                for byte in value {
                    if byte.is_ascii_alphanumeric() || b"_-,\"".contains(&byte) {
                        target.push(byte);
                    } else {
                        target.extend(format!("%{byte:02x}").bytes());
                    }
                }
            }
            if odd && rng.u8(..8) == 0 {
                target.extend(b"&b=1;k=2");
            }
        }
        Source::Cookie(name) => {
            let written =
                if odd { pick(rng, &["k", "K", "a=1; k", "kk", "k=x; k", "a; k", " k"]) } else { name.as_str() };
            headers.push(("cookie".to_owned(), [written.as_bytes(), b"=", &value].concat()));
        }
    }
}

fn pick<'a>(rng: &mut Rng, of: &[&'a str]) -> &'a str {
    of[rng.usize(..of.len())]
}
