//! The decision as `docs/configuration.md` describes it, written from that page alone and without the product's code.
//!
//! It is slow and plain on purpose: no index, no table, one check after the other. Where the page and the product
//! disagree, one of them is wrong.

use crate::setting::{Access, Key, Paths, Request, Rule, Setting, Source, Verdict};

/// The decision for a request as the filter sees it.
pub fn decide(setting: &Setting, request: &Request) -> Verdict {
    let verdict = |code: &str| Verdict { code: code.to_owned(), key: None, missing: Vec::new() };
    let Some(path) = Path::read(&request.target, setting.paths) else { return verdict("path_ambiguous") };
    let names_hosts = setting.rules.iter().any(|rule| !rule.hosts.is_empty());
    let host = match host(&request.host) {
        Some(host) => host,
        None if names_hosts => return verdict("host_ambiguous"),
        None => String::new(),
    };
    let content_type = content_type(request);
    let rule = setting.rules.iter().find(|rule| {
        matches_method(rule, &request.method)
            && matches_host(rule, &host)
            && matches_path(&rule.path, &path)
            && matches_content_type(rule, &content_type)
    });
    let access = rule.map_or(&setting.unmatched, |rule| &rule.access);
    if *access == Access::Public || (setting.preflight_passes && preflight_may_pass(setting, request, &path, &host)) {
        return verdict("public");
    }
    let credentials = credentials(setting, request);
    let credential = match credentials.as_slice() {
        [] => return verdict("key_missing"),
        [one] if can_be_a_key(one) => one,
        _ => return verdict("key_malformed"),
    };
    let Some(key) = setting.keys.iter().find(|key| key.text.as_bytes() == credential) else {
        return verdict("key_unknown");
    };
    let (code, missing) = with_key(access, key);
    Verdict { code: code.to_owned(), key: Some(key.id.clone()), missing }
}

fn with_key(access: &Access, key: &Key) -> (&'static str, Vec<String>) {
    if key.disabled {
        return ("key_disabled", Vec::new());
    }
    if key.expired {
        return ("key_expired", Vec::new());
    }
    match access {
        Access::Deny => ("route_denied", Vec::new()),
        Access::Public | Access::Authenticated => ("allowed", Vec::new()),
        Access::Require(required) => {
            let missing: Vec<String> =
                required.iter().filter(|name| !key.permissions.contains(name)).cloned().collect();
            if missing.is_empty() { ("allowed", missing) } else { ("permission_missing", missing) }
        }
    }
}

/// A path that has one reading.
struct Path {
    /// Decoded.
    segments: Vec<String>,
    ends_in_slash: bool,
}

impl Path {
    fn read(target: &[u8], paths: Paths) -> Option<Self> {
        let raw = target.split(|byte| *byte == b'?').next()?;
        let inner = raw.strip_prefix(b"/")?;
        if raw.contains(&b'#') {
            return None;
        }
        if inner.is_empty() {
            return Some(Self { segments: Vec::new(), ends_in_slash: false });
        }
        let mut pieces: Vec<&[u8]> = inner.split(|byte| *byte == b'/').collect();
        let ends_in_slash = pieces.last().is_some_and(|last| last.is_empty());
        if ends_in_slash {
            pieces.pop();
        }
        let segments = pieces.into_iter().map(|piece| segment(piece, paths)).collect::<Option<Vec<String>>>()?;
        Some(Self { segments, ends_in_slash })
    }
}

/// A segment, decoded once. `None` means that it has more than one reading.
fn segment(raw: &[u8], paths: Paths) -> Option<String> {
    let mut decoded = Vec::new();
    let mut rest = raw;
    while let Some((first, after)) = rest.split_first() {
        let (byte, encoded) = if *first == b'%' {
            let digits = after.get(..2)?;
            if !digits.iter().all(u8::is_ascii_hexdigit) {
                return None;
            }
            rest = &after[2..];
            (u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?, true)
        } else {
            rest = after;
            (*first, false)
        };
        match byte {
            b'/' if !paths.slash_is_in_a_segment => return None,
            b';' if !paths.semicolon_is_literal => return None,
            b'?' | b'#' if encoded && !paths.delimiters_are_literal => return None,
            b'\\' => return None,
            0..=0x1f | 0x7f => return None,
            _ => decoded.push(byte),
        }
    }
    let decoded = String::from_utf8(decoded).ok()?;
    // A slash in it was an encoded one.
    if decoded.split('/').any(|part| matches!(part, "" | "." | "..")) || holds_an_escape(&decoded) {
        return None;
    }
    Some(decoded)
}

fn holds_an_escape(decoded: &str) -> bool {
    decoded
        .as_bytes()
        .windows(3)
        .any(|three| three[0] == b'%' && three[1].is_ascii_hexdigit() && three[2].is_ascii_hexdigit())
}

fn matches_path(pattern: &str, path: &Path) -> bool {
    let mut parts: Vec<&str> = pattern.trim_start_matches('/').split('/').collect();
    let open_ended = parts.last() == Some(&"**");
    let pattern_ends_in_slash = pattern != "/" && parts.last() == Some(&"");
    if open_ended || parts.last() == Some(&"") {
        parts.pop();
    }
    if !open_ended && pattern_ends_in_slash != path.ends_in_slash {
        return false;
    }
    if path.segments.len() < parts.len() || (!open_ended && path.segments.len() != parts.len()) {
        return false;
    }
    parts.iter().zip(&path.segments).all(|(part, segment)| matches_segment(part, segment))
}

fn matches_segment(part: &str, segment: &str) -> bool {
    // A pattern writes a slash within a segment as `%2F`.
    let part = &part.replace("%2F", "/");
    if let Some(variable) = part.strip_prefix('{') {
        let (_, end) = variable.split_once('}').expect("a variable ends");
        return segment.len() > end.len() && segment.ends_with(end);
    }
    match part.strip_suffix('*') {
        Some(start) => segment.starts_with(start),
        None => segment == part,
    }
}

fn matches_method(rule: &Rule, method: &str) -> bool {
    rule.methods.is_empty() || rule.methods.iter().any(|listed| listed == method)
}

/// A host in the form in which it is compared. `None` means that it has more than one reading.
fn host(raw: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(raw).ok()?.to_ascii_lowercase();
    let bracket = text.rfind(']').unwrap_or(0);
    let (name, port) = match text.rfind(':').filter(|colon| *colon >= bracket) {
        Some(colon) => (&text[..colon], Some(&text[colon + 1..])),
        None => (&*text, None),
    };
    if port.is_some_and(|port| !(1..=5).contains(&port.len()) || !port.bytes().all(|byte| byte.is_ascii_digit())) {
        return None;
    }
    if let Some(address) = name.strip_prefix('[') {
        let address = address.strip_suffix(']')?;
        let usual = address.parse::<std::net::Ipv6Addr>().ok()?.to_string();
        return (usual == address && !usual.contains('.')).then(|| name.to_owned());
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    let labels: Vec<&str> = name.split('.').collect();
    let is_plain = |label: &str| {
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    if !labels.iter().all(|label| is_plain(label)) {
        return None;
    }
    let last = labels.last()?;
    let is_decimal = last.bytes().all(|byte| byte.is_ascii_digit());
    let is_hex = last.strip_prefix("0x").is_some_and(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()));
    if is_decimal || is_hex {
        let usual = name.parse::<std::net::Ipv4Addr>().ok()?.to_string();
        return (usual == name).then_some(usual);
    }
    Some(name.to_owned())
}

fn matches_host(rule: &Rule, host: &str) -> bool {
    rule.hosts.is_empty()
        || rule.hosts.iter().any(|listed| match listed.strip_prefix("*.") {
            Some(domain) => host.strip_suffix(domain).is_some_and(|labels| labels.len() > 1 && labels.ends_with('.')),
            None => listed == host,
        })
}

/// The values of the `content-type` headers.
fn content_type(request: &Request) -> Vec<String> {
    values(request, "content-type").map(|value| String::from_utf8_lossy(value).into_owned()).collect()
}

fn matches_content_type(rule: &Rule, given: &[String]) -> bool {
    if rule.content_types.is_empty() {
        return true;
    }
    match given {
        [] => rule.content_types.iter().any(|listed| listed == "none"),
        [one] if !one.contains(',') => {
            let media_type = one.split(';').next().unwrap_or_default().trim();
            rule.content_types.iter().any(|listed| listed != "none" && listed.eq_ignore_ascii_case(media_type))
        }
        _ => false,
    }
}

/// Whether a rule could allow the request that this preflight announces. Its content type is not known yet.
fn preflight_may_pass(setting: &Setting, request: &Request, path: &Path, host: &str) -> bool {
    let announced: Vec<&[u8]> = values(request, "access-control-request-method").collect();
    let ([announced], true) = (announced.as_slice(), values(request, "origin").next().is_some()) else { return false };
    if request.method != "OPTIONS" {
        return false;
    }
    let Ok(announced) = std::str::from_utf8(announced) else { return false };
    if announced.is_empty()
        || !announced.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
    {
        return false;
    }
    for rule in &setting.rules {
        if !(matches_method(rule, announced) && matches_host(rule, host) && matches_path(&rule.path, path)) {
            continue;
        }
        match (&rule.access, rule.content_types.is_empty()) {
            (Access::Deny, true) => return false,
            (Access::Deny, false) => {}
            _ => return true,
        }
    }
    false
}

fn values<'r>(request: &'r Request, name: &'r str) -> impl Iterator<Item = &'r [u8]> {
    request.headers.iter().filter(move |(have, _)| have.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim_ascii())
}

/// Every credential that the request carries.
fn credentials(setting: &Setting, request: &Request) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    for source in &setting.sources {
        match source {
            Source::Header(name) => found.extend(values(request, name).map(<[u8]>::to_vec)),
            Source::Scheme(name, scheme) => {
                found.extend(values(request, name).filter_map(|value| after_scheme(value, scheme)));
            }
            Source::Query(name) => {
                let query = request.target.splitn(2, |byte| *byte == b'?').nth(1).unwrap_or_default();
                for pair in query.split(|byte| *byte == b'&') {
                    let mut halves = pair.splitn(2, |byte| *byte == b'=');
                    if form_decoded(halves.next().unwrap_or_default()) == name.as_bytes() {
                        found.push(form_decoded(halves.next().unwrap_or_default()));
                    }
                }
            }
            Source::Cookie(name) => {
                let pairs = values(request, "cookie").flat_map(|value| value.split(|byte| *byte == b';'));
                for pair in pairs {
                    let mut halves = pair.trim_ascii().splitn(2, |byte| *byte == b'=');
                    if halves.next() == Some(name.as_bytes())
                        && let Some(value) = halves.next()
                    {
                        found.push(value.to_vec());
                    }
                }
            }
        }
    }
    found
}

fn after_scheme(value: &[u8], scheme: &str) -> Option<Vec<u8>> {
    let word = value.get(..scheme.len())?;
    if !word.eq_ignore_ascii_case(scheme.as_bytes()) {
        return None;
    }
    match &value[scheme.len()..] {
        [] => Some(Vec::new()),
        [b' ', key @ ..] => Some(key.trim_ascii_start().to_vec()),
        _ => None,
    }
}

/// `application/x-www-form-urlencoded`: `+` is a space, and `%` without two hex digits is itself.
fn form_decoded(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let digits = text.get(at + 1..at + 3).filter(|two| two.iter().all(u8::is_ascii_hexdigit));
        match (text[at], digits) {
            (b'%', Some(digits)) => {
                let digits = std::str::from_utf8(digits).expect("hex digits are text");
                out.push(u8::from_str_radix(digits, 16).expect("two hex digits are a byte"));
                at += 3;
            }
            (b'+', _) => {
                out.push(b' ');
                at += 1;
            }
            (byte, _) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    out
}

fn can_be_a_key(credential: &[u8]) -> bool {
    (1..=512).contains(&credential.len()) && credential.iter().all(|byte| (0x21..=0x7e).contains(byte) && *byte != b',')
}
