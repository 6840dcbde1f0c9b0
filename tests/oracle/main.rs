//! An independent oracle: generated requests through a real Envoy, against a slow reference decision that was written
//! from `docs/configuration.md` without the product's code.
//!
//! The test command asks until 20,000 requests are decided. `cargo xtask oracle --requests N --seed S` asks as many as
//! wanted, and repeats a run. A disagreement is made as small as possible before it is printed.

mod generate;
mod proxy;
mod reference;
mod setting;
mod soak;

use fastrand::Rng;
use proxy::{Client, Outcome, Proxy};
use setting::{Access, Request, Setting};
use std::collections::{BTreeMap, BTreeSet};

const REQUESTS: usize = 20_000;
/// Configurations in one Envoy, and requests to each that the filter decides.
const SETTINGS: usize = 8;
const REQUESTS_OF_A_SETTING: usize = 1_250;
/// Envoy refuses some requests itself, and more of them where the rules' paths have characters that HTTP does not allow.
const MOST_ASKED: usize = 20 * REQUESTS_OF_A_SETTING;

#[derive(Default)]
struct Counts {
    codes: BTreeMap<String, usize>,
    refused_by_envoy: usize,
}

/// A request that was decided otherwise than the page says.
struct Disagreement {
    setting: Setting,
    request: Request,
    outcome: Outcome,
}

#[test]
fn the_filter_decides_as_the_documentation_says() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seed = number("KEYWARD_SEED").unwrap_or_else(|| fastrand::u64(..1 << 32));
    let requests = number("KEYWARD_REQUESTS").map_or(REQUESTS, |requests| requests as usize);
    println!("KEYWARD_SEED={seed} KEYWARD_REQUESTS={requests}");
    let mut counts = Counts::default();
    let batches = requests.div_ceil(SETTINGS * REQUESTS_OF_A_SETTING);
    for batch in 0..batches {
        if let Err(disagreement) = run(seed.wrapping_add(batch as u64), &mut counts) {
            panic!("KEYWARD_SEED={} KEYWARD_REQUESTS=1 repeats it\n{}", seed + batch as u64, shrink(disagreement));
        }
    }
    let total: usize = counts.codes.values().sum();
    println!("{total} decided, {} refused by Envoy, {:?}", counts.refused_by_envoy, counts.codes);
    assert_eq!(total, batches * SETTINGS * REQUESTS_OF_A_SETTING);
}

/// Were most requests of one kind, little would be shown. The seed is fixed: with a few configurations the shares are a
/// matter of luck.
#[test]
fn requests_are_of_many_kinds() {
    let (mut rng, mut counts) = (Rng::with_seed(1), BTreeMap::<String, usize>::new());
    let (settings, requests) = (500, 100);
    for _ in 0..settings {
        let setting = generate::setting(&mut rng);
        for _ in 0..requests {
            let request = generate::request(&mut rng, &setting);
            *counts.entry(reference::decide(&setting, &as_the_filter_sees_it(&request)).code).or_default() += 1;
        }
    }
    println!("{counts:?}");
    let codes = [
        "allowed",
        "public",
        "route_denied",
        "key_missing",
        "key_malformed",
        "key_unknown",
        "key_disabled",
        "key_expired",
        "permission_missing",
        "path_ambiguous",
        "host_ambiguous",
    ];
    assert_eq!(counts.keys().map(String::as_str).collect::<BTreeSet<_>>(), codes.into_iter().collect());
    for (code, count) in counts {
        let hundredths = count * 100 / (settings * requests);
        assert!((1..=33).contains(&hundredths), "{hundredths} of 100 requests are {code}");
    }
}

fn run(seed: u64, counts: &mut Counts) -> Result<(), Box<Disagreement>> {
    let mut rng = Rng::with_seed(seed);
    let settings: Vec<Setting> = (0..SETTINGS).map(|_| generate::setting(&mut rng)).collect();
    let proxy = Proxy::start(&settings).unwrap_or_else(|refused| panic!("seed {seed}: {}", refused.log));
    let seeds: Vec<u64> = settings.iter().map(|_| rng.u64(..)).collect();
    let results = std::thread::scope(|scope| {
        let threads: Vec<_> = settings
            .iter()
            .zip(&proxy.addresses)
            .zip(seeds)
            .map(|((setting, address), seed)| scope.spawn(move || ask_all(setting, Client::new(*address), seed)))
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("a client ends")).collect::<Vec<_>>()
    });
    let mut passed = 0;
    for result in results {
        let counted = result?;
        passed += ["allowed", "public"].iter().filter_map(|code| counted.codes.get(*code)).sum::<usize>();
        counts.refused_by_envoy += counted.refused_by_envoy;
        for (code, count) in counted.codes {
            *counts.codes.entry(code).or_default() += count;
        }
    }
    assert_eq!(proxy.upstream.count(), passed, "requests at the upstream and requests that may pass");
    assert_eq!(proxy.envoy.stat("wasm.keyward.vm_reload"), 0, "a VM trapped");
    Ok(())
}

fn ask_all(setting: &Setting, mut client: Client, seed: u64) -> Result<Counts, Box<Disagreement>> {
    let (mut rng, mut counts, mut decided) = (Rng::with_seed(seed), Counts::default(), 0);
    while decided < REQUESTS_OF_A_SETTING {
        let request = generate::request(&mut rng, setting);
        match check(setting, &request, &mut client) {
            Ok(Some(code)) => {
                *counts.codes.entry(code).or_default() += 1;
                decided += 1;
            }
            Ok(None) => {
                counts.refused_by_envoy += 1;
                assert!(counts.refused_by_envoy < MOST_ASKED, "Envoy refuses nearly all of {}", setting.to_json());
            }
            Err(outcome) => {
                return Err(Box::new(Disagreement { setting: setting.clone(), request, outcome }));
            }
        }
    }
    Ok(counts)
}

/// The code on which both agree; `None` where Envoy refused the request itself.
fn check(setting: &Setting, request: &Request, client: &mut Client) -> Result<Option<String>, Outcome> {
    let expected = reference::decide(setting, &as_the_filter_sees_it(request));
    match client.ask(request) {
        Outcome::RefusedByEnvoy => Ok(None),
        Outcome::Decided(mut verdict) => {
            if request.method == "HEAD" {
                verdict.missing.clone_from(&expected.missing);
            }
            if verdict == expected { Ok(Some(verdict.code)) } else { Err(Outcome::Decided(verdict)) }
        }
        wrong @ Outcome::Wrong(_) => Err(wrong),
    }
}

/// Envoy joins what is repeated of some headers before any filter sees it.
fn as_the_filter_sees_it(request: &Request) -> Request {
    let mut seen = request.clone();
    seen.headers.clear();
    for (name, value) in &request.headers {
        // Over HTTP/1 the spaces around a value are no part of it.
        let value = &if request.http2 { value.clone() } else { value.trim_ascii().to_vec() };
        let separator = match name.as_str() {
            "content-type" | "authorization" | "origin" | "access-control-request-method" => ",",
            "cookie" if request.http2 => "; ",
            _ => {
                seen.headers.push((name.clone(), value.clone()));
                continue;
            }
        };
        match seen.headers.iter_mut().find(|(have, _)| have == name) {
            // An empty value is joined to nothing, and nothing to it.
            Some((_, joined)) if joined.is_empty() => joined.clone_from(value),
            Some((_, joined)) if !value.is_empty() => joined.extend([separator.as_bytes(), value].concat()),
            Some(_) => {}
            None => seen.headers.push((name.clone(), value.clone())),
        }
    }
    seen
}

/// Takes rules and headers away while both still disagree, and describes what is left.
fn shrink(mut found: Box<Disagreement>) -> String {
    let disagreement = |setting: &Setting, request: &Request| {
        let proxy = Proxy::start(std::slice::from_ref(setting)).ok()?;
        check(setting, request, &mut Client::new(proxy.addresses[0])).err()
    };
    loop {
        let mut smaller: Vec<(Setting, Request)> = Vec::new();
        for rule in 0..found.setting.rules.len() {
            let mut setting = found.setting.clone();
            setting.rules.remove(rule);
            smaller.push((setting, found.request.clone()));
        }
        for header in 0..found.request.headers.len() {
            let mut request = found.request.clone();
            request.headers.remove(header);
            smaller.push((found.setting.clone(), request));
        }
        let fewer_sources = (0..found.setting.sources.len()).filter(|_| found.setting.sources.len() > 1);
        for source in fewer_sources {
            let mut setting = found.setting.clone();
            setting.sources.remove(source);
            smaller.push((setting, found.request.clone()));
        }
        let next = smaller.into_iter().find_map(|(setting, request)| {
            let outcome = disagreement(&setting, &request)?;
            Some(Disagreement { setting, request, outcome })
        });
        match next {
            Some(next) => *found = next,
            None => break,
        }
    }
    let Disagreement { setting, request, outcome } = *found;
    let mut lines = vec![
        format!("configuration: {}", setting.to_json()),
        format!(
            "request: {} {} (HTTP/{})",
            request.method,
            request.target.escape_ascii(),
            if request.http2 { 2 } else { 1 }
        ),
        format!("  host: {}", request.host.escape_ascii()),
    ];
    lines.extend(request.headers.iter().map(|(name, value)| format!("  {name}: {}", value.escape_ascii())));
    lines.push(format!("documentation: {:?}", reference::decide(&setting, &as_the_filter_sees_it(&request))));
    lines.push(format!("filter: {outcome:?}"));
    lines.join("\n")
}

#[test]
fn the_reference_decides_the_examples_of_the_documentation() {
    use setting::{Key, Paths, Rule, Source};
    let rule = |methods: &[&str], path: &str, access: Access| Rule {
        path: path.to_owned(),
        methods: methods.iter().map(|method| (*method).to_owned()).collect(),
        hosts: Vec::new(),
        content_types: Vec::new(),
        access,
    };
    let setting = Setting {
        sources: vec![Source::Header("x-api-key".to_owned())],
        keys: vec![Key {
            id: "key_01".to_owned(),
            text: "kw_1".to_owned(),
            permissions: vec!["records:read".to_owned()],
            disabled: false,
            expired: false,
        }],
        rules: vec![
            rule(&[], "/api/collections/_*/**", Access::Deny),
            rule(
                &["GET", "HEAD"],
                "/api/collections/{collection}/records",
                Access::Require(vec!["records:read".to_owned()]),
            ),
            rule(&["GET", "HEAD"], "/api/health", Access::Public),
        ],
        unmatched: Access::Deny,
        preflight_passes: false,
        hide_key: true,
        paths: Paths::default(),
    };
    let code = |method: &str, target: &str, key: Option<&str>| {
        let headers = key.map(|key| ("x-api-key".to_owned(), key.as_bytes().to_vec())).into_iter().collect();
        let (target, host) = (target.as_bytes().to_vec(), b"api.example.com".to_vec());
        reference::decide(&setting, &Request { method: method.to_owned(), target, host, headers, http2: false }).code
    };
    assert_eq!(code("GET", "/api/collections/posts/records?x=1", Some("kw_1")), "allowed");
    assert_eq!(code("GET", "/api/collections/posts/records", None), "key_missing");
    assert_eq!(code("POST", "/api/collections/posts/records", Some("kw_1")), "route_denied");
    assert_eq!(code("GET", "/api/collections/_x/records", Some("kw_1")), "route_denied");
    assert_eq!(code("GET", "/api/collections/posts/records/", Some("kw_1")), "route_denied");
    assert_eq!(code("GET", "/api/collections/posts/records", Some("kw_2")), "key_unknown");
    assert_eq!(code("GET", "/api/health", None), "public");
    assert_eq!(code("GET", "/api/../api/health", None), "path_ambiguous");
}
