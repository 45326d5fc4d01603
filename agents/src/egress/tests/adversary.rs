//! The agent at the proxy, trying to get where it may not. Each case says what it would gain; in each the server must have
//! received nothing, and the record must say why.

use super::*;

pub const RULES: [&str; 4] = [
    "allowed.example.org",
    "allowed.example.org:8443",
    "*.below.example.org",
    "rebinding.example.org",
];

/// Sends each of these to a proxy with [`RULES`]; each has to be refused for its reason, with nothing sent on.
pub async fn all_refused(cases: &[(&str, Vec<u8>, &str)]) {
    let mut world = Plan::new(&RULES).start().await;
    for (gain, bytes, reason) in cases {
        let answer = world.say(bytes).await;
        let refusal = world.refusal().await;
        assert_eq!(refusal.reason(), *reason, "{gain}: {refusal}");
        // What a server echoes would show what got through.
        assert!(
            !answer.windows(ECHO.len()).any(|part| part == ECHO),
            "{gain}"
        );
        assert_eq!(world.arrived(), Vec::<Vec<u8>>::new(), "{gain}");
    }
    assert_eq!(world.end().await, []);
}

#[tokio::test]
async fn names_that_are_not_on_the_list() {
    let mut cases = Vec::new();
    for (gain, target, reason) in [
        ("another host", "other.example.org:443", "not-listed"),
        (
            "another port of an allowed host",
            "allowed.example.org:22",
            "port-not-listed",
        ),
        (
            "the parent of a wildcard",
            "below.example.org:443",
            "not-listed",
        ),
        (
            "a name that only ends alike",
            "evilbelow.example.org:443",
            "not-listed",
        ),
        (
            "a name that only begins alike",
            "allowed.example.org.evil.net:443",
            "not-listed",
        ),
        (
            "the cloud's credentials",
            "169.254.169.254:80",
            "not-a-name",
        ),
        ("a service of the machine", "127.0.0.1:80", "not-a-name"),
        ("the same, short", "127.1:80", "not-a-name"),
        ("the same, decimal", "2130706433:80", "not-a-name"),
        ("the same, octal", "0177.0.0.1:80", "not-a-name"),
        ("the same, octal in one", "017700000001:80", "not-a-name"),
        ("the same, hexadecimal", "0x7f000001:80", "not-a-name"),
        ("the same, mixed", "0x7f.0.0.01:80", "not-a-name"),
        ("the same, IPv6", "[::1]:80", "not-a-name"),
        ("the same, mapped", "[::ffff:127.0.0.1]:80", "not-a-name"),
        ("the same, bare", "::1:80", "not-a-name"),
        ("a scoped address", "[fe80::1%25eth0]:80", "not-a-name"),
        ("the machine by its name", "localhost:80", "not-a-name"),
        (
            "a machine of the local network",
            "intranet:80",
            "not-a-name",
        ),
        (
            "a match on the text before the dot",
            "allowed.example.org.:443",
            "not-a-name",
        ),
        ("an empty label", "allowed..example.org:443", "not-a-name"),
        (
            "a label too long",
            &format!("{}.below.example.org:443", "a".repeat(64)),
            "not-a-name",
        ),
        (
            "a name too long",
            &format!("{}below.example.org:443", "a.".repeat(125)),
            "not-a-name",
        ),
        (
            "a wildcard of its own",
            "*.below.example.org:443",
            "not-a-name",
        ),
        (
            "an escape for a resolver",
            "evil.net%00.below.example.org:443",
            "not-a-name",
        ),
        (
            "broken punycode",
            "xn--a.below.example.org:443",
            "not-a-name",
        ),
        (
            "a name that looks like a user",
            "evil.net@allowed.example.org:443",
            "bad-request",
        ),
        (
            "the same, turned round",
            "allowed.example.org:443@evil.net:443",
            "bad-request",
        ),
        ("no port", "allowed.example.org", "bad-request"),
        ("port zero", "allowed.example.org:0", "bad-request"),
        (
            "a port that wraps",
            "allowed.example.org:65979",
            "bad-request",
        ),
        (
            "a port with a sign",
            "allowed.example.org:+443",
            "bad-request",
        ),
        (
            "a port with zeros",
            "allowed.example.org:0443",
            "bad-request",
        ),
        (
            "a URL where a name belongs",
            "http://allowed.example.org:443",
            "not-a-name",
        ),
    ] {
        cases.push((gain, connect_request(target), reason));
    }
    // The same with bytes that `format!` would not make.
    for (gain, name, reason) in [
        (
            "a C string that ends early",
            &b"evil.net\0.below.example.org"[..],
            "bad-request",
        ),
        (
            "letters that look alike",
            "аllowed.example.org".as_bytes(),
            "bad-request",
        ),
        (
            "not even UTF-8",
            b"\xff\xfe.below.example.org",
            "bad-request",
        ),
    ] {
        cases.push((
            gain,
            [b"CONNECT ", name, b":443 HTTP/1.1\r\n\r\n"].concat(),
            reason,
        ));
    }
    all_refused(&cases).await;
}

#[tokio::test]
async fn the_same_by_socks() {
    let mut cases = Vec::new();
    for (gain, name, reason) in [
        ("another host", &b"other.example.org"[..], "not-listed"),
        ("an address as a name", b"127.0.0.1", "not-a-name"),
        ("the same, decimal", b"2130706433", "not-a-name"),
        ("the same, IPv6", b"::1", "not-a-name"),
        (
            "a C string that ends early",
            b"evil.net\0.below.example.org",
            "not-a-name",
        ),
        (
            "a line of its own in the log",
            b"a\r\nb.below.example.org",
            "not-a-name",
        ),
        ("a dot at the end", b"allowed.example.org.", "not-a-name"),
        (
            "letters that look alike",
            "аllowed.example.org".as_bytes(),
            "not-a-name",
        ),
        ("nothing", b"", "not-a-name"),
    ] {
        cases.push((gain, socks_request(name, 443), reason));
    }
    let greeting = [5, 1, 0];
    for (gain, request) in [
        ("an address", &[5, 1, 0, 1, 127, 0, 0, 1, 0, 80][..]),
        (
            "an IPv6 address",
            &[
                5, 1, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 80,
            ],
        ),
        ("an unknown type of address", &[5, 1, 0, 9, 0, 0]),
        ("a port to listen on", &[5, 2, 0, 3, 1, b'a', 0, 80]),
        ("UDP", &[5, 3, 0, 3, 1, b'a', 0, 53]),
        ("another version half-way", &[4, 1, 0, 3, 1, b'a', 0, 80]),
        (
            "something in the reserved byte",
            &[5, 1, 1, 3, 1, b'a', 0, 80],
        ),
        ("port zero", &[5, 1, 0, 3, 1, b'a', 0, 0]),
        ("half a request", &[5, 1, 0, 3, 200, b'a']),
    ] {
        cases.push((gain, [&greeting[..], request].concat(), "bad-socks"));
    }
    cases.push(("a password of the machine", vec![5, 1, 2], "bad-socks"));
    cases.push((
        "SOCKS4, which has addresses",
        vec![4, 1, 0, 80, 127, 0, 0, 1, 0],
        "unknown-protocol",
    ));
    all_refused(&cases).await;
}

/// The reply codes are what a client shows.
#[tokio::test]
async fn socks_says_which_kind_of_refusal() {
    let mut plan = Plan::new(&["*.example.org"]);
    plan.ports = vec![443];
    let world = plan.start().await;
    for (request, code) in [
        (socks_request(b"example.com", 443), 2),
        (socks_request(b"127.0.0.1", 443), 2),
        (socks_request(b"unknown.example.org", 443), 4),
        (socks_request(b"allowed.example.org", 80), 5),
        ([&[5, 1, 0][..], &[5, 3, 0, 3, 1, b'a', 0, 53]].concat(), 7),
        (
            [&[5, 1, 0][..], &[5, 1, 0, 1, 127, 0, 0, 1, 0, 80]].concat(),
            8,
        ),
    ] {
        let answer = world.say(&request).await;
        assert_eq!(
            answer,
            [&[5, 0][..], &[5, code, 0, 1, 0, 0, 0, 0, 0, 0]].concat()
        );
    }
    assert_eq!(world.say(&[5, 2, 1, 2]).await, [5, 0xff]);
}

/// A name may be on the list and its zone in an attacker's hands.
#[tokio::test]
async fn names_that_point_inside() {
    let bad: Vec<(&'static str, Vec<Vec<IpAddr>>)> = [
        ("private.example.org", "10.0.0.1"),
        ("metadata.example.org", "169.254.169.254"),
        ("azure.example.org", "168.63.129.16"),
        ("shared.example.org", "100.64.0.1"),
        ("unspecified.example.org", "0.0.0.0"),
        ("multicast.example.org", "224.0.0.1"),
        ("documentation.example.org", "192.0.2.1"),
        ("local6.example.org", "fe80::1"),
        ("unique.example.org", "fd00:ec2::254"),
        ("mapped.example.org", "::ffff:10.0.0.1"),
        ("sixtofour.example.org", "2002:a00:1::1"),
        ("nat64.example.org", "64:ff9b::a9fe:a9fe"),
    ]
    .into_iter()
    .map(|(name, address)| (name, vec![vec![address.parse().unwrap()]]))
    .collect();
    let names: Vec<_> = bad.iter().map(|(name, _)| *name).collect();
    let mut plan = Plan::new(&["*.example.org"]);
    plan.names = bad;
    // One bad address among good ones: the order in which they are tried is the attacker's to influence.
    let good: IpAddr = "1.1.1.1".parse().unwrap();
    let mixed = vec![vec![good, "192.168.0.1".parse().unwrap()]];
    plan.names.push(("mixed.example.org", mixed));
    let mut world = plan.start().await;
    for name in names.into_iter().chain(["mixed.example.org"]) {
        let answer = world.say(&connect_request(&format!("{name}:443"))).await;
        assert!(text(&answer).starts_with("HTTP/1.1 403 envd: "), "{name}");
        assert_eq!(
            world.refusal().await.reason(),
            "address-not-public",
            "{name}"
        );
    }
}

/// Resolved twice, a name could be public when it is checked and private when it is connected to.
#[tokio::test]
async fn a_name_is_resolved_once() {
    let mut plan = Plan::new(&["rebinding.example.org"]);
    plan.ports = Vec::new();
    let here = own_address();
    let server = Origin::start(here, 80).await;
    plan.names.push((
        "rebinding.example.org",
        vec![vec![here.into()], vec!["169.254.169.254".parse().unwrap()]],
    ));
    let mut world = plan.start().await;
    let request =
        b"GET http://rebinding.example.org/ HTTP/1.1\r\nHost: rebinding.example.org\r\n\r\n";
    assert!(world.say(request).await.starts_with(ECHO));
    let Event::Allowed { address, .. } = world.event().await else {
        panic!("not allowed");
    };
    assert_eq!(address, IpAddr::from(here));
    assert_eq!(server.received.lock().unwrap().len(), 1);
    assert_eq!(world.table.asked.lock().unwrap().len(), 1);
}

/// A lookup is a message to whoever runs the zone.
#[tokio::test]
async fn a_name_that_is_refused_is_not_even_looked_up() {
    let world = Plan::new(&RULES).start().await;
    for target in [
        "other.example.org:443",
        "secret-data.evil.net:443",
        "allowed.example.org:22",
    ] {
        world.say(&connect_request(target)).await;
        world
            .say(&socks_request(
                target.split(':').next().unwrap().as_bytes(),
                22,
            ))
            .await;
    }
    assert_eq!(*world.table.asked.lock().unwrap(), Vec::<String>::new());
}

/// An empty list is a list: nothing is on it.
#[tokio::test]
async fn an_empty_list_allows_nothing() {
    let mut world = Plan::new(&[]).start().await;
    for request in [
        connect_request("allowed.example.org:443"),
        socks_request(b"allowed.example.org", 443),
        b"GET http://allowed.example.org/ HTTP/1.1\r\nHost: allowed.example.org\r\n\r\n".to_vec(),
    ] {
        world.say(&request).await;
        assert_eq!(world.refusal().await.reason(), "nothing-listed");
    }
    assert_eq!(world.arrived(), Vec::<Vec<u8>>::new());
}
