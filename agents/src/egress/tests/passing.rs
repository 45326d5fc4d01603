//! What is allowed gets through unharmed, is counted, and ends.

use super::*;

#[tokio::test]
async fn a_request_arrives_written_anew() {
    let mut plan = Plan::new(&["allowed.example.org"]);
    plan.secrets.push(secret("X-Token: {}", "hush hush"));
    let mut world = plan.start().await;
    let request = "GET HTTP://Allowed.Example.ORG?q=1 HTTP/1.1\r\nhost: ALLOWED.example.org:80\r\n\
                   Proxy-Connection: keep-alive\r\nProxy-Authorization: Basic eA==\r\nConnection: close, X-Hop\r\n\
                   X-Hop: 1\r\nKeep-Alive: 5\r\nTE: trailers\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n\
                   x-token: forged\r\nAccept: */*\r\n\r\n";
    let answer = text(&world.say(request.as_bytes()).await);
    let arrived = "GET /?q=1 HTTP/1.1\r\nHost: allowed.example.org\r\nAccept: */*\r\nX-Token: hush hush\r\n\
                   Accept-Encoding: identity\r\nConnection: close\r\n\r\n";
    assert_eq!(world.arrived(), [arrived.as_bytes()]);
    // It came back, and did not get in.
    let masked = arrived.replace("hush hush", "*********");
    assert_eq!(answer, format!("{}{masked}", text(ECHO)));
    let allowed = world.event().await;
    let json = serde_json::to_value(&allowed).unwrap();
    assert_eq!(json["event"], "allowed");
    assert_eq!(json["rule"], "allowed.example.org");
    assert_eq!(json["protocol"], "http");
    let closed = world.event().await;
    let Event::Closed {
        sent,
        received,
        ending,
        port: 80,
        ..
    } = closed
    else {
        panic!("{closed:?}");
    };
    assert_eq!(sent, arrived.len() as u64);
    assert_eq!(received, answer.len() as u64);
    assert_eq!(ending, Ending::Finished);
}

#[tokio::test]
async fn a_body_arrives_whole() {
    let world = Plan::new(&["allowed.example.org"]).start().await;
    let large = "x".repeat(1_000_000);
    let chunked = format!("{:x}\r\n{large}\r\n3\r\nabc\r\n0\r\n\r\n", large.len());
    for (field, body) in [
        ("Content-Length: 0", String::new()),
        ("Content-Length: 1000000", large.clone()),
        ("Transfer-Encoding: chunked", chunked),
    ] {
        let request = format!(
            "PUT http://allowed.example.org/x HTTP/1.1\r\nHost: allowed.example.org\r\n{field}\r\n\r\n{body}"
        );
        let answer = text(&world.say(request.as_bytes()).await);
        let arrived = format!(
            "PUT /x HTTP/1.1\r\nHost: allowed.example.org\r\n{field}\r\nConnection: close\r\n\r\n{body}"
        );
        assert!(answer.ends_with(&arrived), "{field}");
    }
}

#[tokio::test]
async fn tls_for_the_name_passes_byte_for_byte() {
    let mut world = Plan::new(&["allowed.example.org", "*.example.org:8443"])
        .start()
        .await;
    let message = hello_message(&[
        (21, vec![0; 3000]),
        server_names(&["Allowed.example.org"]),
        (0xfe0d, vec![0; 40]),
    ]);
    for (port, size) in [
        (443, 1 << 14),
        (443, 1),
        (443, 1000),
        (8443, 77),
        (80, 1 << 14),
    ] {
        let mut tls = records(&message, size);
        // What follows the first message is nobody's business.
        tls.extend_from_slice(&[23, 3, 3, 0, 5, 1, 2, 3, 4, 5]);
        let target = format!("allowed.example.org:{port}");
        let answer = world
            .say(&[connect_request(&target), tls.clone()].concat())
            .await;
        assert_eq!(answer, [ESTABLISHED, ECHO, &tls].concat(), "{port} {size}");
        let answer = world
            .say(&[socks_request(b"Allowed.Example.Org", port), tls.clone()].concat())
            .await;
        assert!(answer.starts_with(&[5, 0, 5, 0]), "{port} {size}");
        assert!(answer.ends_with(&tls), "{port} {size}");
        for protocol in [Protocol::Connect, Protocol::Socks5] {
            let allowed = world.event().await;
            assert!(matches!(allowed, Event::Allowed { protocol: p, .. } if p == protocol));
            assert!(matches!(
                world.event().await,
                Event::Closed {
                    ending: Ending::Finished,
                    ..
                }
            ));
        }
    }
}

/// A real client's message, post-quantum key shares and all.
#[tokio::test]
async fn the_hello_of_a_real_tls_client_passes() {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let name = "allowed.example.org".try_into().unwrap();
    let mut client = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    let world = Plan::new(&["allowed.example.org"]).start().await;
    let answer = world
        .say(&[connect_request("allowed.example.org:443"), hello.clone()].concat())
        .await;
    assert!(answer.ends_with(&hello));
}

#[tokio::test]
async fn http_in_a_tunnel_passes_for_the_name() {
    let world = Plan::new(&["allowed.example.org", "allowed.example.org:8443"])
        .start()
        .await;
    for (port, host) in [
        (80, "allowed.example.org"),
        (80, "Allowed.example.org:80"),
        (8443, "allowed.example.org:8443"),
    ] {
        let request = format!("GET /x HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let target = format!("allowed.example.org:{port}");
        let answer = text(
            &world
                .say(&[connect_request(&target), request.into_bytes()].concat())
                .await,
        );
        assert!(
            answer.contains("GET /x HTTP/1.1\r\nHost: allowed.example.org"),
            "{answer}"
        );
    }
}

/// ssh, databases: the owner said so, and the server may speak first.
#[tokio::test]
async fn with_tcp_anything_passes() {
    let mut plan = Plan::new(&["allowed.example.org:8443/tcp"]);
    plan.ports = Vec::new();
    let here = own_address();
    plan.names
        .push(("allowed.example.org", vec![vec![here.into()]]));
    let listener = tokio::net::TcpListener::bind((here, 8443)).await.unwrap();
    let mut world = plan.start().await;
    let mut client = world.connect().await;
    client
        .write_all(&connect_request("allowed.example.org:8443"))
        .await
        .unwrap();
    let accepted = timeout(PATIENCE, listener.accept())
        .await
        .expect("a connection");
    let (mut server, _) = accepted.unwrap();
    server.write_all(b"SSH-2.0-server\r\n").await.unwrap();
    let mut banner = vec![0; ESTABLISHED.len() + 16];
    client.read_exact(&mut banner).await.unwrap();
    assert!(banner.ends_with(b"SSH-2.0-server\r\n"));
    client.write_all(b"\0\x01\x02").await.unwrap();
    let mut bytes = [0; 3];
    server.read_exact(&mut bytes).await.unwrap();
    assert_eq!(bytes, [0, 1, 2]);
    // Each side's end is the other's.
    client.shutdown().await.unwrap();
    assert_eq!(server.read(&mut bytes).await.unwrap(), 0);
    drop(server);
    assert_eq!(read_to_end(&mut client).await, b"");
    assert!(matches!(world.event().await, Event::Allowed { rule, .. } if rule.is_opaque()));
    assert!(matches!(
        world.event().await,
        Event::Closed {
            sent: 3,
            received: 16,
            ending: Ending::Finished,
            ..
        }
    ));
}

/// A name with an address that does not answer is reached by the next.
#[tokio::test]
async fn every_address_is_tried() {
    let mut plan = Plan::new(&["*.example.org"]);
    plan.ports = Vec::new();
    let here = own_address();
    let _server = Origin::start(here, 80).await;
    let dead: [IpAddr; 2] = [own_address().into(), own_address().into()];
    let several = vec![dead[0], dead[1], here.into()];
    plan.names.push(("several.example.org", vec![several]));
    plan.names.push(("dead.example.org", vec![dead.to_vec()]));
    plan.names.push(("none.example.org", vec![Vec::new()]));
    let mut world = plan.start().await;
    let request = |name: &str| format!("GET http://{name}/ HTTP/1.1\r\nHost: {name}\r\n\r\n");
    let answer = world.say(request("several.example.org").as_bytes()).await;
    assert!(answer.starts_with(ECHO), "{}", text(&answer));
    assert!(matches!(world.event().await, Event::Allowed { address, .. } if address == here));
    assert!(matches!(world.event().await, Event::Closed { .. }));
    let answer = text(&world.say(request("dead.example.org").as_bytes()).await);
    assert!(
        answer.starts_with("HTTP/1.1 502 ") && answer.contains("connection refused"),
        "{answer}"
    );
    assert_eq!(world.refusal().await.reason(), "unreachable");
    world.say(request("none.example.org").as_bytes()).await;
    assert_eq!(world.refusal().await.reason(), "unresolved");
}

#[tokio::test]
async fn a_denial_is_something_to_act_on() {
    let mut world = Plan::new(&["allowed.example.org"]).start().await;
    let answer = text(&world.say(&connect_request("example.com:443")).await);
    let message = "envd: example.com:443 is not on this environment's network list. Ask the owner to add \"example.com\" to \
                   [agent] network in the user's config.toml of envd";
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(
        head.starts_with(&format!("HTTP/1.1 403 {message}\r\n")),
        "{head}"
    );
    assert!(
        head.contains("\r\nX-Envd-Refusal: not-listed\r\n"),
        "{head}"
    );
    assert_eq!(body, format!("{message}\n"));
    let json = serde_json::to_value(world.event().await).unwrap();
    assert_eq!(json["event"], "refused");
    assert_eq!(json["name"], "example.com");
    assert_eq!(json["port"], 443);
    assert_eq!(json["refusal"]["reason"], "not-listed");
    assert_eq!(json["refusal"]["missing_rule"], "example.com");
    // What a client wrote stays within one line and is repeated in part only.
    let long = format!("GET http://a@{} HTTP/1.1\r\n\r\n", "b\x01".repeat(1000));
    let answer = text(&world.say(long.as_bytes()).await);
    assert!(answer.len() < 1000 && !answer.contains('\x01'), "{answer}");
}

#[tokio::test]
async fn who_does_not_finish_asking_is_let_go() {
    let tunnel = connect_request("allowed.example.org:443");
    let other = connect_request("allowed.example.org:8443");
    let hello = hello_for("allowed.example.org");
    let cases = [
        (Vec::new(), "slow"),
        (b"GET http://allowed".to_vec(), "slow"),
        (vec![5], "slow"),
        (tunnel.clone(), "silent"),
        (other, "silent"),
        ([&tunnel, &hello[..20]].concat(), "slow"),
    ];
    let mut all = JoinSet::new();
    for (bytes, reason) in cases {
        all.spawn(async move {
            let mut plan = Plan::new(&["allowed.example.org", "allowed.example.org:8443"]);
            plan.limits.opening = Duration::from_secs(3);
            let mut world = plan.start().await;
            world.say_and_wait(&bytes).await;
            assert_eq!(world.refusal().await.reason(), reason);
            assert_eq!(world.arrived(), Vec::<Vec<u8>>::new());
        });
    }
    all.join_all().await;
}

/// A connection is made for a tunnel before anything is said in it, which by itself may tell the server something.
#[tokio::test]
async fn a_tunnel_that_was_never_used_is_on_record() {
    let mut world = Plan::new(&["allowed.example.org"]).start().await;
    let answer = world.say(&connect_request("allowed.example.org:443")).await;
    assert_eq!(answer, ESTABLISHED);
    assert!(matches!(world.event().await, Event::Allowed { .. }));
    let closed = world.event().await;
    assert!(matches!(
        closed,
        Event::Closed {
            sent: 0,
            received: 0,
            ending: Ending::Broken,
            ..
        }
    ));
    // The same when the environment ends meanwhile.
    let mut client = world.connect().await;
    client
        .write_all(&connect_request("allowed.example.org:443"))
        .await
        .unwrap();
    let mut answer = vec![0; ESTABLISHED.len()];
    client.read_exact(&mut answer).await.unwrap();
    let rest = world.end().await;
    let recorded = matches!(
        &rest[..],
        [
            Event::Allowed { .. },
            Event::Closed {
                ending: Ending::Cancelled,
                ..
            }
        ]
    );
    assert!(recorded, "{rest:?}");
}

#[tokio::test]
async fn a_connection_that_carries_nothing_ends() {
    let mut plan = Plan::new(&["allowed.example.org"]);
    plan.limits.idle = Duration::from_millis(100);
    let mut world = plan.start().await;
    let tunnel = connect_request("allowed.example.org:443");
    world
        .say_and_wait(&[tunnel, hello_for("allowed.example.org")].concat())
        .await;
    assert!(matches!(world.event().await, Event::Allowed { .. }));
    assert!(matches!(
        world.event().await,
        Event::Closed {
            ending: Ending::Idle,
            ..
        }
    ));
}

/// Slow clients take slots, not memory: the next one waits its turn and gets it.
#[tokio::test]
async fn no_more_connections_than_allowed_at_a_time() {
    let mut plan = Plan::new(&["allowed.example.org"]);
    plan.limits.connections = 2;
    let mut world = plan.start().await;
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut stream = world.connect().await;
        stream
            .write_all(&connect_request("allowed.example.org:443"))
            .await
            .unwrap();
        let mut answer = vec![0; ESTABLISHED.len()];
        stream.read_exact(&mut answer).await.unwrap();
        held.push(stream);
    }
    let mut third = world.connect().await;
    third
        .write_all(&connect_request("example.com:443"))
        .await
        .unwrap();
    // Were it served, its refusal would come before those of the others, which are made only now.
    for stream in &mut held {
        stream.write_all(b"not TLS").await.unwrap();
    }
    assert_eq!(world.refusal().await.reason(), "not-tls");
    drop(held);
    assert_eq!(world.refusal().await.reason(), "not-tls");
    assert_eq!(world.refusal().await.reason(), "not-listed");
    assert!(text(&read_to_end(&mut third).await).starts_with("HTTP/1.1 403"));
}

#[tokio::test]
async fn an_environment_transfers_no_more_than_its_budget() {
    let mut plan = Plan::new(&["allowed.example.org"]);
    plan.limits.total_bytes = Some(100_000);
    let mut world = plan.start().await;
    let body = "x".repeat(80_000);
    let request = format!(
        "PUT http://allowed.example.org/ HTTP/1.1\r\nHost: allowed.example.org\r\nContent-Length: 80000\r\n\r\n{body}"
    );
    let answer = world.say(request.as_bytes()).await;
    assert!(answer.len() < 80_000, "{}", answer.len());
    assert!(matches!(world.event().await, Event::Allowed { .. }));
    assert!(matches!(
        world.event().await,
        Event::Closed {
            ending: Ending::Budget,
            ..
        }
    ));
    world.say(request.as_bytes()).await;
    assert_eq!(world.refusal().await, Refusal::Budget);
}

/// Nothing of an environment outlives it.
#[tokio::test]
async fn its_end_ends_every_connection() {
    let mut world = Plan::new(&["allowed.example.org"]).start().await;
    let mut tunnel = world.connect().await;
    let request = [
        connect_request("allowed.example.org:443"),
        hello_for("allowed.example.org"),
    ]
    .concat();
    tunnel.write_all(&request).await.unwrap();
    assert!(matches!(world.event().await, Event::Allowed { .. }));
    let mut asking = world.connect().await;
    asking.write_all(b"GET http://").await.unwrap();
    let proxy = world.proxy;
    let rest = world.end().await;
    let [
        Event::Closed {
            ending: Ending::Cancelled,
            ..
        },
    ] = &rest[..]
    else {
        panic!("{rest:?}");
    };
    assert!(read_to_end(&mut tunnel).await.ends_with(ESTABLISHED));
    read_to_end(&mut asking).await;
    assert!(TcpStream::connect(proxy).await.is_err());
}

/// More than what is copied before a pipe is used, both ways, in odd sizes.
#[tokio::test]
async fn a_large_transfer_arrives_whole() {
    let mut world = Plan::new(&["allowed.example.org"]).start().await;
    let hello = hello_for("allowed.example.org");
    let bytes: Vec<u8> = (0..5_000_003_u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let mut client = world.connect().await;
    client
        .write_all(&[connect_request("allowed.example.org:443"), hello.clone()].concat())
        .await
        .unwrap();
    client.write_all(&bytes).await.unwrap();
    client.shutdown().await.unwrap();
    let answer = read_to_end(&mut client).await;
    assert!(answer == [ESTABLISHED, ECHO, &hello, &bytes].concat());
    world.event().await;
    let carried = (hello.len() + bytes.len()) as u64;
    let Event::Closed { sent, received, .. } = world.event().await else {
        panic!("not closed");
    };
    assert_eq!((sent, received), (carried, carried + ECHO.len() as u64));
}
