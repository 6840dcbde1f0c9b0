//! Every field, both encodings, every mistake.

use super::*;
use crate::digest::Digest;
use std::fmt::Write as _;

const KEYS: &str = r#""manifest":{"keys":[]}"#;

#[track_caller]
fn good(text: &str) -> Config {
    let config = Config::parse(text.as_bytes()).unwrap_or_else(|errors| panic!("{text}\n{errors}"));
    let json = json::parse(text.as_bytes()).unwrap();
    let from_struct = Config::parse(&protobuf::encode(&json)).unwrap();
    assert_eq!(format!("{config:?}"), format!("{from_struct:?}"), "the two encodings differ");
    config
}

/// The problems, one a line, without the help.
fn problems(text: &str) -> String {
    let errors = Config::parse(text.as_bytes()).expect_err(text);
    let mut out = String::new();
    for problem in errors.problems() {
        assert!(!problem.help.is_empty() && !problem.message.ends_with('.'), "{problem}");
        writeln!(out, "{}: {}", problem.path, problem.message).unwrap();
    }
    out
}

#[track_caller]
fn bad(text: &str, expect: &[&str]) {
    let got = problems(text);
    assert_eq!(got.lines().collect::<Vec<_>>(), expect, "{text}");
}

/// A configuration with one field more.
#[track_caller]
fn bad_field(field: &str, expect: &str) {
    bad(&format!("{{{KEYS},{field}}}"), &[expect]);
}

#[track_caller]
fn bad_rule(rule: &str, expect: &str) {
    bad_field(&format!(r#""rules":[{{{rule}}}]"#), expect);
}

#[test]
fn the_defaults_are_the_documented_ones() {
    let config = good(&format!("{{{KEYS}}}"));
    assert_eq!(&*config.realm, "default");
    assert_eq!(config.key_sources, [KeySource::Header { name: "x-api-key".into(), scheme: None }]);
    assert_eq!(config.unmatched, Unmatched::Deny);
    assert!(!config.route_metadata && config.hide_key && config.admin.is_none() && config.readiness_path.is_none());
    assert_eq!(config.identity_headers.id.as_deref(), Some("x-api-key-id"));
    assert_eq!(config.identity_headers.name.as_deref(), Some("x-api-key-name"));
    assert_eq!(config.cors_preflight, CorsPreflight::Deny);
    assert_eq!(config.startup_wait, Duration::from_secs(2));
    assert_eq!(config.mode, Mode::Enforce);
    assert_eq!(config.manifest.unwrap().when, Use::Always);
}

#[test]
fn every_field_is_read() {
    let sha256 = Digest::of_key(b"k").to_hex();
    let config = good(&format!(
        r#"{{"realm":"databases",
            "key_sources":[{{"header":"X-Api-Key"}},{{"header":"authorization","scheme":"Bearer"}},{{"query":"api_key"}},{{"cookie":"api_key"}}],
            "manifest":{{"use":"always","keys":[{{"id":"key_01","name":"CI Bot","sha256":"{sha256}","permissions":["records:read"],"expires_at":"2027-01-01T00:00:00Z","disabled":false}}]}},
            "admin":{{"cluster":"keyward_admin","authority":"keyward.internal","token":"t0ken","store":"st_9f","max_staleness":"15m"}},
            "rules":[{{"methods":["GET","HEAD"],"hosts":["*.example.com"],"path":"/api/{{c}}","content_type":["application/json","none"],"require":["records:read","records:read"]}},
                     {{"path":"/health","access":"public"}}],
            "unmatched":"authenticated","route_metadata":true,"identity_headers":{{"id":"X-Key","name":null}},
            "hide_key":false,"cors_preflight":"pass","startup_wait":"250ms","readiness_path":"/keyward/ready","mode":"shadow"}}"#
    ));
    assert_eq!(config.key_sources.len(), 4);
    let manifest = config.manifest.as_ref().unwrap();
    let key = manifest.keys.get(&Digest::of_key(b"k")).unwrap();
    assert_eq!((manifest.when, key.name, key.disabled), (Use::Always, "CI Bot", false));
    assert!(key.permissions.contains("records:read"));
    let admin = config.admin.as_ref().unwrap();
    assert_eq!((&*admin.authority, admin.max_staleness), ("keyward.internal", Some(Duration::from_secs(900))));
    assert_eq!(config.routes.rules()[0].access, Access::Require(["records:read".into()].into()));
    assert_eq!(config.identity_headers, IdentityHeaders { id: Some("x-key".into()), name: None });
    assert_eq!((config.unmatched, config.mode), (Unmatched::Authenticated, Mode::Shadow));
    assert!(!format!("{config:?}").contains("t0ken"));
}

#[test]
fn defaults_that_depend_on_the_admin_service() {
    let config = good(&format!(r#"{{{KEYS},"admin":{{"cluster":"c"}}}}"#));
    assert_eq!(config.manifest.unwrap().when, Use::Fallback);
    let admin = config.admin.unwrap();
    assert_eq!((&*admin.authority, admin.max_staleness), ("c", Some(Duration::from_secs(3600))));
    let config = good(r#"{"admin":{"cluster":"c","token_env":"KEYWARD_EDGE_TOKEN"}}"#);
    assert_eq!(config.admin.unwrap().token_env.as_deref(), Some("KEYWARD_EDGE_TOKEN"));
    let secret = |fields: &str| {
        let config = good(&format!(r#"{{"admin":{{"cluster":"c","token_secret":{{"name":"edge"{fields}}}}}}}"#));
        config.admin.unwrap().token_secret.unwrap()
    };
    let source = r#"{"path_config_source":{"path":"/a \"b\"\n","watched_directory":null},"x":[true,"ж",[]],"y":{}}"#;
    assert_eq!(secret("").sds_config(), "");
    let of_a_file = secret(&format!(r#","sds_config":{source}"#));
    assert_eq!((&*of_a_file.name, of_a_file.sds_config().as_str()), ("edge", source));
    let config = good(r#"{"admin":{"cluster":"c","max_staleness":"never"}}"#);
    assert_eq!(config.admin.unwrap().max_staleness, None);
    let config = good(&format!(r#"{{{KEYS},"identity_headers":null}}"#));
    assert_eq!(config.identity_headers, IdentityHeaders { id: None, name: None });
}

#[test]
fn keys_have_to_come_from_somewhere_unless_all_is_public() {
    bad(
        r#"{"rules":[]}"#.replace("[]", r#"[{"path":"/","access":"deny"}]"#).as_str(),
        &[": there are no keys: neither `manifest` nor `admin`"],
    );
    good(r#"{"rules":[{"path":"/**","access":"public"}]}"#);
    bad(
        r#"{"rules":[{"path":"/**","access":"public"}],"unmatched":"authenticated"}"#,
        &[": there are no keys: neither `manifest` nor `admin`"],
    );
}

#[test]
fn every_mistake_is_named_at_once() {
    bad(
        r#"{"mode":"strict","rulez":[],"rules":[{"path":"/a","require":[]},{"path":"b","access":"public"},{"require":["x"]},7],
            "manifest":{"keys":[{"id":"a","name":"n","sha256":"zz"},{"id":"a","name":"n","sha256":"zz","extra":1}]},"hide_key":"yes"}"#,
        &[
            "hide_key: expected true or false, found a string",
            "manifest.keys[0].sha256: not 64 hex digits (length 2)",
            "manifest.keys[1].extra: unknown field",
            "manifest.keys[1].id: `a` is given twice",
            "manifest.keys[1].sha256: not 64 hex digits (length 2)",
            "mode: unknown value `strict`",
            "rules[0].require: the list is empty",
            "rules[1].path: `b`: the path pattern has no leading slash",
            "rules[2]: field `path` is missing",
            "rules[3]: expected an object, found a number",
            "rulez: unknown field",
        ],
    );
}

#[test]
fn rules_are_read_strictly() {
    bad_rule(r#""path":"/a""#, "rules[0]: the rule asks for nothing");
    bad_rule(r#""path":"/a","access":"public","require":["a"]"#, "rules[0]: `require` and `access` exclude each other");
    bad_rule(r#""path":"/a","access":"open""#, "rules[0].access: unknown value `open`");
    bad_rule(r#""path":"/a","require":["a,b"]"#, "rules[0].require[0]: `a,b` is not a permission name");
    bad_rule(r#""path":"/a","require":"a""#, "rules[0].require: expected a list, found a string");
    bad_rule(r#""path":"/a","access":"deny","methods":["get"]"#, "rules[0].methods[0]: `get` is not in upper case");
    bad_rule(r#""path":"/a","access":"deny","methods":[]"#, "rules[0].methods: the list is empty");
    bad_rule(
        r#""path":"/a","access":"deny","hosts":["a:80"]"#,
        "rules[0].hosts[0]: `a:80`: not a host like `api.example.com` or `*.example.com`",
    );
    bad_rule(
        r#""path":"/a","access":"deny","content_type":["json"]"#,
        "rules[0].content_type[0]: `json` is not a media type",
    );
    bad_rule(r#""path":"/a/*","access":"deny""#, "rules[0].path: `/a/*`: a `*` stands where it has no meaning");
    bad_rule(r#""path":"/a","access":"deny","method":"GET""#, "rules[0].method: unknown field");
}

#[test]
fn the_other_fields_are_read_strictly() {
    bad_field(r#""realm":"a\"b""#, "realm: not a realm");
    bad_field(r#""realm":7"#, "realm: expected a string, found a number");
    bad_field(r#""key_sources":[]"#, "key_sources: the list is empty");
    bad_field(r#""key_sources":[{}]"#, "key_sources[0]: a source is exactly one of `header`, `query` and `cookie`");
    bad_field(
        r#""key_sources":[{"header":"a","query":"b"}]"#,
        "key_sources[0]: a source is exactly one of `header`, `query` and `cookie`",
    );
    bad_field(r#""key_sources":[{"header":"a b"}]"#, "key_sources[0].header: `a b` is not a header name");
    bad_field(r#""key_sources":[{"header":"cookie"}]"#, "key_sources[0].header: `cookie` already has a meaning");
    bad_field(
        r#""key_sources":[{"query":"q","scheme":"Bearer"}]"#,
        "key_sources[0].scheme: only a header has a scheme",
    );
    bad_field(
        r#""key_sources":[{"header":"A"},{"header":"a","scheme":"Bearer"}]"#,
        "key_sources[1]: the same source as an earlier one",
    );
    bad_field(r#""unmatched":"allow""#, "unmatched: unknown value `allow`");
    bad_field(r#""identity_headers":{"id":"x-api-key"}"#, "identity_headers.id: `x-api-key` is also a key source");
    bad_field(r#""identity_headers":{"id":"Host"}"#, "identity_headers.id: `host` already has a meaning");
    bad_field(r#""identity_headers":{"id":"x-a","name":"X-A"}"#, "identity_headers.name: the same header as `id`");
    bad_field(r#""startup_wait":"2""#, "startup_wait: `2` is not a duration");
    bad_field(r#""startup_wait":"2m""#, "startup_wait: longer than 1m");
    bad_field(r#""readiness_path":"ready""#, "readiness_path: `ready` is not a plain path");
    bad_field(r#""readiness_path":"/a?b""#, "readiness_path: `/a?b` is not a plain path");
    bad_field(r#""admin":{}"#, "admin: field `cluster` is missing");
    bad_field(r#""admin":{"cluster":"c","max_staleness":"2s"}"#, "admin.max_staleness: shorter than 3s");
    bad_field(r#""admin":{"cluster":"c","token":"a b"}"#, "admin.token: not a token");
    for name in ["", "A-B", "A=B", "1A", "Ä"] {
        let admin = format!(r#""admin":{{"cluster":"c","token_env":"{name}"}}"#);
        bad_field(&admin, "admin.token_env: not the name of an environment variable");
    }
    let both = r#""admin":{"cluster":"c","token":"t","token_env":"KEYWARD_EDGE_TOKEN"}"#;
    bad_field(both, "admin.token_env: is given beside `token`");
    let secret = |more: &str| format!(r#""admin":{{"cluster":"c","token_secret":{more}}}"#);
    bad_field(&secret("\"edge\""), "admin.token_secret: expected an object, found a string");
    bad_field(&secret("{}"), "admin.token_secret: field `name` is missing");
    bad_field(&secret(r#"{"name":""}"#), "admin.token_secret.name: not 1 to 512 visible ASCII characters");
    bad_field(&secret(r#"{"name":"s","file":"x"}"#), "admin.token_secret.file: unknown field");
    bad_field(
        &secret(r#"{"name":"s","sds_config":"x"}"#),
        "admin.token_secret.sds_config: expected an object, found a string",
    );
    bad_field(
        &secret(r#"{"name":"s","sds_config":{"a":[{"b":5}]}}"#),
        "admin.token_secret.sds_config: a number, which is not kept",
    );
    bad_field(&secret(r#"{"name":"s"},"token":"t""#), "admin.token_secret: is given beside `token`");
    bad_field(&secret(r#"{"name":"s"},"token_env":"T""#), "admin.token_secret: is given beside `token_env`");
    bad_field(r#""mode":"enforce","mode":"shadow""#, "mode: the field is given twice");
    bad(r#"{"manifest":{}}"#, &["manifest: field `keys` is missing"]);
    bad(r#"{"manifest":{"keys":[],"use":"never"}}"#, &["manifest.use: unknown value `never`"]);
}

#[test]
fn keys_of_the_configuration_are_read_strictly() {
    let sha = Digest::of_key(b"k").to_hex();
    let keys = |keys: &str| format!(r#"{{"manifest":{{"keys":[{keys}]}}}}"#);
    bad(
        &keys(&format!(r#"{{"id":"a","sha256":"{sha}"}},{{"id":"b","sha256":"{}"}}"#, sha.to_uppercase())),
        &["manifest.keys[1].sha256: an earlier key has the same digest"],
    );
    bad(
        &keys(&format!(r#"{{"id":"a","name":"a\nb","sha256":"{sha}"}}"#)),
        &["manifest.keys[0].name: not 1 to 100 characters without control characters"],
    );
    bad(
        &keys(&format!(r#"{{"id":"a","sha256":"{sha}","expires_at":"tomorrow"}}"#)),
        &["manifest.keys[0].expires_at: not an RFC 3339 time"],
    );
    bad(
        &keys(r#"{"name":"a"}"#),
        &["manifest.keys[0]: field `id` is missing", "manifest.keys[0]: field `sha256` is missing"],
    );
    assert!(!problems(&keys(&format!(r#"{{"id":"a","sha256":"{sha}0"}}"#))).contains(&sha), "a digest is never echoed");
    // A name is what people read, so the id serves where there is none; no permissions grant nothing.
    let config = good(&keys(&format!(r#"{{"id":"a","sha256":"{sha}","expires_at":null}}"#)));
    let manifest = config.manifest.unwrap();
    let key = manifest.keys.get(&Digest::of_key(b"k")).unwrap();
    assert_eq!((key.name, key.permissions.len(), key.expires_at), ("a", 0, None));
}

#[test]
fn what_is_no_configuration_says_so() {
    bad("", &[": there is no configuration"]);
    bad("[]", &[": expected an object, found a list"]);
    for text in ["{", "\n{\"a\":1", "realm: x", "\u{1}\u{2}"] {
        assert!(problems(text).starts_with(": neither JSON nor a google.protobuf.Struct: "), "{text}");
    }
    assert!(problems(&" ".repeat(MAX_CONFIG_BYTES + 1)).contains("at most 8388608 are read"));
}

#[test]
fn a_serialized_struct_is_never_taken_for_json() {
    // The first entry's length is chosen so that the second byte is each possible one.
    for length in 1..127_usize {
        let json = Json::Object(vec![
            ("realm".into(), Json::String("r".repeat(length))),
            ("manifest".into(), Json::Object(vec![("keys".into(), Json::Array(vec![]))])),
        ]);
        let outcome = Config::parse(&protobuf::encode(&json));
        assert_eq!(outcome.is_ok(), length <= 100, "{length}");
    }
}

#[test]
fn what_is_wrong_throughout_is_reported_in_part() {
    let unknown: Vec<String> = (0..40_000).map(|n| format!(r#""f{n}":1"#)).collect();
    bad(&format!("{{{KEYS},{}}}", unknown.join(",")), &[": 40001 fields, and at most 64 are read"]);
    let rule = r#"{"path":"a","access":"deny"}"#;
    let got = problems(&format!(r#"{{{KEYS},"rules":[{}]}}"#, vec![rule; 9_000].join(",")));
    assert_eq!(got.lines().count(), MAX_PROBLEMS + 1);
    assert!(got.ends_with(": mistakes that are not listed: 8900\n"), "{got}");
    let long = "x".repeat(1 << 20);
    for text in
        [format!(r#"{{{KEYS},"{long}":1}}"#), format!(r#"{{{KEYS},"mode":"{long}","rules":[{{"path":"{long}"}}]}}"#)]
    {
        assert!(problems(&text).len() < 5_000);
    }
}

/// Rules with so many segments each, all of them different.
fn rules(count: usize, segments: usize) -> String {
    let path = |n: usize| (0..segments).map(|at| format!("/s{n}x{at}")).collect::<String>();
    let rules: Vec<String> = (0..count).map(|n| format!(r#"{{"path":"{}","require":["a"]}}"#, path(n))).collect();
    format!(r#"{{{KEYS},"rules":[{}]}}"#, rules.join(","))
}

#[test]
fn rules_have_a_limit_of_number_and_of_memory() {
    assert_eq!(good_alone(&rules(MAX_RULES, 4)).routes.rules().len(), MAX_RULES);
    bad(&rules(MAX_RULES + 1, 1), &["rules: 10001 rules, and at most 10000 are read"]);
    let errors = problems(&rules(3_000, 63));
    assert!(errors.starts_with("rules: compiled, the rules take ") && errors.lines().count() == 1, "{errors}");
    bad(
        &format!(r#"{{{KEYS},"rules":[{{"path":"/a","require":[{}]}}]}}"#, vec![r#""a""#; 101].join(",")),
        &["rules[0].require: 101 permissions, and at most 100 are allowed"],
    );
}

#[track_caller]
fn good_alone(text: &str) -> Config {
    Config::parse(text.as_bytes()).unwrap_or_else(|errors| panic!("{errors}"))
}

#[test]
fn inline_keys_have_a_limit_of_memory() {
    let key =
        |n: usize| format!(r#"{{"id":"key number {n}","sha256":"{}"}}"#, Digest::of_key(&n.to_le_bytes()).to_hex());
    let keys =
        |count: usize| format!(r#"{{"manifest":{{"keys":[{}]}}}}"#, (0..count).map(key).collect::<Vec<_>>().join(","));
    assert_eq!(good_alone(&keys(20_000)).manifest.unwrap().keys.len(), 20_000);
    let got = problems(&keys(70_000));
    assert!(got.contains("with this key the keys take over 8388608 bytes") && got.lines().count() == 1, "{got}");
    let many = format!(
        r#"{{"manifest":{{"keys":[{{"id":"a","sha256":"{}","permissions":[{}]}}]}}}}"#,
        Digest::of_key(b"k").to_hex(),
        (0..300).map(|n| format!(r#""p{n}""#)).collect::<Vec<_>>().join(",")
    );
    bad(&many, &["manifest.keys[0].permissions: has more than 256 entries"]);
}

#[test]
fn equal_parts_are_shared_and_others_are_not() {
    let sha256 = Digest::of_key(b"k").to_hex();
    let config = |realm: &str, path: &str, name: &str| {
        good_alone(&format!(
            r#"{{"realm":"{realm}","manifest":{{"keys":[{{"id":"a","name":"{name}","sha256":"{sha256}"}}]}},"rules":[{{"path":"{path}","access":"deny"}}]}}"#
        ))
    };
    let first = config("one", "/a", "n");
    for (realm, path, name) in [("two", "/a", "n"), ("one", "/b", "n"), ("one", "/a", "m")] {
        let mut next = config(realm, path, name);
        next.share_with(&first);
        assert_eq!(Arc::ptr_eq(&next.routes, &first.routes), path == "/a");
        let keys = |config: &Config| Arc::clone(&config.manifest.as_ref().unwrap().keys);
        assert_eq!(Arc::ptr_eq(&keys(&next), &keys(&first)), name == "n");
        assert_eq!(&*next.realm, realm);
    }
}

#[test]
fn paths_are_read_as_the_upstream_does() {
    let config = good(&format!(
        r#"{{{KEYS},"paths":{{"encoded_slash":"segment","semicolon":"literal","encoded_delimiters":"literal"}},
            "rules":[{{"path":"/a%2fb;c#d","access":"deny"}},{{"path":"/v1/{{name}}:cancel","access":"public"}}]}}"#
    ));
    let all =
        PathSettings { encoded_slash_in_segment: true, literal_semicolon: true, literal_encoded_delimiters: true };
    assert_eq!(config.paths, all);
    assert_eq!(good(&format!(r#"{{{KEYS},"paths":{{"semicolon":"refuse"}}}}"#)).paths, PathSettings::default());
    bad_field(r#""paths":{"encoded_slash":"literal"}"#, "paths.encoded_slash: unknown value `literal`");
    bad_field(r#""paths":{"slash":"segment"}"#, "paths.slash: unknown field");
    bad_rule(
        r#""path":"/a;b","access":"deny""#,
        "rules[0].path: `/a;b`: the path pattern has a semicolon, so it would never match",
    );
}

#[test]
fn near_misses_are_suggested() {
    let errors = Config::parse(format!(r#"{{{KEYS},"route_metdata":true}}"#).as_bytes()).unwrap_err();
    assert_eq!(errors.to_string(), "route_metdata: unknown field (help: did you mean `route_metadata`?)");
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
        let _ = Config::parse(&bytes);
    }

    #[test]
    fn any_json_of_our_words_is_read_without_a_panic(text in "\\{(\"(rules|admin|manifest|realm|mode|path|keys)\":(\\[\\{|\\{|\"x\"|null|\\[\\]|1),?){0,6}[\\]}]{0,6}") {
        let _ = Config::parse(text.as_bytes());
    }
}
