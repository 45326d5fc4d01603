//! Secrets in headers: they go to their host, over TLS where that is said, and do not come back.

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::PrivateKeyDer;
use tokio_rustls::TlsAcceptor;

use super::*;

/// A server that speaks TLS as `name` and sends back what it gets; and what a client needs to trust it.
async fn tls_origin(address: Ipv4Addr, name: &str) -> (Origin, rustls::ClientConfig) {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    let provider = || Arc::new(rustls::crypto::ring::default_provider());
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
    let server = rustls::ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(cert.der().clone()).unwrap();
    let client = rustls::ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let listener = tokio::net::TcpListener::bind((address, LOW_PORTS_AT + 443))
        .await
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(server));
    let received = Arc::new(Mutex::new(Vec::new()));
    let record = received.clone();
    let task = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (acceptor, record) = (acceptor.clone(), record.clone());
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else {
                    return;
                };
                let mut bytes = Vec::new();
                while !(bytes.ends_with(b"\r\n\r\n") || bytes.ends_with(b"the body")) {
                    if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                        return;
                    }
                }
                record.lock().unwrap().push(bytes.clone());
                drop(stream.write_all(&[ECHO, &bytes].concat()).await);
                drop(stream.shutdown().await);
            });
        }
    });
    (Origin { received, task }, client)
}

/// A proxy with a secret for `allowed.example.org`, and a server there that speaks TLS as `name`.
async fn over_tls(rules: &[&'static str], name: &str) -> (World, Origin) {
    let here = own_address();
    let (origin, client) = tls_origin(here, name).await;
    let mut plan = Plan::new(rules);
    plan.ports = Vec::new();
    plan.names
        .push(("allowed.example.org", vec![vec![here.into()]]));
    plan.secrets
        .push(header("Authorization: Bearer {}", "hush hush", true));
    plan.tls = Some(client);
    (plan.start().await, origin)
}

const GET: &[u8] =
    b"GET http://allowed.example.org/user HTTP/1.1\r\nHost: allowed.example.org\r\n\r\n";

#[tokio::test]
async fn a_plain_request_leaves_over_tls_with_the_secret() {
    let (mut world, origin) = over_tls(&["allowed.example.org"], "allowed.example.org").await;
    let post = b"POST http://allowed.example.org/user HTTP/1.1\r\nHost: allowed.example.org\r\n\
                 authorization: Bearer forged\r\nContent-Length: 8\r\n\r\nthe body";
    let tunnelled = [
        connect_request("allowed.example.org:80"),
        b"GET /user HTTP/1.1\r\nHost: allowed.example.org\r\n\r\n".to_vec(),
    ]
    .concat();
    for asked in [GET, &tunnelled, post] {
        let answer = text(&world.say(asked).await);
        assert!(
            answer.contains("Authorization: Bearer *********\r\n"),
            "{answer}"
        );
        assert!(!answer.contains("hush"), "{answer}");
        let allowed = world.event().await;
        assert!(
            matches!(allowed, Event::Allowed { port: 443, .. }),
            "{allowed:?}"
        );
        let closed = world.event().await;
        assert!(
            matches!(
                closed,
                Event::Closed {
                    ending: Ending::Finished,
                    ..
                }
            ),
            "{closed:?}"
        );
        assert!(!format!("{allowed:?}{closed:?}").contains("hush"));
    }
    let arrived = origin.received.lock().unwrap().clone();
    assert_eq!(arrived.len(), 3);
    for request in arrived {
        let request = text(&request);
        assert!(
            request.contains("\r\nHost: allowed.example.org\r\n"),
            "{request}"
        );
        assert!(
            request.contains("\r\nAuthorization: Bearer hush hush\r\n"),
            "{request}"
        );
        assert!(!request.contains("forged"), "{request}");
    }
}

/// Whoever answers in the place of the host gets nothing.
#[tokio::test]
async fn a_server_that_is_not_the_host_gets_no_secret() {
    let (mut world, origin) = over_tls(&["allowed.example.org"], "other.example.org").await;
    let answer = text(&world.say(GET).await);
    assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
    let refusal = world.refusal().await;
    assert_eq!(refusal.reason(), "tls");
    assert!(!format!("{refusal:?} {refusal} {answer}").contains("hush"));
    assert!(origin.received.lock().unwrap().is_empty());
}

/// The list holds for the port that is connected to, too.
#[tokio::test]
async fn tls_goes_only_to_a_port_on_the_list() {
    let (mut world, origin) = over_tls(&["allowed.example.org:80"], "allowed.example.org").await;
    world.say(GET).await;
    assert_eq!(world.refusal().await.reason(), "port-not-listed");
    assert!(origin.received.lock().unwrap().is_empty());
}

#[tokio::test]
async fn without_certificates_the_secret_stays() {
    let mut plan = Plan::new(&["allowed.example.org"]);
    plan.secrets
        .push(header("Authorization: Bearer {}", "hush hush", true));
    let mut world = plan.start().await;
    world.say(GET).await;
    assert_eq!(world.refusal().await.reason(), "tls");
    assert_eq!(world.arrived(), Vec::<Vec<u8>>::new());
}

/// No other host and no other port gets it.
#[tokio::test]
async fn a_secret_goes_to_its_host_and_port_alone() {
    let mut plan = Plan::new(&["*.example.org", "allowed.example.org:8443"]);
    plan.secrets
        .push(secret("Authorization: Bearer {}", "hush hush"));
    let mut world = plan.start().await;
    for (number, (authority, gets_it)) in (0..).zip([
        ("allowed.example.org", true),
        ("allowed.example.org:80", true),
        ("other.example.org", false),
        ("allowed.example.org:8443", false),
    ]) {
        let line = format!("GET http://{authority}/{number} HTTP/1.1\r\n");
        let request = format!("{line}Host: {authority}\r\n\r\n");
        let answer = text(&world.say(request.as_bytes()).await);
        assert!(!answer.contains("hush"), "{authority}: {answer}");
        let arrived = world.arrived();
        let ours = arrived
            .iter()
            .map(|request| text(request))
            .find(|request| request.starts_with(&format!("GET /{number} ")))
            .unwrap();
        assert_eq!(ours.contains("Bearer hush hush"), gets_it, "{ours}");
        for _ in 0..2 {
            assert!(!format!("{:?}", world.event().await).contains("hush"));
        }
    }
}

#[test]
fn what_cannot_be_a_header_is_refused_without_being_repeated() {
    let host: HostName = "allowed.example.org".parse().unwrap();
    let header = Header::parse("X: {}", host, 80, true).unwrap();
    for value in ["hush\r\nHost: evil", "hush\0", "hush ", "hüsh"] {
        let error = SecretHeader::of(&header, &Secret::new(value)).unwrap_err();
        assert!(!format!("{error:?} {error}").contains("sh"), "{error:?}");
    }
    let secret = SecretHeader::of(&header, &Secret::new("hush hush")).unwrap();
    assert!(!format!("{secret:?}").contains("hush"));
}
