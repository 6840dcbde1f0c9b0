//! One reading for each host, or none.

use super::*;
use core::net::{Ipv4Addr, Ipv6Addr};
use proptest::prelude::*;

#[test]
fn a_host_is_compared_without_case_port_and_one_dot() {
    for (authority, host) in [
        ("API.Example.com:8080", "api.example.com"),
        ("api.example.com.", "api.example.com"),
        ("api.example.com.:443", "api.example.com"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("_sip._tcp.a-b.example", "_sip._tcp.a-b.example"),
        ("localhost", "localhost"),
        ("3com.example", "3com.example"),
        ("1.example", "1.example"),
        ("0xa.example", "0xa.example"),
        ("127.0.0.1:10000", "127.0.0.1"),
        ("[::1]:80", "[::1]"),
        ("[2001:DB8::a]", "[2001:db8::a]"),
        ("[2001:db8:0:1:1:1:1:1]", "[2001:db8:0:1:1:1:1:1]"),
    ] {
        assert_eq!(parse(authority.as_bytes()).as_deref(), Ok(host), "{authority}");
    }
}

#[test]
fn a_host_with_two_readings_is_refused() {
    use AmbiguousHost::*;
    for (authorities, why) in [
        (&["", ":80", ".", ".:80"][..], Empty),
        (&["user@a.example", "a.example@b.example", "@a.example", "a@"], UserInfo),
        (&["user:password@a.example", "a.example:80@b.example"], Port),
        (&["a.example,b.example", "a.example, b.example", "a.example,"], Joined),
        (&["a.example:80,b.example"], Port),
        (&["a..example", ".a.example", "a.example..", "a.example..:80", ".."], EmptyLabel),
        (&["a%2eexample", "%61.example", "a.example%00"], Encoded),
        (
            &[
                "a.ex\u{e4}mple",
                "a example",
                "a.example/",
                "a.example\\b",
                "a.example#",
                "a.example?",
                "\u{ff41}.example",
            ],
            Character,
        ),
        (
            &[" a.example", "a.example ", "a.example\t", "a;b", "a!b", "http//a", "(a)", "a=b", "*.example", "a\0"],
            Character,
        ),
        (
            &["127.1", "2130706433", "0x7f000001", "0x7f.0.0.1", "0177.0.0.1", "127.0.0.01", "256.0.0.1", "1.2.3.4.5"],
            Address,
        ),
        (&["a.example.1", "1.2.3", "0x", "a.0xff", "00"], Address),
        (
            &["[::1", "[]", "[1]", "[127.0.0.1]", "[::1]a", "[::1].", "[a.example]", "[::1%25eth0]", "[fe80::1%eth0]"],
            Address,
        ),
        (
            &[
                "[0:0:0:0:0:0:0:1]",
                "[::0001]",
                "[::0:1]",
                "[1::2::3]",
                "[::ffff:127.0.0.1]",
                "[::ffff:a00:1]",
                "[::ffff:0:0]",
                "[1:2:3:4:5:6:7::]",
            ],
            Address,
        ),
        (
            &[
                "[1:0:0:2:3::4]",
                "[::1:0:0:0:0:2]",
                "[1:2:3:4:5:6:7:8:9]",
                "[1:2:3:4:5:6:7]",
                "[:1::2]",
                "[1::2:]",
                "[v1.a]",
            ],
            Address,
        ),
        (
            &[
                "a.example:",
                "a.example:http",
                "a.example:80:80",
                "::1",
                "a.example:-1",
                "a.example:+80",
                "a.example:999999",
                "[::1]:",
            ],
            Port,
        ),
    ] {
        for authority in authorities {
            assert_eq!(parse(authority.as_bytes()).map(|_| ()), Err(why), "{authority}");
        }
    }
    assert_eq!(parse(b"a\xff").map(|_| ()), Err(Character));
}

#[test]
fn patterns_are_hosts_or_suffixes() {
    assert_eq!(HostPattern::parse("Internal.Example.com."), Ok(HostPattern::Exact("internal.example.com".into())));
    assert_eq!(HostPattern::parse("*.Corp.example.com"), Ok(HostPattern::Suffix("corp.example.com".into())));
    assert_eq!(HostPattern::parse("[::1]"), Ok(HostPattern::Exact("[::1]".into())));
    assert_eq!(HostPattern::parse("127.0.0.1"), Ok(HostPattern::Exact("127.0.0.1".into())));
    for text in
        ["", "*", "*.", "a.*", "*a.com", "a:80", "http://a", "a/b", "a..b", ".a", "*.*.a", "*.[::1]", "*.1.2.3.4"]
    {
        assert_eq!(HostPattern::parse(text), Err(InvalidHost), "{text}");
    }
    // No request that is let through names these, so a rule for them would never hold.
    for text in ["b\u{fc}cher.example", "127.1", "[0:0:0:0:0:0:0:1]", "a@b", "a,b", "a%2eb", "a.b.."] {
        assert_eq!(HostPattern::parse(text), Err(InvalidHost), "{text}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5_000))]

    #[test]
    fn any_bytes_are_read_or_refused_without_a_panic(authority in proptest::collection::vec(any::<u8>(), 0..40)) {
        let _ = parse(&authority);
    }

    /// What is let through is plain, and reading it again changes nothing.
    #[test]
    fn what_is_let_through_has_one_form(authority in "[aA0-9x:.@,%\\[\\]f_ -]{0,16}") {
        if let Ok(host) = parse(authority.as_bytes()) {
            prop_assert_eq!(&parse(host.as_bytes()), &Ok(Cow::Borrowed(&*host)));
            prop_assert!(!host.ends_with('.') && !host.contains("..") && !host.contains(['@', ',', '%', ' ']));
            prop_assert!(!host.bytes().any(|byte| byte.is_ascii_uppercase()));
            prop_assert_eq!(HostPattern::parse(&host), Ok(HostPattern::Exact(host.clone().into())));
            // Case, a port and one dot make no difference.
            for same in [format!("{host}:8080"), host.to_ascii_uppercase(), format!("{}:1", host.to_ascii_uppercase())] {
                prop_assert_eq!(&parse(same.as_bytes()), &Ok(Cow::Borrowed(&*host)));
            }
        }
    }

    /// Whatever may come before, between or after, a host with it is not let through as that host.
    #[test]
    fn decoration_never_leads_to_the_host(host in "[a-z]{1,5}(\\.[a-z]{1,5}){0,2}", more in "[@,%/\\\\#? \t\\x00é]{1,2}", at in 0_usize..20) {
        let at = at.min(host.len());
        let decorated = format!("{}{more}{}", &host[..at], &host[at..]);
        prop_assert!(parse(decorated.as_bytes()).is_err(), "{}", decorated);
    }

    #[test]
    fn ipv6_is_accepted_in_its_canonical_spelling_alone(
        groups in proptest::array::uniform8(prop_oneof![3 => Just(0_u16), 1 => Just(1), 1 => any::<u16>()]),
        from in 0_usize..8, len in 1_usize..8,
    ) {
        let hex = |groups: &[u16]| groups.iter().map(|group| format!("{group:x}")).collect::<Vec<_>>().join(":");
        let to = (from + len).min(8);
        let spellings = [
            Ipv6Addr::from(groups).to_string(),
            hex(&groups),
            format!("{}::{}", hex(&groups[..from]), hex(&groups[to..])),
            groups.map(|group| format!("{group:04x}")).join(":"),
        ];
        for spelling in spellings {
            let canonical = spelling.parse().map(|address: Ipv6Addr| address.to_string()).unwrap_or_default();
            // std writes some addresses with an IPv4 address in them, which is refused here.
            if !canonical.contains('.') {
                prop_assert_eq!(is_canonical_ipv6(spelling.as_bytes()), spelling == canonical, "{}", spelling);
            } else if spelling.contains('.') {
                prop_assert!(!is_canonical_ipv6(spelling.as_bytes()), "{}", spelling);
            }
        }
    }

    #[test]
    fn any_text_that_is_taken_for_ipv6_is_canonical(text in "[0-9a-f:.]{2,20}") {
        if is_canonical_ipv6(text.as_bytes()) {
            let address: Ipv6Addr = text.parse().unwrap();
            prop_assert!(address.to_string() == text || address.to_string().contains('.'), "{}", text);
        }
        prop_assert_eq!(is_canonical_ipv4(text.as_bytes()), text.parse::<Ipv4Addr>().is_ok_and(|address| address.to_string() == text));
    }
}
