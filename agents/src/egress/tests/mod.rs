//! A proxy with servers of its own: names that resolve to this machine's loopback, and a record of every decision.

mod adversary;
mod clients;
mod lists;
mod namespace;
mod parsers;
mod passing;
mod secrets;
mod smuggling;
mod tunnels;

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::secret::{Header, Secret};

/// Added to ports below 1024.
const LOW_PORTS_AT: u16 = 20_000;
/// No test waits for it to pass; it ends one that would hang.
const PATIENCE: Duration = Duration::from_secs(20);

/// An address that no other test's servers have.
fn own_address() -> Ipv4Addr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    let process = std::process::id().wrapping_mul(64);
    Ipv4Addr::from_bits(0x7f00_0000 | (process.wrapping_add(next) & 0x7f_ffff) | 0x80_0000)
}

/// Answers from a table, and counts the questions. A name's second answer may differ from its first.
#[derive(Default)]
struct Table {
    answers: BTreeMap<String, Vec<Vec<IpAddr>>>,
    asked: Mutex<Vec<String>>,
}

impl Resolver for Table {
    fn resolve<'a>(&'a self, name: &'a HostName) -> Resolving<'a> {
        let mut asked = self.asked.lock().unwrap();
        let before = asked.iter().filter(|asked| *asked == name.as_str()).count();
        asked.push(name.to_string());
        let answers = self.answers.get(name.as_str());
        let answer = answers
            .and_then(|all| all.get(before).or(all.last()))
            .cloned();
        Box::pin(async move { answer.ok_or_else(|| io::Error::other("no such name")) })
    }
}

/// A server that reads to the end, of a GET to the empty line, and sends back, after the head of an HTTP response, what it
/// got.
struct Origin {
    received: Arc<Mutex<Vec<Vec<u8>>>>,
    task: JoinHandle<()>,
}

const ECHO: &[u8] = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n";

impl Origin {
    async fn start(address: Ipv4Addr, port: u16) -> Self {
        let port = match port {
            ..1024 => LOW_PORTS_AT + port,
            _ => port,
        };
        let listener = tokio::net::TcpListener::bind((address, port))
            .await
            .unwrap();
        let received = Arc::new(Mutex::new(Vec::new()));
        let record = received.clone();
        let task = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let record = record.clone();
                tokio::spawn(async move {
                    if let Ok(bytes) = request(&mut stream).await {
                        record.lock().unwrap().push(bytes.clone());
                        // A client that is gone misses nothing.
                        let answer = [ECHO, &bytes].concat();
                        drop(stream.write_all(&answer).await);
                    }
                });
            }
        });
        Self { received, task }
    }
}

async fn request(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while stream.read_buf(&mut bytes).await? > 0 {
        if bytes.starts_with(b"GET") && bytes.ends_with(b"\r\n\r\n") {
            break;
        }
    }
    Ok(bytes)
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A running proxy.
struct World {
    proxy: SocketAddr,
    events: UnboundedReceiver<Event>,
    table: Arc<Table>,
    origins: Vec<Origin>,
    cancellation: CancellationToken,
    serving: JoinHandle<io::Result<()>>,
}

/// What a test wants to be different.
struct Plan {
    rules: Vec<&'static str>,
    names: Vec<(&'static str, Vec<Vec<IpAddr>>)>,
    ports: Vec<u16>,
    limits: Limits,
    secrets: Vec<SecretHeader>,
    tls: Option<rustls::ClientConfig>,
}

impl Plan {
    /// These rules; `allowed.example.org`, `other.example.org` and `twin.example.org` are the same server, on ports 80,
    /// 443 and 8443.
    fn new(rules: &[&'static str]) -> Self {
        Self {
            rules: rules.to_vec(),
            names: Vec::new(),
            ports: vec![80, 443, 8443],
            limits: Limits {
                opening: PATIENCE,
                ..Limits::default()
            },
            secrets: Vec::new(),
            tls: None,
        }
    }

    async fn start(self) -> World {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        self.start_on(listener).await
    }

    async fn start_on(self, listener: TcpListener) -> World {
        let address = own_address();
        let mut answers: BTreeMap<String, Vec<Vec<IpAddr>>> = self
            .names
            .into_iter()
            .map(|(name, answers)| (name.to_owned(), answers))
            .collect();
        for name in [
            "allowed.example.org",
            "other.example.org",
            "twin.example.org",
        ] {
            let here = vec![vec![address.into()]];
            answers.entry(name.to_owned()).or_insert(here);
        }
        let table = Arc::new(Table {
            answers,
            asked: Mutex::default(),
        });
        let mut origins = Vec::new();
        for port in self.ports {
            origins.push(Origin::start(address, port).await);
        }
        let (sender, events) = unbounded_channel();
        let reporter = move |event: Event| drop(sender.send(event));
        let proxy = listener.local_addr().unwrap();
        let cancellation = CancellationToken::new();
        let policy = Allowlist::parse(self.rules).unwrap();
        let mut egress = Egress::new(Arc::new(policy), Arc::new(reporter), self.limits)
            .secrets(self.secrets)
            .resolver(table.clone())
            .reach(Reach::LoopbackForTests {
                low_ports_at: LOW_PORTS_AT,
            });
        if let Some(tls) = &self.tls {
            egress = egress.tls(tls);
        }
        let serving = tokio::spawn(egress.serve(listener, cancellation.clone()));
        World {
            proxy,
            events,
            table,
            origins,
            cancellation,
            serving,
        }
    }
}

impl World {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.proxy).await.unwrap()
    }

    /// Sends this and nothing more, and reads to the end.
    async fn say(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = self.connect().await;
        stream.write_all(bytes).await.unwrap();
        stream.shutdown().await.unwrap();
        read_to_end(&mut stream).await
    }

    /// The same with the connection left open.
    async fn say_and_wait(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = self.connect().await;
        stream.write_all(bytes).await.unwrap();
        read_to_end(&mut stream).await
    }

    async fn event(&mut self) -> Event {
        timeout(PATIENCE, self.events.recv())
            .await
            .expect("an event")
            .expect("a proxy")
    }

    /// The next event, which has to be a refusal.
    async fn refusal(&mut self) -> Refusal {
        match self.event().await {
            Event::Refused { refusal, .. } => refusal,
            event => panic!("expected a refusal: {event:?}"),
        }
    }

    /// What reached any server.
    fn arrived(&self) -> Vec<Vec<u8>> {
        let all = self.origins.iter();
        all.flat_map(|origin| origin.received.lock().unwrap().clone())
            .filter(|bytes| !bytes.is_empty())
            .collect()
    }

    /// Ends the proxy, which has to leave nothing behind.
    async fn end(self) -> Vec<Event> {
        self.cancellation.cancel();
        timeout(PATIENCE, self.serving)
            .await
            .expect("an end")
            .unwrap()
            .unwrap();
        let mut events = self.events;
        let mut rest = Vec::new();
        while let Ok(event) = events.try_recv() {
            rest.push(event);
        }
        rest
    }
}

/// A header for plain requests to `allowed.example.org`.
fn secret(template: &str, value: &str) -> SecretHeader {
    header(template, value, false)
}

fn header(template: &str, value: &str, upgrade: bool) -> SecretHeader {
    let host = "allowed.example.org".parse().unwrap();
    let header = Header::parse(template, host, 80, upgrade).unwrap();
    SecretHeader::of(&header, &Secret::new(value)).unwrap()
}

/// Reads to the end, or to the reset that takes its place.
async fn read_to_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    // What came before a reset is in `bytes` all the same.
    drop(
        timeout(PATIENCE, stream.read_to_end(&mut bytes))
            .await
            .expect("an answer"),
    );
    bytes
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn connect_request(target: &str) -> Vec<u8> {
    format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n").into_bytes()
}

const ESTABLISHED: &[u8] = b"HTTP/1.1 200 Connection established\r\n\r\n";

/// A SOCKS5 greeting and a request for a name.
fn socks_request(name: &[u8], port: u16) -> Vec<u8> {
    let mut bytes = vec![5, 1, 0, 5, 1, 0, 3, u8::try_from(name.len()).unwrap()];
    bytes.extend_from_slice(name);
    bytes.extend_from_slice(&port.to_be_bytes());
    bytes
}

/// A ClientHello with these extensions, without the record around it.
fn hello_message(extensions: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend_from_slice(&[7; 32]);
    body.push(0);
    body.extend_from_slice(&[0, 2, 0x13, 0x01, 1, 0]);
    let mut all = Vec::new();
    for (kind, content) in extensions {
        all.extend_from_slice(&kind.to_be_bytes());
        all.extend_from_slice(&u16::try_from(content.len()).unwrap().to_be_bytes());
        all.extend_from_slice(content);
    }
    body.extend_from_slice(&u16::try_from(all.len()).unwrap().to_be_bytes());
    body.extend_from_slice(&all);
    let mut message = vec![1];
    message.extend_from_slice(&u32::try_from(body.len()).unwrap().to_be_bytes()[1..]);
    message.extend_from_slice(&body);
    message
}

/// The content of a server name extension.
fn server_names(names: &[&str]) -> (u16, Vec<u8>) {
    let mut list = Vec::new();
    for name in names {
        list.push(0);
        list.extend_from_slice(&u16::try_from(name.len()).unwrap().to_be_bytes());
        list.extend_from_slice(name.as_bytes());
    }
    let mut content = u16::try_from(list.len()).unwrap().to_be_bytes().to_vec();
    content.extend_from_slice(&list);
    (0, content)
}

/// Puts a message into records of so many bytes each.
fn records(message: &[u8], size: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for fragment in message.chunks(size) {
        bytes.extend_from_slice(&[22, 3, 1]);
        bytes.extend_from_slice(&u16::try_from(fragment.len()).unwrap().to_be_bytes());
        bytes.extend_from_slice(fragment);
    }
    bytes
}

/// What a client that wants this host sends first.
fn hello_for(name: &str) -> Vec<u8> {
    records(&hello_message(&[server_names(&[name])]), 1 << 14)
}
