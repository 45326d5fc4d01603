//! Ways out: past the proxy, through it by other names, and onto somebody else's.

use std::net::{TcpListener, TcpStream, UdpSocket};

use envd_tests::{agent::Agent, requirement};
use serde_json::json;

use crate::{
    ground::{all, everyone, held, on, one, shell},
    wild::{Wild, ask, client_hello},
};

/// Gain: any connection that the owner did not allow: by not using the proxy, by an address, by another protocol or family.
/// Must happen: nothing leaves; without a list there is not even a proxy.
/// Guard: `Namespaces::net` in `Policy::strict`: a network namespace with nothing but loopback; no capability over it; the
/// row FAMILY of `shims/src/seccomp/table.rs`.
/// Seen to fail: with each of its guards taken out; see `CASES.md`.
#[test]
fn ways_past_the_proxy() {
    for ground in everyone() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        datagrams.set_nonblocking(true).unwrap();
        let (port, other) = (
            listener.local_addr().unwrap().port(),
            datagrams.local_addr().unwrap().port(),
        );
        let mut agent = Agent::start(&ground, &["--allow-host", "*.example.org"]);
        for network in [
            json!("none"),
            json!({"allow": []}),
            json!({"allow": ["a.example.org"]}),
        ] {
            let environment = agent.create(json!({"network": network}));
            let unreachable: &[&str] = &["ENETUNREACH", "EADDRNOTAVAIL"];
            let mut attacks: Vec<(String, &[&str])> = Vec::new();
            for target in [
                "192.0.2.1,80",
                "169.254.169.254,80",
                "8.8.8.8,53",
                "2001:db8::1,80",
                "fe80::1,80",
            ] {
                for way in ["tcp", "mptcp", "udp", "udplite"] {
                    attacks.push((
                        format!("{way}={target}"),
                        &["ENETUNREACH", "EADDRNOTAVAIL", "EINVAL", "EPROTONOSUPPORT"],
                    ));
                }
            }
            for way in ["sctp=192.0.2.1,80", "dccp=192.0.2.1,80"] {
                attacks.push((
                    way.to_owned(),
                    &[
                        "EPROTONOSUPPORT",
                        "ESOCKTNOSUPPORT",
                        "ENETUNREACH",
                        "EADDRNOTAVAIL",
                    ],
                ));
            }
            attacks.push((format!("tcp=127.0.0.1,{port}"), &["ECONNREFUSED"]));
            attacks.push((
                format!("tcp=::1,{port}"),
                &["ECONNREFUSED", "EADDRNOTAVAIL", "EAFNOSUPPORT"],
            ));
            attacks.push(("tcp=0.0.0.0,22".to_owned(), &["ECONNREFUSED"]));
            attacks.push((
                "icmp=192.0.2.1,0".to_owned(),
                &["EACCES", "EPERM", "EPROTONOSUPPORT"],
            ));
            let refused: &[&str] = &["EPERM"];
            for way in [
                "raw_four",
                "raw_six",
                "packet",
                "vsock",
                "vsock_high",
                "crypto",
                "other_family",
            ] {
                attacks.push((way.to_owned(), refused));
            }
            let attacks: Vec<(&str, &[&str])> = attacks
                .iter()
                .map(|(name, outcomes)| (&**name, *outcomes))
                .collect();
            held(&mut agent, &environment, ground.user, &attacks);
            // A datagram to a port of one's own loopback is sent, and reaches nobody outside.
            shell(
                &mut agent,
                &environment,
                &format!("attacker udp=127.0.0.1,{other}"),
            );
            assert!(
                listener.accept().is_err() && datagrams.recv(&mut [0; 8]).is_err(),
                "{network} as {}",
                ground.user
            );
            let devices = agent.run(
                &environment,
                "tail -n +3 /proc/net/dev | grep -v lo:; tail -n +2 /proc/net/route; true",
            );
            assert_eq!(devices, "", "{network}");
            let proxied = json!({"allow": ["a.example.org"]}) == network;
            let unset = "env -u https_proxy -u http_proxy -u ALL_PROXY attacker tcp=192.0.2.1,443 tcp=127.0.0.1,3128";
            let output = agent.run(&environment, unset);
            assert!(output.contains("192.0.2.1,443: ENETUNREACH"), "{output}");
            // An empty list has a proxy, which allows nothing (below); no list has none.
            if network == json!("none") {
                held(
                    &mut agent,
                    &environment,
                    ground.user,
                    &[("tcp=127.0.0.1,3128", &["ECONNREFUSED"])],
                );
            }
            assert_eq!(
                output.contains("3128: SUCCEEDED"),
                proxied || network != json!("none")
            );
            assert!(!unreachable.is_empty());
        }
        agent.leave();
    }
}

/// Gain: a list that is empty taken for one that is absent (CVE-2025-66479), and either for everything.
/// Must happen: an empty one reaches nothing, and says so.
/// Guard: `Allowlist::check` (`agents/src/egress/allowlist.rs`).
/// Seen to fail: with an empty list that allows all.
#[test]
fn an_empty_list() {
    for ground in everyone() {
        let mut agent = Agent::start(&ground, &["--allow-host", "a.example.org"]);
        let environment = agent.create(json!({"network": {"allow": []}}));
        for name in ["a.example.org", "example.com", "localhost"] {
            let answer = ask(
                &mut agent,
                &environment,
                format!("CONNECT {name}:443 HTTP/1.1\r\nHost: {name}\r\n\r\n").as_bytes(),
            );
            assert!(answer.starts_with("HTTP/1.1 4"), "{name}: {answer}");
        }
        agent.leave();
    }
}

/// Gain: another host by a name that the list's check and the resolver read differently.
/// Must happen: refused, with a word for why; `agents/src/egress/tests/adversary.rs` has a hundred more.
/// Guard: `HostName::from_wire` (`agents/src/egress/name.rs`), `Allowlist::check`.
/// Seen to fail: with each of its guards taken out; see `CASES.md`.
#[test]
fn names_that_are_read_differently() {
    for ground in everyone() {
        let mut agent = Agent::start(&ground, &["--allow-host", "*.example.org"]);
        let environment = agent.create(json!({"network": {"allow": ["a.example.org"]}}));
        for name in [
            "b.example.org",
            "example.org",
            "xa.example.org",
            "a.example.org.evil.example",
            "a.example.org.",
            "a.example.org\0",
            "a.example.org\0.evil.example",
            "a.example.org%00",
            "a.example.org@evil.example",
            "evil.example@a.example.org",
            "a.example.org#",
            "a.example.org/evil",
            "a.example.org:443@evil.example",
            "a .example.org",
            "\u{430}.example.org",
            "xn--80a.example.org",
            "169.254.169.254",
            "2852039166",
            "0xa9fea9fe",
            "0251.0376.0251.0376",
            "169.254.43518",
            "[::ffff:169.254.169.254]",
            "[::1]",
            "127.1",
            "0",
            "localhost",
            "metadata",
            "",
            "*",
            "*.example.org",
        ] {
            let answer = ask(
                &mut agent,
                &environment,
                format!("CONNECT {name}:443 HTTP/1.1\r\nHost: {name}:443\r\n\r\n").as_bytes(),
            );
            assert!(
                answer.starts_with("HTTP/1.1 4"),
                "{name:?} as {}: {answer}",
                ground.user
            );
            let answer = ask(
                &mut agent,
                &environment,
                format!("GET http://{name}/ HTTP/1.1\r\nHost: {name}\r\n\r\n").as_bytes(),
            );
            assert!(
                answer.starts_with("HTTP/1.1 4"),
                "{name:?} as {}: {answer}",
                ground.user
            );
        }
        // Capitals are the same name; it is allowed, and only does not resolve.
        let answer = ask(
            &mut agent,
            &environment,
            b"CONNECT A.Example.ORG:443 HTTP/1.1\r\nHost: A.Example.ORG:443\r\n\r\n",
        );
        assert!(answer.starts_with("HTTP/1.1 502"), "{answer}");
        for port in ["22", "25", "80443", "0443", "-1", "443 ", "https"] {
            let answer = ask(
                &mut agent,
                &environment,
                format!("CONNECT a.example.org:{port} HTTP/1.1\r\nHost: a.example.org\r\n\r\n")
                    .as_bytes(),
            );
            assert!(answer.starts_with("HTTP/1.1 4"), "{port}: {answer}");
        }
        agent.leave();
    }
}

/// Gain: the way out that somebody else was granted.
/// Must happen: the proxy of one environment answers to its own processes only; not to another environment of the same client, nor
/// to one of another client, nor to any user of the machine.
/// Guard: it listens in the environment's own network namespace (`Operation::Listen` in `init/src/apply/mod.rs`).
/// Seen to fail: with each of its guards taken out; see `CASES.md`.
#[test]
fn the_proxy_of_somebody_else() {
    for ground in everyone() {
        let mut agent = Agent::start(&ground, &["--allow-host", "a.example.org"]);
        let granted = agent.create(json!({"network": {"allow": ["a.example.org"]}}));
        held(
            &mut agent,
            &granted,
            ground.user,
            &[("tcp=127.0.0.1,3128", &["SUCCEEDED"])],
        );
        let other = agent.create(json!({"network": "none"}));
        held(
            &mut agent,
            &other,
            ground.user,
            &[("tcp=127.0.0.1,3128", &["ECONNREFUSED"])],
        );
        let mut neighbour = Agent::start(&ground, &[]);
        let third = neighbour.create(json!({}));
        held(
            &mut neighbour,
            &third,
            ground.user,
            &[("tcp=127.0.0.1,3128", &["ECONNREFUSED"])],
        );
        assert!(
            TcpStream::connect("127.0.0.1:3128").is_err(),
            "anybody reaches it"
        );
        // A fork has one of its own, with the same list.
        let forks = agent.ok("environment_fork", on(&granted, json!({})));
        let fork = forks["environments"][0]["environment"]
            .as_str()
            .unwrap()
            .to_owned();
        let answer = ask(
            &mut agent,
            &fork,
            b"CONNECT b.example.org:443 HTTP/1.1\r\nHost: b.example.org\r\n\r\n",
        );
        assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
        neighbour.leave();
        agent.leave();
    }
}

/// Gain: the machine's own network by a name on the list: cloud credentials (169.254.169.254), loopback, private addresses, the
/// machine itself; another server by another name in the tunnel (domain fronting), another protocol, or a second request hidden
/// in the first.
/// Must happen: what is allowed passes; each of these is refused before a byte is sent.
/// Guard: `Reach::check` and `check_ends` (`agents/src/egress/address.rs`), one look-up (`route.rs`), `look_inside`
/// (`connection.rs`), `http.rs`.
/// Seen to fail: with each of them left out; see `CASES.md` for two that others stand behind.
#[test]
fn names_that_point_inside_other_names_in_tunnels_and_smuggled_requests() {
    if !requirement::program("ip") || !requirement::program("unshare") {
        return;
    }
    for ground in everyone() {
        let mut wild = Wild::start(&ground);
        let connect = |name: &str, then: &[u8]| {
            [
                format!("CONNECT {name}:443 HTTP/1.1\r\nHost: {name}:443\r\n\r\n").as_bytes(),
                then,
            ]
            .concat()
        };
        let passed = wild.ask(&connect(
            "good.example.org",
            &client_hello("good.example.org"),
        ));
        assert!(
            passed.starts_with("HTTP/1.1 200") && passed.contains("upstream 443"),
            "as {}: {passed}",
            ground.user
        );
        let passed =
            wild.ask(b"GET http://good.example.org/ HTTP/1.1\r\nHost: good.example.org\r\n\r\n");
        assert!(passed.contains("upstream 80"), "{passed}");
        let before = wild.record_with("Connection: close\r\n\r\n");
        for name in ["meta", "loop", "private", "own", "mapped"] {
            let answer = wild.ask(&connect(
                &format!("{name}.example.org"),
                &client_hello("good.example.org"),
            ));
            assert!(
                answer.starts_with("HTTP/1.1 403"),
                "{name} as {}: {answer}",
                ground.user
            );
        }
        for hello in [
            "other.example.org",
            "evil.example",
            "GOOD.example.org.evil",
            "",
        ] {
            let answer = wild.ask(&connect("good.example.org", &client_hello(hello)));
            assert!(!answer.contains("upstream"), "{hello}: {answer}");
        }
        for first in [
            &b"SSH-2.0-x\r\n"[..],
            b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n",
            b"\x00\x01",
            b"\x16\x03\x01\x00\x02\x00\x00",
        ] {
            let answer = wild.ask(&connect("good.example.org", first));
            assert!(!answer.contains("upstream"), "{first:?}: {answer}");
        }
        for head in [
            "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
            "Content-Length: 4\r\nContent-Length: 40\r\n",
            "Transfer-Encoding: chunked, identity\r\n",
            "Transfer-Encoding: xchunked\r\n",
            "Transfer-Encoding\u{b}: chunked\r\n",
            "Host: evil.example\r\n",
            "X: y\r\n Host: evil.example\r\n",
            "X: y\nHost: evil.example\r\n",
        ] {
            let request = format!(
                "POST http://good.example.org/ HTTP/1.1\r\nHost: good.example.org\r\n{head}\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: good.example.org\r\n\r\n"
            );
            let answer = wild.ask(request.as_bytes());
            assert!(answer.starts_with("HTTP/1.1 4"), "{head:?}: {answer}");
        }
        assert_eq!(
            wild.record(),
            before,
            "as {}: nothing more was sent",
            ground.user
        );
        // A second request after a first that is whole is not passed on.
        wild.ask(b"GET http://good.example.org/first HTTP/1.1\r\nHost: good.example.org\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: evil.example\r\n\r\n");
        let record = wild.record();
        assert!(
            record.contains("/first") && !record.contains("smuggled"),
            "{record}"
        );
        let attacks = all(&["tcp=11.0.0.2,443", "udp=11.0.0.2,443"], &["ENETUNREACH"]);
        held(&mut wild.agent, &wild.environment, ground.user, &attacks);
        wild.agent.leave();
    }
}

/// Gain: the machine's own network by a name that points to a public address when it is checked and to 169.254.169.254 when it
/// is connected to, or to both at once.
/// Must happen: one look-up for one request, and the connection goes to the address that was checked; an answer that has an
/// address that is not public is refused whole, whatever the answer before was.
/// Guard: `connect` and `addresses` (`agents/src/egress/route.rs`), `Reach::check` (`address.rs`).
/// Seen to fail: with a second look-up where `connect` connects; with `Reach::check` allowing all.
#[test]
fn names_that_point_elsewhere_from_one_look_up_to_the_next() {
    if !requirement::program("ip") || !requirement::program("unshare") {
        return;
    }
    for ground in everyone() {
        let mut wild = Wild::start(&ground);
        let get = |name: &str, path: &str| {
            format!(
                "GET http://{name}.example.org/{path} HTTP/1.1\r\nHost: {name}.example.org\r\n\r\n"
            )
            .into_bytes()
        };
        // At both addresses somebody answers: whoever is asked again connects to the second.
        let answer = wild.ask(&get("turns", "first"));
        assert!(
            answer.contains("upstream 80"),
            "as {}: {answer}",
            ground.user
        );
        assert_eq!(wild.looked_up("turns.example.org"), 1, "as {}", ground.user);
        let before = wild.record_with("Connection: close\r\n\r\n");
        assert!(before.contains("/first"), "{before}");
        for path in ["second", "third"] {
            let answer = wild.ask(&get("turns", path));
            assert!(
                answer.starts_with("HTTP/1.1 403") && answer.contains("link-local"),
                "as {}: {answer}",
                ground.user
            );
        }
        let tunnel =
            b"CONNECT turns.example.org:443 HTTP/1.1\r\nHost: turns.example.org:443\r\n\r\n";
        let answer = wild.ask(&[&tunnel[..], &client_hello("turns.example.org")].concat());
        assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
        for _ in 0..2 {
            let answer = wild.ask(&get("both", "both"));
            assert!(
                answer.starts_with("HTTP/1.1 403"),
                "as {}: {answer}",
                ground.user
            );
        }
        assert_eq!(
            wild.record(),
            before,
            "as {}: nothing more was sent",
            ground.user
        );
        // A refusal is not remembered either: the next answer is judged by itself.
        let answer = wild.ask(&get("back", "inside"));
        assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
        let answer = wild.ask(&get("back", "outside"));
        assert!(answer.contains("upstream 80"), "{answer}");
        assert!(!wild.record().contains("/inside"));
        wild.agent.leave();
    }
}

/// Gain: everything, where the machine's network was asked for without being granted, or granted by a list that is empty.
/// Must happen: refused; what is granted by the command line is all there is.
/// Guard: `Grants::network` (`envd/src/agents/grants.rs`).
/// Seen to fail: with `Network::Host` always granted.
#[test]
fn the_machines_network_is_not_had_by_asking() {
    let Some(ground) = one() else { return };
    for options in [&[][..], &["--allow-host", "a.example.org"]] {
        let mut agent = Agent::start(&ground, options);
        agent.fails("environment_create", json!({"network": "host"}));
        let environment = agent.create(json!({}));
        held(
            &mut agent,
            &environment,
            ground.user,
            &[("tcp=192.0.2.1,80", &["ENETUNREACH"])],
        );
        agent.leave();
    }
}
