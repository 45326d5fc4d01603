//! Requests made to mean one thing to the proxy and another to the server.

use super::{
    adversary::{RULES, all_refused},
    *,
};

#[tokio::test]
async fn requests_that_two_readers_read_differently() {
    let get =
        |rest: &str| format!("GET http://allowed.example.org/ HTTP/1.1\r\n{rest}").into_bytes();
    let host = "Host: allowed.example.org\r\n";
    let with = |fields: &str| get(&format!("{host}{fields}\r\n"));
    let line = |line: &str| format!("{line}\r\n{host}\r\n").into_bytes();
    let cases = vec![
        ("another host by Host", get("Host: other.example.org\r\n\r\n"), "bad-request"),
        ("another port by Host", get("Host: allowed.example.org:8443\r\n\r\n"), "bad-request"),
        ("an address by Host", get("Host: 127.0.0.1\r\n\r\n"), "not-a-name"),
        ("two hosts", with("Host: other.example.org\r\n"), "bad-request"),
        ("the same host twice", with(host), "bad-request"),
        ("a host in a list", get("Host: allowed.example.org, other.example.org\r\n\r\n"), "not-a-name"),
        ("no host", get("\r\n"), "bad-request"),
        ("an empty host", get("Host:\r\n\r\n"), "not-a-name"),
        ("a name with a space before the colon", with("Host : other.example.org\r\n"), "bad-request"),
        ("CL.TE", with("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n"), "bad-request"),
        ("TE.CL", with("Transfer-Encoding: chunked\r\nContent-Length: 4\r\n"), "bad-request"),
        ("two lengths", with("Content-Length: 4\r\nContent-Length: 5\r\n"), "bad-request"),
        ("the same length twice", with("Content-Length: 4\r\nContent-Length: 4\r\n"), "bad-request"),
        ("a list of lengths", with("Content-Length: 4, 4\r\n"), "bad-request"),
        ("a length with a sign", with("Content-Length: +4\r\n"), "bad-request"),
        ("a negative length", with("Content-Length: -1\r\n"), "bad-request"),
        ("a hexadecimal length", with("Content-Length: 0x10\r\n"), "bad-request"),
        ("a length that overflows", with("Content-Length: 18446744073709551616\r\n"), "bad-request"),
        ("an empty length", with("Content-Length:\r\n"), "bad-request"),
        ("two encodings", with("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n"), "bad-request"),
        ("a list of encodings", with("Transfer-Encoding: gzip, chunked\r\n"), "bad-request"),
        ("an unknown encoding", with("Transfer-Encoding: xchunked\r\n"), "bad-request"),
        ("a hidden encoding", with("Transfer-Encoding: \x0bchunked\r\n"), "bad-request"),
        ("an encoding in HTTP/1.0", b"POST http://allowed.example.org/ HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec(), "bad-request"),
        ("a folded field", with("X: a\r\n Host: other.example.org\r\n"), "bad-request"),
        ("a folded first field", get(" Host: other.example.org\r\n\r\n"), "bad-request"),
        ("a line feed that some take for an end", with("X: a\nY: b\r\n"), "bad-request"),
        ("a bare line feed", with("X: a\nHost: other.example.org\r\n"), "bad-request"),
        ("a bare carriage return", with("X: a\rHost: other.example.org\r\n"), "bad-request"),
        ("a head that ends early for some", get("\n\r\nHost: other.example.org\r\n\r\n"), "bad-request"),
        ("only line feeds", b"GET http://allowed.example.org/ HTTP/1.1\nHost: allowed.example.org\n\n".to_vec(), "bad-request"),
        ("NUL in a field", with("X: a\0b\r\n"), "bad-request"),
        ("DEL in a field", with("X: a\x7fb\r\n"), "bad-request"),
        ("a field without a name", with(": x\r\n"), "bad-request"),
        ("a field without a colon", with("X\r\n"), "bad-request"),
        ("a Connection that drops Host", with("Connection: close, host\r\n"), "bad-request"),
        ("a Connection that drops the length", with("Content-Length: 4\r\nConnection: Content-Length\r\n"), "bad-request"),
        ("too many fields", with(&"X: y\r\n".repeat(200)), "bad-request"),
        ("a head without an end", with(&format!("X: {}\r\n", "y".repeat(40_000))), "bad-request"),
        ("half a head", b"GET http://allowed.example.org/ HTTP/1.1\r\nHost:".to_vec(), "bad-request"),
        ("an empty line first", b"\r\nGET http://allowed.example.org/ HTTP/1.1\r\n\r\n".to_vec(), "unknown-protocol"),
        ("two spaces", line("GET  http://allowed.example.org/ HTTP/1.1"), "bad-request"),
        ("a tab", line("GET\thttp://allowed.example.org/ HTTP/1.1"), "bad-request"),
        ("four words", line("GET http://allowed.example.org/ x HTTP/1.1"), "bad-request"),
        ("HTTP/0.9", line("GET http://allowed.example.org/"), "bad-request"),
        ("HTTP/2", line("GET http://allowed.example.org/ HTTP/2.0"), "bad-request"),
        ("the preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), "bad-request"),
        ("a lower-case version", line("GET http://allowed.example.org/ http/1.1"), "bad-request"),
        ("a path alone", line("GET / HTTP/1.1"), "bad-request"),
        ("a relative path", line("GET allowed.example.org/ HTTP/1.1"), "bad-request"),
        ("another scheme", line("GET https://allowed.example.org/ HTTP/1.1"), "bad-request"),
        ("a local file", line("GET file:///etc/passwd HTTP/1.1"), "bad-request"),
        ("a user's name", line("GET http://allowed.example.org@evil.net/ HTTP/1.1"), "bad-request"),
        ("the same, turned round", line("GET http://evil.net@allowed.example.org/ HTTP/1.1"), "bad-request"),
        ("a backslash", line("GET http://evil.net\\.allowed.example.org/ HTTP/1.1"), "not-a-name"),
        ("a fragment", line("GET http://allowed.example.org/#@evil.net/ HTTP/1.1"), "bad-request"),
        ("no name at all", line("GET http:///etc HTTP/1.1"), "not-a-name"),
        ("an address", line("GET http://169.254.169.254/latest/meta-data/ HTTP/1.1"), "not-a-name"),
        ("an IPv6 address", line("GET http://[::1]:80/ HTTP/1.1"), "not-a-name"),
        ("plain HTTP where TLS belongs", line("GET http://allowed.example.org:443/ HTTP/1.1").replace_host(":443"), "not-tls"),
        ("a body in CONNECT", b"CONNECT allowed.example.org:443 HTTP/1.1\r\nHost: allowed.example.org:443\r\nContent-Length: 5\r\n\r\nhello".to_vec(), "bad-request"),
        ("a chunked body in CONNECT", b"CONNECT allowed.example.org:443 HTTP/1.1\r\nHost: allowed.example.org:443\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec(), "bad-request"),
        ("CONNECT with another Host", b"CONNECT allowed.example.org:443 HTTP/1.1\r\nHost: other.example.org:443\r\n\r\n".to_vec(), "bad-request"),
        ("CONNECT with another port in Host", b"CONNECT allowed.example.org:443 HTTP/1.1\r\nHost: allowed.example.org:80\r\n\r\n".to_vec(), "bad-request"),
        ("TLS to the proxy itself", hello_for("allowed.example.org"), "unknown-protocol"),
        ("noise", vec![0xff; 100], "unknown-protocol"),
    ];
    all_refused(&cases).await;
}

trait ReplaceHost {
    fn replace_host(self, port: &str) -> Vec<u8>;
}

impl ReplaceHost for Vec<u8> {
    /// Gives the Host field a port.
    fn replace_host(self, port: &str) -> Vec<u8> {
        let host = "Host: allowed.example.org";
        text(&self)
            .replace(host, &format!("{host}{port}"))
            .into_bytes()
    }
}

/// What follows a request was judged by nobody.
#[tokio::test]
async fn a_second_request_goes_nowhere() {
    let first = "POST http://allowed.example.org/a HTTP/1.1\r\nHost: allowed.example.org\r\n";
    let second = "GET /b HTTP/1.1\r\nHost: other.example.org\r\n\r\n";
    let bodies = [
        "Content-Length: 5\r\n\r\nhello",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "\r\n",
    ];
    for body in bodies {
        let world = Plan::new(&RULES).start().await;
        let answer = text(&world.say(format!("{first}{body}{second}").as_bytes()).await);
        assert!(answer.contains("POST /a HTTP/1.1\r\n"), "{answer}");
        assert!(!answer.contains("other.example.org"), "{answer}");
        let tunnel = connect_request("allowed.example.org:80");
        let inner = first.replace("http://allowed.example.org", "");
        let inside = [&tunnel, format!("{inner}{body}{second}").as_bytes()].concat();
        let answer = text(&world.say(&inside).await);
        assert!(answer.contains("POST /a HTTP/1.1\r\n"), "{answer}");
        assert!(!answer.contains("other.example.org"), "{answer}");
    }
}

/// Nor by what comes once the first request is under way.
#[tokio::test]
async fn a_later_request_goes_nowhere_either() {
    let mut world = Plan::new(&RULES).start().await;
    let mut client = world.connect().await;
    let first = "POST http://allowed.example.org/a HTTP/1.1\r\nHost: allowed.example.org\r\nContent-Length: 5\r\n\r\nhello";
    client.write_all(first.as_bytes()).await.unwrap();
    assert!(matches!(world.event().await, Event::Allowed { .. }));
    client
        .write_all(b"GET /b HTTP/1.1\r\nHost: other.example.org\r\n\r\n")
        .await
        .unwrap();
    client.shutdown().await.unwrap();
    assert!(text(&read_to_end(&mut client).await).ends_with("hello"));
}

/// A body whose end two readers see in two places ends the connection.
#[tokio::test]
async fn a_malformed_body_is_not_followed() {
    let head = "POST http://allowed.example.org/ HTTP/1.1\r\nHost: allowed.example.org\r\nTransfer-Encoding: chunked\r\n\r\n";
    for body in [
        "5;x=y\r\nhello\r\n0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5\r\nhelloo\r\n0\r\n\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        " 5\r\nhello\r\n0\r\n\r\n",
        "5 \r\nhello\r\n0\r\n\r\n",
        "\r\n0\r\n\r\n",
        "ffffffffffffffffff\r\nhello",
        "0\r\nHost: other.example.org\r\n\r\n",
    ] {
        let mut world = Plan::new(&RULES).start().await;
        world.say(format!("{head}{body}").as_bytes()).await;
        assert!(matches!(world.event().await, Event::Allowed { .. }));
        let event = world.event().await;
        let malformed = matches!(
            event,
            Event::Closed {
                ending: Ending::Malformed,
                ..
            }
        );
        assert!(malformed, "{body:?}: {event:?}");
    }
}
