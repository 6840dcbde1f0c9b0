//! The configurations and the routes of the fuzz target `hooks`.

use super::service::secret;
use super::stand_in::Namespace;
use keyward_policy::digest::Digest;

const RULES: &str = r#""rules":[{"path":"/public","access":"public"},{"path":"/a","access":"authenticated"},
    {"path":"/b","require":["b:write"]}],"readiness_path":"/ready""#;

/// What a configuration asks for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wanted {
    pub service: Option<usize>,
    pub has_inline_keys: bool,
    pub shadow: bool,
    pub route_metadata: bool,
    pub hides_key: bool,
    /// Whether it takes its token from a secret, and there was none yet: then it serves no fetched keys.
    pub lacks_token: bool,
}

/// Returns a configuration as text. Without [`Wanted`] it is one that is refused.
pub fn configuration(kind: u8) -> (String, Option<Wanted>) {
    let digest = Digest::of_key(secret(0).as_bytes()).to_hex();
    let inline = |when: &str| {
        format!(r#""manifest":{{"use":"{when}","keys":[{{"id":"own","sha256":"{digest}","permissions":[]}}]}},"#)
    };
    let admin = |number: usize, wait: &str| {
        let token = r#""token":"kwt_edge","max_staleness":"1h""#;
        format!(r#""admin":{{"cluster":"c{number}",{token}}},"startup_wait":"{wait}","#)
    };
    let by_secret =
        r#""admin":{"cluster":"c0","token_secret":{"name":"edge","sds_config":{"ads":{}}}},"startup_wait":"1s","#;
    let fetching = |number| Wanted { service: Some(number), hides_key: true, ..Wanted::default() };
    let (text, wanted) = match kind % 10 {
        0 => (admin(0, "30s"), fetching(0)),
        1 => (admin(0, "30s") + &inline("always"), Wanted { has_inline_keys: true, ..fetching(0) }),
        2 => (inline("always"), Wanted { has_inline_keys: true, hides_key: true, ..Wanted::default() }),
        4 => (admin(1, "0s"), fetching(1)),
        5 => (by_secret.to_owned(), Wanted { lacks_token: true, ..fetching(0) }),
        6 => (
            admin(0, "1s") + &inline("fallback") + r#""mode":"shadow","#,
            Wanted { has_inline_keys: true, shadow: true, ..fetching(0) },
        ),
        7 => (
            admin(1, "30s") + &inline("fallback") + r#""route_metadata":true,"#,
            Wanted { has_inline_keys: true, route_metadata: true, ..fetching(1) },
        ),
        8 => (
            admin(1, "1ms") + r#""route_metadata":true,"hide_key":false,"#,
            Wanted { route_metadata: true, hides_key: false, ..fetching(1) },
        ),
        _ => return (format!("{{{RULES}"), None),
    };
    (format!("{{{text}{RULES}}}"), Some(wanted))
}

/// The metadata of a route, and whether it makes the route public.
pub fn metadata(variant: u8) -> (Vec<Namespace>, bool) {
    let text = |text: &str| text.as_bytes().to_vec();
    let field = |name, value| vec![(text(name), Some(text(value)))];
    let fields = match variant % 10 {
        0 => return (Vec::new(), false),
        1 => return (vec![(text("other"), field("access", "public"))], false),
        2 => field("access", "public"),
        3 => field("require", "a:read"),
        4 => field("require", "b:write"),
        5 => Vec::new(),
        6 => [field("access", "public"), field("require", "a:read")].concat(),
        7 => vec![(text("access"), None)],
        8 => vec![(text("access"), Some(vec![0xff]))],
        _ => field("access", "everybody"),
    };
    (vec![(text("keyward"), fields)], variant % 10 == 2)
}
