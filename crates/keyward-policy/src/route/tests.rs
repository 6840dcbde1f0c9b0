//! Precedence, and agreement with a scan over all rules.

use super::*;
use crate::media_type::MediaType;
use crate::pattern::Pattern;
use proptest::prelude::*;

/// `GET,HEAD *.example.com /a/{b} json,none !`: methods or `*`, hosts or `*`, path, types or `*`, `!` for deny.
fn rule(line: &str) -> Rule {
    let mut words = line.split(' ');
    let mut list = || words.next().filter(|word| *word != "*").map(|word| word.split(',').collect::<Vec<_>>());
    let (methods, hosts) = (list(), list());
    let path_text = list().unwrap().join(",");
    let types = list();
    let access = if words.next() == Some("!") { Access::Deny } else { Access::Authenticated };
    Rule {
        path: Pattern::parse(&path_text).unwrap(),
        path_text: path_text.into(),
        methods: methods.map(|all| all.into_iter().map(Into::into).collect()),
        hosts: hosts.map(|all| all.into_iter().map(|host| HostPattern::parse(host).unwrap()).collect()),
        content_type: types.map(|all| all.into_iter().map(|kind| MediaType::parse(kind).unwrap()).collect()),
        access,
    }
}

fn routes(lines: &[&str]) -> Routes {
    Routes::new(lines.iter().map(|line| rule(line)).collect())
}

#[track_caller]
fn check(lines: &[&str], request: &str, expect: Option<usize>) {
    let mut words = request.split(' ');
    let (method, host, path) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
    let content_type = words.next().map_or(ContentType::Absent, |value| ContentType::One(value.as_bytes()));
    let path = CanonicalPath::parse(path.as_bytes()).unwrap();
    let query = RouteQuery { path: &path, method: method.as_bytes(), host, content_type };
    assert_eq!(routes(lines).find(&query).map(|found| found.number), expect, "{request}");
}

#[test]
fn the_first_rule_wins_however_narrow_the_later_ones_are() {
    let lines = ["* * /a/** *", "GET a.com /a/b *"];
    check(&lines, "GET a.com /a/b", Some(0));
    let lines = ["GET a.com /a/b *", "* * /a/** *", "* * /{x}/b *"];
    check(&lines, "GET a.com /a/b", Some(0));
    check(&lines, "PUT a.com /a/b", Some(1));
    check(&lines, "PUT a.com /c/b", Some(2));
    check(&lines, "PUT a.com /c/d", None);
}

#[test]
fn each_kind_of_segment_matches_what_it_should() {
    check(&["* * /a/{x} *"], "GET h /a/b", Some(0));
    check(&["* * /a/{x} *"], "GET h /a", None);
    check(&["* * /a/{x} *"], "GET h /a/", None);
    check(&["* * /a/{x} *"], "GET h /a/b/c", None);
    check(&["* * /a/_* *"], "GET h /a/_", Some(0));
    check(&["* * /a/_* *"], "GET h /a/_b", Some(0));
    check(&["* * /a/_* *"], "GET h /a/b_", None);
    check(&["* * /a/é* *"], "GET h /a/%C3%A9x", Some(0));
    check(&["* * /a/b* *"], "GET h /a/%C3%A9x", None);
    check(&["* * /a/{x}:go *"], "GET h /a/b:go", Some(0));
    check(&["* * /a/{x}:go *"], "GET h /a/b:go:go", Some(0));
    check(&["* * /a/{x}:go *"], "GET h /a/:go", None);
    check(&["* * /a/{x}:go *"], "GET h /a/b:goo", None);
    check(&["* * /a/{x}.csv *", "* * /a/{x} *"], "GET h /a/b.csv", Some(0));
    check(&["* * /a/{x}.csv *", "* * /a/{x} *"], "GET h /a/.csv", Some(1));
    check(&["* * /a/{x} *", "* * /a/{x}.csv *"], "GET h /a/b.csv", Some(0));
    check(&["* * /a/{x}\u{e9} *"], "GET h /a/b%C3%A9", Some(0));
    check(&["* * /a/** *"], "GET h /a", Some(0));
    check(&["* * /a/** *"], "GET h /a/", Some(0));
    check(&["* * /a/** *"], "GET h /a/b/c", Some(0));
    check(&["* * /a/** *"], "GET h /ab", None);
    check(&["* * / *"], "GET h /", Some(0));
    check(&["* * / *"], "GET h /a", None);
    check(&["* * /a *"], "GET h /a/", None);
    check(&["* * /a/ *"], "GET h /a/", Some(0));
    check(&["* * /a/ *"], "GET h /a", None);
    check(&["* * /A *"], "GET h /a", None);
}

#[test]
fn a_dead_end_behind_a_literal_does_not_hide_the_other_ways() {
    let lines = ["* * /a/b/c *", "* * /{x}/b/d *", "* * /a*/{y}/e *"];
    check(&lines, "GET h /a/b/d", Some(1));
    check(&lines, "GET h /a/b/e", Some(2));
}

#[test]
fn hosts_and_types_narrow_a_rule() {
    check(&["* a.com,*.b.com /x *"], "GET a.com /x", Some(0));
    check(&["* a.com,*.b.com /x *"], "GET c.b.com /x", Some(0));
    check(&["* a.com,*.b.com /x *"], "GET d.c.b.com /x", Some(0));
    check(&["* a.com,*.b.com /x *"], "GET b.com /x", None);
    check(&["* a.com,*.b.com /x *"], "GET .b.com /x", None);
    check(&["* a.com,*.b.com /x *"], "GET xb.com /x", None);
    check(&["* * /x application/json,none"], "POST h /x application/json", Some(0));
    check(&["* * /x application/json,none"], "POST h /x", Some(0));
    check(&["* * /x application/json,none"], "POST h /x text/plain", None);
}

#[test]
fn a_preflight_passes_where_a_request_might() {
    let path = CanonicalPath::parse(b"/x").unwrap();
    let may = |lines: &[&str], method: &str| {
        routes(lines).announced(&path, "h", method.as_bytes()).is_some_and(|access| *access != Access::Deny)
    };
    assert!(may(&["POST * /x *"], "POST"));
    assert!(!may(&["POST * /x *"], "GET"));
    assert!(!may(&["* * /x * !", "POST * /x *"], "POST"));
    assert!(!may(&["POST * /y *"], "POST"));
    // A rule on the body's type may or may not apply later.
    assert!(may(&["POST * /x application/json", "* * /x * !"], "POST"));
    assert!(may(&["POST * /x text/plain !", "POST * /x *"], "POST"));
    assert!(!may(&["POST * /x text/plain !", "* * /x * !"], "POST"));
}

proptest! {
    #[test]
    fn sorting_sorts(numbers in proptest::collection::vec((0_u32..20, any::<u32>()), 0..60)) {
        let mut sorted = numbers.clone();
        sort(&mut sorted, &|a, b| a.cmp(b));
        let mut expected = numbers;
        expected.sort_unstable();
        prop_assert_eq!(sorted, expected);
    }
}

#[test]
fn a_node_and_its_edge_are_small() {
    assert!(size_of::<Node>() + size_of::<Edge>() <= 36);
    let deep = rule(&format!("* * {}/** *", "/segment".repeat(60)));
    let routes = Routes::new(vec![deep.clone(), deep]);
    assert_eq!((routes.nodes.len(), routes.edges.len(), routes.texts.len()), (61, 60, 420), "equal paths share nodes");
}

/// Whether a pattern matches, decided segment by segment.
fn matches(pattern: &Pattern, path: &CanonicalPath<'_>) -> bool {
    let segments: Vec<&str> = path.segments().map(|segment| std::str::from_utf8(segment).unwrap()).collect();
    let enough =
        segments.len() == pattern.segments.len() || (pattern.any_rest && segments.len() > pattern.segments.len());
    enough
        && pattern.segments.iter().zip(segments).all(|(want, have)| match want {
            Segment::Literal(text) => **text == *have,
            Segment::Prefix(start) => have.starts_with(&**start),
            Segment::Suffix(end) => have.len() > end.len() && have.ends_with(&**end),
            Segment::Any => !have.is_empty(),
        })
}

fn host_matches(rule: &Rule, host: &str) -> bool {
    rule.hosts.as_ref().is_none_or(|hosts| {
        hosts.iter().any(|pattern| match pattern {
            HostPattern::Exact(exact) => **exact == *host,
            HostPattern::Suffix(suffix) => {
                host.strip_suffix(&**suffix).is_some_and(|labels| labels.len() > 1 && labels.ends_with('.'))
            }
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn the_index_finds_what_a_scan_finds(
        lines in proptest::collection::vec(
            "(\\*|GET|GET,POST) (\\*|a|b\\.a,\\*\\.a|\\*\\.b\\.a) (/(a|b|ab|\\{x\\}|a\\*|ab\\*|\\{x\\}b|\\{x\\}ab)){0,3}(/|/\\*\\*) (\\*|a/b|none,a/c)", 0..12),
        path in "(/(a|b|ab|abc)){0,4}/?",
        method in "GET|POST|PUT",
        host in "a|b\\.a|c\\.b\\.a|\\.a",
        kind in proptest::option::of("a/b|a/c|x/y"),
    ) {
        let rules: Vec<Rule> = lines.iter().map(|line| rule(line)).collect();
        let path = if path.is_empty() { "/".to_owned() } else { path };
        let path = CanonicalPath::parse(path.as_bytes()).unwrap();
        let content_type = kind.as_ref().map_or(ContentType::Absent, |value| ContentType::One(value.as_bytes()));
        let scan = rules.iter().position(|rule| {
            matches(&rule.path, &path) && rule.has_method(method.as_bytes()) && host_matches(rule, &host) && rule.has_content_type(content_type)
        });
        let query = RouteQuery { path: &path, method: method.as_bytes(), host: &host, content_type };
        prop_assert_eq!(Routes::new(rules).find(&query).map(|found| found.number), scan);
    }

    #[test]
    fn a_rule_that_covers_another_matches_all_that_it_does(
        ours in "(\\*|GET|GET,POST) (\\*|a|b\\.a,\\*\\.a|\\*\\.b\\.a) (/(a|b|ab|\\{x\\}|a\\*|ab\\*|\\{x\\}b|\\{x\\}ab)){0,2}(/|/\\*\\*) (\\*|a/b|none,a/c)",
        theirs in "(\\*|GET|GET,POST) (\\*|a|b\\.a,\\*\\.a|\\*\\.b\\.a) (/(a|b|ab|\\{x\\}|a\\*|ab\\*|\\{x\\}b|\\{x\\}ab)){0,2}(/|/\\*\\*) (\\*|a/b|none,a/c)",
        path in "(/(a|b|ab|abc)){1,3}/?",
        method in "GET|POST|PUT",
        host in "a|b\\.a|c\\.b\\.a|\\.a",
        kind in proptest::option::of("a/b|a/c|x/y"),
    ) {
        let (ours, theirs) = (rule(&ours), rule(&theirs));
        let path = CanonicalPath::parse(path.as_bytes()).unwrap();
        let content_type = kind.as_ref().map_or(ContentType::Absent, |value| ContentType::One(value.as_bytes()));
        let is_for = |rule: &Rule| {
            matches(&rule.path, &path) && rule.has_method(method.as_bytes()) && host_matches(rule, &host) && rule.has_content_type(content_type)
        };
        prop_assert!(!ours.covers(&theirs) || !is_for(&theirs) || is_for(&ours));
        prop_assert!(ours.covers(&ours));
    }
}
