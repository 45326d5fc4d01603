//! Tunnels asked for under one name and used for another.

use super::{adversary::all_refused, *};

#[tokio::test]
async fn tls_that_asks_for_another_host() {
    let name = "allowed.example.org";
    let sni = |name: &str| hello_message(&[server_names(&[name])]);
    let whole = |message: &[u8]| records(message, 1 << 14);
    let ech = (0xfe0d_u16, vec![0; 64]);
    let mut trailing = sni(name);
    trailing.push(0);
    let mut short = sni(name);
    short.truncate(short.len() - 1);
    let length = u32::try_from(short.len() - 4).unwrap().to_be_bytes();
    short[1..4].copy_from_slice(&length[1..]);
    let mut server_hello = sni(name);
    server_hello[0] = 2;
    let mut spread = records(&sni(name), 5);
    spread.splice(10..10, [20, 3, 3, 0, 1, 1]);
    let mut old = whole(&sni(name));
    old[1] = 2;
    let cases = vec![
        (
            "another host of the same server",
            whole(&sni("other.example.org")),
            "server-name-differs",
        ),
        (
            "the same in pieces",
            records(&sni("other.example.org"), 3),
            "server-name-differs",
        ),
        (
            "a host below",
            whole(&sni("a.allowed.example.org")),
            "server-name-differs",
        ),
        (
            "a dot at the end",
            whole(&sni("allowed.example.org.")),
            "server-name-differs",
        ),
        (
            "a NUL at the end",
            whole(&sni("allowed.example.org\0")),
            "server-name-differs",
        ),
        (
            "an address",
            whole(&sni("127.0.0.1")),
            "server-name-differs",
        ),
        (
            "letters that look alike",
            whole(&sni("аllowed.example.org")),
            "server-name-differs",
        ),
        (
            "no name, so the server's default host",
            whole(&hello_message(&[])),
            "no-server-name",
        ),
        (
            "the name of ECH alone",
            whole(&hello_message(std::slice::from_ref(&ech))),
            "no-server-name",
        ),
        (
            "ECH under another outer name",
            whole(&hello_message(&[
                server_names(&["cloudflare-ech.com"]),
                ech,
            ])),
            "server-name-differs",
        ),
        (
            "two names",
            whole(&hello_message(&[server_names(&[
                name,
                "other.example.org",
            ])])),
            "bad-hello",
        ),
        (
            "two extensions with a name",
            whole(&hello_message(&[
                server_names(&[name]),
                server_names(&["other.example.org"]),
            ])),
            "bad-hello",
        ),
        (
            "an empty list",
            whole(&hello_message(&[(0, vec![0, 0])])),
            "bad-hello",
        ),
        (
            "an empty name",
            whole(&hello_message(&[server_names(&[""])])),
            "bad-hello",
        ),
        (
            "a name of another type",
            whole(&hello_message(&[(0, vec![0, 4, 1, 0, 1, b'a'])])),
            "bad-hello",
        ),
        (
            "a length beyond the list",
            whole(&hello_message(&[(0, vec![0, 9, 0, 0, 1, b'a'])])),
            "bad-hello",
        ),
        ("a second message behind", whole(&trailing), "bad-hello"),
        ("a message cut short", whole(&short), "bad-hello"),
        ("another message", whole(&server_hello), "bad-hello"),
        ("a record of another kind between", spread, "bad-hello"),
        (
            "an empty record",
            [&[22, 3, 1, 0, 0][..], &whole(&sni(name))].concat(),
            "bad-hello",
        ),
        ("a record too long", vec![22, 3, 1, 0x40, 1], "bad-hello"),
        (
            "half a message",
            whole(&sni(name))[..40].to_vec(),
            "bad-hello",
        ),
        ("SSL 2", old, "bad-hello"),
        (
            "a message without an end",
            records(&[1, 0xff, 0xff, 0xff, 0, 0], 2),
            "bad-hello",
        ),
        (
            "much framing for little",
            records(
                &hello_message(&[(21, vec![0; 8000]), server_names(&[name])]),
                1,
            ),
            "bad-hello",
        ),
        (
            "more than anybody sends",
            records(
                &hello_message(&[(21, vec![0; 60_000]), server_names(&[name])]),
                1 << 14,
            ),
            "bad-hello",
        ),
        (
            "HTTP where TLS belongs",
            b"GET / HTTP/1.1\r\nHost: allowed.example.org:443\r\n\r\n".to_vec(),
            "not-tls",
        ),
        (
            "ssh where TLS belongs",
            b"SSH-2.0-x\r\n".to_vec(),
            "not-tls",
        ),
        ("noise where TLS belongs", vec![0; 64], "not-tls"),
        (
            "SSL 2 in its own framing",
            vec![0x80, 0x2e, 1, 3, 1],
            "not-tls",
        ),
    ];
    let by_connect: Vec<_> = cases
        .iter()
        .map(|(gain, bytes, reason)| {
            (
                *gain,
                [&connect_request("allowed.example.org:443"), &bytes[..]].concat(),
                *reason,
            )
        })
        .collect();
    all_refused(&by_connect).await;
    let by_socks: Vec<_> = cases
        .into_iter()
        .map(|(gain, bytes, reason)| {
            (
                gain,
                [socks_request(b"allowed.example.org", 443), bytes].concat(),
                reason,
            )
        })
        .collect();
    all_refused(&by_socks).await;
}

#[tokio::test]
async fn http_in_a_tunnel_that_addresses_another_host() {
    let get = |host: &str| format!("GET / HTTP/1.1\r\n{host}\r\n").into_bytes();
    let cases = [
        (
            "another host of the same server",
            80,
            get("Host: other.example.org\r\n"),
            "host-differs",
        ),
        (
            "another port",
            80,
            get("Host: allowed.example.org:8443\r\n"),
            "host-differs",
        ),
        (
            "the default port on another one",
            8443,
            get("Host: allowed.example.org\r\n"),
            "host-differs",
        ),
        (
            "two hosts",
            80,
            get("Host: allowed.example.org\r\nHost: other.example.org\r\n"),
            "bad-request",
        ),
        ("no host", 80, get(""), "bad-request"),
        (
            "no host in HTTP/1.0, so the server's default",
            80,
            b"GET / HTTP/1.0\r\n\r\n".to_vec(),
            "bad-request",
        ),
        (
            "a whole URL",
            80,
            b"GET http://other.example.org/ HTTP/1.1\r\nHost: other.example.org\r\n\r\n".to_vec(),
            "bad-request",
        ),
        (
            "a proxy behind",
            80,
            connect_request("other.example.org:443"),
            "bad-request",
        ),
        (
            "HTTP/2, whose hosts are not seen",
            80,
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
            "bad-request",
        ),
        (
            "another protocol",
            80,
            b"\0\0\0\x01".to_vec(),
            "neither-tls-nor-http",
        ),
        (
            "another protocol on another port",
            8443,
            b"\0\0\0\x01".to_vec(),
            "neither-tls-nor-http",
        ),
        ("ssh", 8443, b"SSH-2.0-x\r\n".to_vec(), "bad-request"),
        (
            "TLS for another host where HTTP belongs",
            80,
            hello_for("other.example.org"),
            "server-name-differs",
        ),
    ];
    let cases: Vec<_> = cases
        .into_iter()
        .map(|(gain, port, bytes, reason)| {
            let tunnel = connect_request(&format!("allowed.example.org:{port}"));
            (gain, [tunnel, bytes].concat(), reason)
        })
        .collect();
    all_refused(&cases).await;
}
