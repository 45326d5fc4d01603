//! One connection: what the client asks for, whether it may have it, and then bytes.
//!
//! ```text
//! first byte ─ 5 → SOCKS5 ──────┐
//!            └ else → HTTP head ┴→ rule? → resolve, check, connect → say yes → look at what is said first → relay
//! ```

use std::{net::IpAddr, sync::Arc, time::Duration};

use rustix::net::sockopt::set_tcp_congestion;
use rustls::pki_types::ServerName;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::client::TlsStream;
use zeroize::Zeroizing;

use super::{
    Shared,
    allowlist::{HTTPS, Rule},
    event::{Ending, Event, Protocol},
    http::{self, Request, RequestError, Target},
    meter::Meter,
    name::HostName,
    outgoing, refusal,
    refusal::Refusal,
    relay, route,
    socks::{self, SocksError},
    tls::{self, HelloError, HelloReader},
};

/// How long a client that was refused has to read why.
const FAREWELL: Duration = Duration::from_secs(2);
/// Bytes that are read at a time while a client says what it wants.
const PIECE: usize = 4 << 10;

/// How a refusal is told at this point of the conversation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Voice {
    /// Not at all.
    Silence,
    /// By an HTTP response.
    Http,
    /// By the choice of no method.
    SocksMethod,
    /// By a reply code.
    SocksReply,
    /// By an alert.
    Tls,
}

impl Voice {
    fn words(self, refusal: &Refusal) -> Vec<u8> {
        match self {
            Self::Silence => Vec::new(),
            Self::Http => refusal.response(),
            Self::SocksMethod => socks::method_reply(false).to_vec(),
            Self::SocksReply => socks::Reply::to(refusal).bytes().to_vec(),
            Self::Tls => tls::ACCESS_DENIED.to_vec(),
        }
    }
}

/// Why a connection goes no further.
enum Stop {
    /// Refused.
    Refused(Refusal),
    /// The client left before it asked for anything, or while it was answered: nobody is to be told.
    Gone,
}

impl<R: Into<Refusal>> From<R> for Stop {
    fn from(refusal: R) -> Self {
        Self::Refused(refusal.into())
    }
}

/// What a client asked for.
struct Asked {
    name: HostName,
    port: u16,
    /// A request to pass on, with its path; otherwise a tunnel.
    request: Option<(Request, String)>,
}

/// A connection that is being served.
struct Connection {
    number: u64,
    shared: Arc<Shared>,
    client: TcpStream,
    /// Received and not yet used.
    buffer: Vec<u8>,
    meter: Meter,
    voice: Voice,
    protocol: Protocol,
    /// What was understood of the wish.
    name: Option<HostName>,
    port: Option<u16>,
}

/// Serves one client to the end.
pub(super) async fn serve(client: TcpStream, number: u64, shared: Arc<Shared>) {
    let meter = Meter::new(shared.budget.clone());
    let mut connection = Connection {
        number,
        shared,
        client,
        buffer: Vec::new(),
        meter,
        voice: Voice::Silence,
        protocol: Protocol::Unknown,
        name: None,
        port: None,
    };
    // A socket that cannot be told to hurry works all the same.
    drop(connection.client.set_nodelay(true));
    // Nothing is lost on the way inside, so an algorithm that paces only costs: with BBR, half of the throughput.
    let _works_without = set_tcp_congestion(&connection.client, "reno");
    if let Err(Stop::Refused(refusal)) = connection.run().await {
        connection.refuse(refusal).await;
    }
}

impl Connection {
    async fn run(&mut self) -> Result<(), Stop> {
        let opening = self.shared.limits.opening;
        let asked = timeout(opening, self.ask())
            .await
            .map_err(|_| Refusal::Slow)??;
        let shared = self.shared.clone();
        let rule = shared.policy.check(&asked.name, asked.port)?;
        if shared.budget.is_spent() {
            return Err(Refusal::Budget.into());
        }
        // What is said in a tunnel is not known yet. With nobody to look at it, it is never a request.
        let looked_at = asked.request.is_some() || !rule.is_opaque();
        let upgraded = shared
            .upgraded(&asked.name, asked.port)
            .filter(|_| looked_at);
        let port = upgraded.unwrap_or(asked.port);
        shared.policy.check(&asked.name, port)?;
        let (upstream, address) = route::connect(
            &*shared.resolver,
            shared.reach,
            &asked.name,
            port,
            shared.limits.connecting,
        )
        .await?;
        drop(upstream.set_nodelay(true));
        let mut passage = Passage {
            connection: self,
            name: &asked.name,
            asked_port: asked.port,
            port,
            rule,
            address,
            told: Told::Nothing,
            ending: Ending::Cancelled,
        };
        let prepared = async {
            let request = passage.prepare(asked.request).await?;
            let upstream = match (&request, upgraded) {
                (Some(_), Some(_)) => passage.upgrade(upstream).await?,
                _ => Upstream::Plain(upstream),
            };
            Ok((upstream, request))
        };
        match prepared.await {
            Ok((upstream, request)) => {
                passage.allow();
                passage.ending = passage.carry(upstream, request).await;
                Ok(())
            }
            Err(stop) => {
                match stop {
                    Stop::Refused(_) => passage.told = Told::Refused,
                    Stop::Gone => passage.ending = Ending::Broken,
                }
                Err(stop)
            }
        }
    }

    /// Reads what the client wants.
    async fn ask(&mut self) -> Result<Asked, Stop> {
        while self.buffer.is_empty() {
            if self.receive().await? == 0 {
                return Err(Stop::Gone);
            }
        }
        match self.buffer[0] {
            socks::VERSION => self.ask_by_socks().await,
            b'A'..=b'Z' | b'a'..=b'z' => {
                self.voice = Voice::Http;
                self.ask_by_http().await
            }
            tls::HANDSHAKE => {
                self.voice = Voice::Tls;
                Err(Refusal::Protocol.into())
            }
            _ => Err(Refusal::Protocol.into()),
        }
    }

    async fn ask_by_http(&mut self) -> Result<Asked, Stop> {
        let request = self.head().await?;
        let (authority, path) = match &request.target {
            Target::Tunnel(authority) => {
                self.protocol = Protocol::Connect;
                (authority, None)
            }
            Target::Absolute(authority, path) => {
                self.protocol = Protocol::Http;
                (authority, Some(path.clone()))
            }
            Target::Origin(_) => {
                self.protocol = Protocol::Http;
                let problem = "a proxy needs the whole URL, or CONNECT";
                return Err(RequestError::Target(problem).into());
            }
        };
        let name = authority.name.clone();
        let port = authority.port.unwrap_or(super::allowlist::HTTP);
        (self.name, self.port) = (Some(name.clone()), Some(port));
        if path.is_some() && port == HTTPS {
            return Err(Refusal::NotTls { name }.into());
        }
        Ok(Asked {
            name,
            port,
            request: path.map(|path| (request, path)),
        })
    }

    /// Reads a request's head and leaves what follows it in the buffer.
    async fn head(&mut self) -> Result<Request, Stop> {
        let mut from = 0;
        let longest = self.shared.limits.opening_bytes;
        let end = loop {
            if let Some(end) = http::end_of_head(&self.buffer, from, longest)? {
                break end;
            }
            from = self.buffer.len().saturating_sub(3);
            if self.receive().await? == 0 {
                return Err(RequestError::Cut.into());
            }
        };
        let head: Vec<u8> = self.buffer.drain(..end).collect();
        Request::parse(&head).map_err(|error| match error {
            RequestError::Name(asked, problem) => Refusal::Name { asked, problem }.into(),
            error => error.into(),
        })
    }

    async fn ask_by_socks(&mut self) -> Result<Asked, Stop> {
        self.protocol = Protocol::Socks5;
        self.voice = Voice::SocksMethod;
        let length = loop {
            if let Some(length) = socks::parse_methods(&self.buffer)? {
                break length;
            }
            if self.receive().await? == 0 {
                return Err(SocksError::Cut.into());
            }
        };
        self.buffer.drain(..length);
        self.say(&socks::method_reply(true)).await?;
        self.voice = Voice::SocksReply;
        let (request, length) = loop {
            if let Some(request) = socks::parse_request(&self.buffer)? {
                break request;
            }
            if self.receive().await? == 0 {
                return Err(SocksError::Cut.into());
            }
        };
        self.buffer.drain(..length);
        let port = request.port;
        self.port = Some(port);
        let name = request
            .name
            .map_err(|(asked, problem)| Refusal::Name { asked, problem })?;
        self.name = Some(name.clone());
        Ok(Asked {
            name,
            port,
            request: None,
        })
    }

    /// Tells the client that its tunnel is there.
    async fn accept_tunnel(&mut self) -> Result<(), Stop> {
        let words: &[u8] = match self.protocol {
            Protocol::Socks5 => &socks::Reply::Succeeded.bytes(),
            _ => b"HTTP/1.1 200 Connection established\r\n\r\n",
        };
        self.say(words).await?;
        self.voice = Voice::Silence;
        Ok(())
    }

    /// Looks at what the client says first in its tunnel. An HTTP request is taken out of it, to be passed on alone.
    async fn look(
        &mut self,
        rule: &Rule,
        name: &HostName,
        port: u16,
    ) -> Result<Option<(Request, String)>, Stop> {
        if rule.is_opaque() {
            return Ok(None);
        }
        let opening = self.shared.limits.opening;
        match timeout(opening, self.look_inside(name, port)).await {
            Ok(looked) => looked,
            Err(_) if self.buffer.is_empty() => Err(Refusal::Silent {
                name: name.clone(),
                port,
            }
            .into()),
            Err(_) => Err(Refusal::Slow.into()),
        }
    }

    async fn look_inside(
        &mut self,
        name: &HostName,
        port: u16,
    ) -> Result<Option<(Request, String)>, Stop> {
        while self.buffer.is_empty() {
            if self.receive().await? == 0 {
                return Err(Stop::Gone);
            }
        }
        match self.buffer[0] {
            tls::HANDSHAKE => {
                self.voice = Voice::Tls;
                self.look_at_hello(name).await?;
                Ok(None)
            }
            b'A'..=b'Z' => {
                self.voice = Voice::Http;
                if port == HTTPS {
                    return Err(Refusal::NotTls { name: name.clone() }.into());
                }
                self.look_at_request(name, port).await.map(Some)
            }
            _ if port == HTTPS => Err(Refusal::NotTls { name: name.clone() }.into()),
            _ => Err(Refusal::Opaque {
                name: name.clone(),
                port,
            }
            .into()),
        }
    }

    async fn look_at_hello(&mut self, name: &HostName) -> Result<(), Stop> {
        let mut reader = HelloReader::new(self.shared.limits.opening_bytes);
        let hello = loop {
            if let Some(hello) = reader.read(&self.buffer)? {
                break hello;
            }
            if self.receive().await? == 0 {
                return Err(HelloError::Cut.into());
            }
        };
        match hello.server_name {
            None => Err(Refusal::NoServerName { name: name.clone() }.into()),
            Some(found) if HostName::from_wire(&found).as_ref() == Ok(name) => Ok(()),
            Some(found) => Err(Refusal::ServerName {
                name: name.clone(),
                found: refusal::quoted(&found),
            }
            .into()),
        }
    }

    async fn look_at_request(
        &mut self,
        name: &HostName,
        port: u16,
    ) -> Result<(Request, String), Stop> {
        let request = self.head().await?;
        let Target::Origin(path) = &request.target else {
            let problem = "inside a tunnel it is the path alone";
            return Err(RequestError::Target(problem).into());
        };
        let path = path.clone();
        match &request.host {
            Some(host) if host.is(name, port) => Ok((request, path)),
            None => Err(RequestError::Host.into()),
            Some(host) => Err(Refusal::HostDiffers {
                name: format!("{name}:{port}"),
                found: host.to_string(),
            }
            .into()),
        }
    }

    /// Receives more into the buffer; 0 at the end.
    async fn receive(&mut self) -> Result<usize, Stop> {
        // A place of its own, because a timeout may end this in the middle.
        let mut piece = [0; PIECE];
        let length = relay::read(&self.client, &mut piece)
            .await
            .map_err(|_| Stop::Gone)?;
        self.buffer.extend_from_slice(&piece[..length]);
        Ok(length)
    }

    async fn say(&self, words: &[u8]) -> Result<(), Stop> {
        relay::write_all(&self.client, words)
            .await
            .map_err(|_| Stop::Gone)
    }

    /// Reports the refusal, then tells the client.
    async fn refuse(self, refusal: Refusal) {
        let words = self.voice.words(&refusal);
        self.shared.reporter.report(Event::Refused {
            connection: self.number,
            protocol: self.protocol,
            name: self.name,
            port: self.port,
            refusal,
            duration: self.meter.age(),
        });
        let farewell = async {
            relay::write_all(&self.client, &words).await?;
            relay::shut(&self.client);
            // Closing with bytes unread would take the answer away from the client again.
            relay::discard(&self.client).await
        };
        // What comes of it changes nothing.
        drop(timeout(FAREWELL, farewell).await);
    }
}

/// A connection to a server.
enum Upstream {
    Plain(TcpStream),
    /// On which a request with a secret goes.
    Tls(Box<TlsStream<TcpStream>>),
}

/// What the reporter knows of a passage.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Told {
    Nothing,
    Allowed,
    /// It will be told of the refusal by whoever gets it.
    Refused,
}

/// A way to a server that was connected to. However it ends, the reporter hears of it.
struct Passage<'a> {
    connection: &'a mut Connection,
    name: &'a HostName,
    /// The port that the client named.
    asked_port: u16,
    /// The port that was connected to.
    port: u16,
    rule: &'a Rule,
    address: IpAddr,
    told: Told,
    ending: Ending,
}

impl Passage<'_> {
    /// Opens the tunnel and looks at what is said first in it, unless there is a request to pass on already.
    async fn prepare(
        &mut self,
        request: Option<(Request, String)>,
    ) -> Result<Option<(Request, String)>, Stop> {
        if request.is_some() {
            return Ok(request);
        }
        self.connection.accept_tunnel().await?;
        let port = self.asked_port;
        self.connection.look(self.rule, self.name, port).await
    }

    /// From a connection to one over TLS, for a request with a secret.
    async fn upgrade(&self, upstream: TcpStream) -> Result<Upstream, Refusal> {
        let shared = &self.connection.shared;
        let failed = |problem: String| Refusal::Tls {
            name: self.name.clone(),
            problem,
        };
        let Some(connector) = &shared.tls else {
            return Err(failed("no certificates are known here".to_owned()));
        };
        let name = ServerName::try_from(self.name.as_str().to_owned())
            .map_err(|error| failed(error.to_string()))?;
        match timeout(shared.limits.connecting, connector.connect(name, upstream)).await {
            Ok(Ok(stream)) => Ok(Upstream::Tls(Box::new(stream))),
            Ok(Err(error)) => Err(failed(error.to_string())),
            Err(_) => Err(failed("it was not finished in time".to_owned())),
        }
    }

    fn allow(&mut self) {
        self.told = Told::Allowed;
        self.connection.shared.reporter.report(Event::Allowed {
            connection: self.connection.number,
            protocol: self.connection.protocol,
            name: self.name.clone(),
            port: self.port,
            rule: self.rule.clone(),
            address: self.address,
        });
    }

    async fn carry(&mut self, upstream: Upstream, request: Option<(Request, String)>) -> Ending {
        let early = std::mem::take(&mut self.connection.buffer);
        let Connection {
            client,
            meter,
            shared,
            ..
        } = &*self.connection;
        let idle = shared.limits.idle;
        meter.touch();
        let Some((request, path)) = request else {
            return match upstream {
                Upstream::Plain(upstream) => {
                    relay::tunnel(client, &early, &upstream, meter, idle).await
                }
                // Only requests are upgraded.
                Upstream::Tls(_) => Ending::Broken,
            };
        };
        let to = (self.name, self.asked_port);
        let secrets = shared.secrets_for(self.name, self.asked_port);
        // It has the secrets in it.
        let head = Zeroizing::new(outgoing::head(&request, &path, to, &secrets));
        let message = (&**head, request.body);
        let patterns = &shared.patterns;
        match upstream {
            Upstream::Plain(upstream) if secrets.is_empty() => {
                relay::exchange(client, &early, &upstream, message, meter, idle).await
            }
            Upstream::Plain(upstream) => {
                let upstream = (upstream, patterns);
                relay::exchange_masked(client, &early, upstream, message, meter, idle).await
            }
            Upstream::Tls(upstream) => {
                let upstream = (*upstream, patterns);
                relay::exchange_masked(client, &early, upstream, message, meter, idle).await
            }
        }
    }
}

impl Drop for Passage<'_> {
    fn drop(&mut self) {
        match self.told {
            Told::Refused => return,
            // It ended before the client said anything: connected it was.
            Told::Nothing => self.allow(),
            Told::Allowed => {}
        }
        let (sent, received) = self.connection.meter.counted();
        self.connection.shared.reporter.report(Event::Closed {
            connection: self.connection.number,
            name: self.name.clone(),
            port: self.port,
            sent,
            received,
            duration: self.connection.meter.age(),
            ending: self.ending,
        });
    }
}
