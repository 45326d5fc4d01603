//! What may stand on the list, what it allows, and which addresses are public.

use super::*;

#[test]
fn a_rule_is_written_as_it_is_read() {
    let cases = [
        ("pypi.org", "pypi.org"),
        ("PyPI.ORG", "pypi.org"),
        ("*.Crates.io", "*.crates.io"),
        ("example.org:8443", "example.org:8443"),
        ("github.com:22/tcp", "github.com:22/tcp"),
        ("*.example.org:5432/tcp", "*.example.org:5432/tcp"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("*.BÜCHER.example", "*.xn--bcher-kva.example"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("exa\u{ad}mple.org", "example.org"),
        ("example。org", "example.org"),
        ("r3---sn-4g5e.example.org", "r3---sn-4g5e.example.org"),
        ("_dmarc.example.org", "_dmarc.example.org"),
    ];
    for (written, meant) in cases {
        let rule: Rule = written.parse().unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(rule.to_string(), meant, "{written}");
        assert_eq!(meant.parse(), Ok(rule.clone()), "{written}");
        let json = serde_json::to_string(&rule).unwrap();
        assert_eq!(serde_json::from_str::<Rule>(&json).unwrap(), rule);
    }
    let error = serde_json::from_str::<Allowlist>(r#"["pypi.org", "*.com"]"#).unwrap_err();
    assert!(error.to_string().contains("wildcard"), "{error}");
}

#[test]
fn what_is_no_rule_is_refused_with_what_to_write() {
    let long_label = format!("{}.example.org", "a".repeat(64));
    let long_name = format!("{}example.org", "a.".repeat(125));
    let cases = [
        ("", "empty"),
        ("https://pypi.org/", "write the name alone"),
        ("*", "wildcard"),
        ("*.", "wildcard"),
        ("*.com", "wildcard"),
        ("*.*.org", "wildcard"),
        ("*example.org", "wildcard"),
        ("foo.*", "wildcard"),
        ("a.*.example.org", "wildcard"),
        ("localhost", "single label"),
        ("intranet", "single label"),
        ("example.org.", "ends in a dot"),
        ("*.example.org.", "ends in a dot"),
        ("example。org。", "ends in a dot"),
        (".example.org", "label"),
        ("example..org", "label"),
        ("example.org..", "label"),
        ("-a.example.org", "'-'"),
        ("user@example.org", "'@'"),
        ("user:password@example.org", "no port"),
        ("example.org\0", "'\\0'"),
        ("example .org", "' '"),
        ("exa\u{a0}mple.org", "'\\u{a0}'"),
        ("example.org%00.evil.org", "'%'"),
        ("example.org#", "'#'"),
        ("example.org\\x", "'\\\\'"),
        ("example.org/path", "only \"/tcp\""),
        ("example.org:80/udp", "only \"/tcp\""),
        ("example.org/tcp", "only \"/tcp\""),
        ("example.org:0", "no port"),
        ("example.org:080", "no port"),
        ("example.org:+80", "no port"),
        ("example.org:65536", "no port"),
        ("example.org:", "no port"),
        ("example.org:https", "no port"),
        ("127.0.0.1", "address"),
        ("127.0.0.1:80", "address"),
        ("127.1", "address"),
        ("2130706433", "address"),
        ("017700000001", "address"),
        ("0x7f000001", "address"),
        ("0x7f.1", "address"),
        ("0X7F.0.0.0x1", "address"),
        ("0177.0.0.01", "address"),
        ("0x", "address"),
        ("example.0x", "address"),
        ("example.123", "address"),
        ("１２７.０.０.１", "address"),
        ("①②⑦.⓪.⓪.①", "address"),
        ("127。0。0。1", "address"),
        ("::1", "address"),
        ("[::1]", "address"),
        ("[::1]:80", "address"),
        ("::ffff:127.0.0.1", "address"),
        ("[::ffff:7f00:1]:443", "address"),
        ("fe80::1%eth0", "address"),
        ("xn--a.example.org", "UTS 46"),
        ("xn--example-.org", "UTS 46"),
        (&long_label, "label"),
        (&long_name, "253"),
    ];
    for (written, said) in cases {
        let error = match written.parse::<Rule>() {
            Err(error) => error.to_string(),
            Ok(rule) => panic!("{written:?} is taken as {rule}"),
        };
        assert!(error.contains(said), "{written:?}: {error}");
    }
}

#[test]
fn a_list_allows_what_it_names_and_says_by_which_rule() {
    let list = Allowlist::parse([
        "pypi.org",
        "*.crates.io",
        "example.org:8443",
        "github.com:22/tcp",
        "both.example.net:443",
        "both.example.net:443/tcp",
    ])
    .unwrap();
    let cases = [
        ("pypi.org", 443, Some("pypi.org")),
        ("pypi.org", 80, Some("pypi.org")),
        ("pypi.org", 8080, None),
        ("files.pypi.org", 443, None),
        ("notpypi.org", 443, None),
        ("pypi.org.evil.net", 443, None),
        ("index.crates.io", 443, Some("*.crates.io")),
        ("a.b.c.crates.io", 80, Some("*.crates.io")),
        ("crates.io", 443, None),
        ("evilcrates.io", 443, None),
        ("example.org", 8443, Some("example.org:8443")),
        ("example.org", 443, None),
        ("github.com", 22, Some("github.com:22/tcp")),
        ("github.com", 443, None),
        ("both.example.net", 443, Some("both.example.net:443/tcp")),
    ];
    for (name, port, rule) in cases {
        let found = list.check(&name.parse().unwrap(), port).ok();
        let found = found.map(ToString::to_string);
        assert_eq!(found.as_deref(), rule, "{name}:{port}");
    }
}

#[test]
fn a_denial_names_the_rule_that_is_missing() {
    let some = Allowlist::parse(["pypi.org"]).unwrap();
    let none = Allowlist::default();
    let cases = [
        (
            &some,
            "example.com",
            443,
            "add \"example.com\" to [agent] network",
            "not-listed",
        ),
        (
            &some,
            "example.com",
            8443,
            "add \"example.com:8443\" to",
            "not-listed",
        ),
        (
            &some,
            "pypi.org",
            8443,
            "which has \"pypi.org\"",
            "port-not-listed",
        ),
        (
            &none,
            "example.com",
            80,
            "network list is empty",
            "nothing-listed",
        ),
    ];
    for (list, name, port, said, reason) in cases {
        let refusal = list.check(&name.parse().unwrap(), port).unwrap_err();
        assert!(refusal.to_string().contains(said), "{refusal}");
        assert_eq!(refusal.reason(), reason);
        // Whoever follows the advice gets through.
        let advised = refusal.missing_rule().expect("a rule");
        let rule: Rule = advised.parse().unwrap();
        assert!(rule.allows(&name.parse().unwrap(), port), "{advised}");
    }
}

#[test]
fn a_tightening_list_cannot_widen() {
    let owner = Allowlist::parse(["pypi.org", "*.crates.io", "example.org:22/tcp"]).unwrap();
    for within in [
        "pypi.org",
        "pypi.org:443",
        "index.crates.io",
        "*.index.crates.io",
        "*.crates.io:443",
        "example.org:22",
        "example.org:22/tcp",
    ] {
        assert!(owner.covers(&within.parse().unwrap()), "{within}");
    }
    for beyond in [
        "crates.io",
        "*.pypi.org",
        "pypi.org:8443",
        "pypi.org:443/tcp",
        "example.org",
        "*.example.org",
        "evil.net",
    ] {
        assert!(!owner.covers(&beyond.parse().unwrap()), "{beyond}");
    }
}

#[test]
fn only_public_addresses_are_connected_to() {
    let public = [
        "1.1.1.1",
        "151.101.0.223",
        "172.15.255.255",
        "172.32.0.1",
        "100.63.255.255",
        "100.128.0.1",
        "192.0.1.1",
        "223.255.255.255",
        "2606:4700::1111",
        "2a04:4e42::223",
        "::ffff:1.1.1.1",
        "64:ff9b::1.1.1.1",
    ];
    for address in public {
        let address: IpAddr = address.parse().unwrap();
        assert!(Reach::Global.check(address).is_ok(), "{address}");
    }
    let others = [
        "0.0.0.0",
        "0.1.2.3",
        "127.0.0.1",
        "127.255.255.254",
        "10.0.0.1",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.1.1",
        "100.64.0.1",
        "100.100.100.200",
        "100.127.255.255",
        "169.254.169.254",
        "169.254.0.1",
        "168.63.129.16",
        "192.0.0.192",
        "192.0.2.1",
        "198.18.0.1",
        "198.51.100.1",
        "203.0.113.1",
        "192.88.99.1",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::127.0.0.1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::127.0.0.1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::1.1.1.1",
        "2002:7f00:1::",
        "2002:a9fe:a9fe::1",
        "2001::1",
        "2001:20::1",
        "2001:db8::1",
        "3fff::1",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "febf::1",
        "fec0::1",
        "ff02::1",
        "100::1",
        "5f00::1",
        "4000::1",
    ];
    for address in others {
        let address: IpAddr = address.parse().unwrap();
        assert!(Reach::Global.check(address).is_err(), "{address}");
    }
    // Tests reach loopback and nothing else of these.
    let tests = Reach::LoopbackForTests { low_ports_at: 0 };
    for address in others {
        let address: IpAddr = address.parse().unwrap();
        let loopback = address.to_canonical().is_loopback();
        assert_eq!(tests.check(address).is_ok(), loopback, "{address}");
    }
}

/// What a developer runs on 0.0.0.0 of a machine with a public address is not for the agent.
#[test]
fn a_machine_is_not_its_own_way_out() {
    let [mine, other]: [IpAddr; 2] = ["8.8.4.4", "8.8.8.8"].map(|text| text.parse().unwrap());
    assert_eq!(Reach::Global.check_ends(mine, mine), Err(NotGlobal::Own));
    assert_eq!(Reach::Global.check_ends(mine, other), Ok(()));
}

/// A user's proxy would reach into the user's machine if anything that reads configuration could name the reach for tests.
#[test]
fn only_tests_can_widen_the_reach() {
    fn walk(directory: &std::path::Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                if text.contains("LoopbackForTests") {
                    found.push(path.display().to_string());
                }
            }
        }
    }
    // Where the tests run now, which is not always where they were built.
    let agents = std::env::var_os("CARGO_MANIFEST_DIR");
    let agents = agents.unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let agents = std::path::Path::new(&agents);
    let mut found = Vec::new();
    walk(&agents.join("src"), &mut found);
    walk(&agents.join("../envd/src"), &mut found);
    found.retain(|path| !path.contains("/egress/tests/"));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].ends_with("/egress/address.rs"), "{found:?}");
}
