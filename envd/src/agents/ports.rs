//! Ports of environments that are published: something that listens inside answers at a port of the machine's loopback.
//!
//! We listen outside, on 127.0.0.1 and nothing else. For each connection PID 1 makes a socket of the environment's network
//! namespace, which is connected from here to the loopback inside (`envd_shims::IpVersion`): nothing inside forwards, so nothing
//! inside can be stopped, replaced or listen in, and whatever is inside cannot have us connect to anything but itself.
//!
//! Whoever can connect to the machine's loopback can connect to what is published. Whom to answer is for the program inside to
//! say; where it is a web application, the names in `Host` and `Origin` are its to check, as for every server on a loopback.

use std::{
    collections::BTreeMap,
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::AsFd as _,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use envd_agents::service::{
    EnvironmentId, Failure, Owner,
    environment::Network,
    port::{PortPublish, PortPublished, PortWithdraw, PortWithdrawn, PublishedPort},
};
use envd_shims::IpVersion;
use tokio::{
    io::{Interest, copy_bidirectional_with_sizes},
    net::{TcpListener, TcpSocket, TcpStream, UnixDatagram},
    sync::{OwnedSemaphorePermit, RwLock, Semaphore},
    task::{JoinHandle, JoinSet},
};
use tokio_util::sync::CancellationToken;

use super::{
    Shared,
    blueprint::PROXY_PORT,
    failure,
    live::{Lent, Live},
};

/// Most ports of an environment that are published at a time.
const MOST_PORTS: usize = 16;
/// Most connections at a time to all ports of an environment. Further ones wait, but for one of each port in the kernel's queue.
const MOST_CONNECTIONS: usize = 128;
/// How long a connection may take to be made inside.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long to wait when the machine has no room for a connection.
const PAUSE: Duration = Duration::from_millis(50);
/// Bytes on the way in each direction of a connection.
const BUFFER: usize = 32 * 1024;

/// All ports that are published.
#[derive(Debug, Default)]
pub(super) struct Ports(Mutex<BTreeMap<EnvironmentId, Own>>);

/// Those of an environment.
#[derive(Debug)]
struct Own {
    room: Arc<Semaphore>,
    /// By the port inside.
    published: BTreeMap<u16, Published>,
}

/// A port that is published.
#[derive(Debug)]
struct Published {
    address: SocketAddr,
    ending: CancellationToken,
    serving: JoinHandle<()>,
}

impl Published {
    /// Ends it with its connections. When this is over, nobody listens.
    async fn end(self) {
        self.ending.cancel();
        let _ = self.serving.await;
    }
}

impl Ports {
    fn all(&self) -> MutexGuard<'_, BTreeMap<EnvironmentId, Own>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those of an environment, as its owner is told of them.
    pub(super) fn of(&self, id: &EnvironmentId) -> Vec<PublishedPort> {
        let all = self.all();
        let own = all.get(id).into_iter().flat_map(|own| &own.published);
        own.map(|(&port, published)| told(port, published.address))
            .collect()
    }

    /// Ends those of an environment, which is ending and has no more to come.
    pub(super) async fn close(&self, id: &EnvironmentId) {
        let own = self.all().remove(id);
        for (_, published) in own.into_iter().flat_map(|own| own.published) {
            published.end().await;
        }
    }
}

fn told(port: u16, address: SocketAddr) -> PublishedPort {
    PublishedPort {
        port,
        address: address.to_string(),
    }
}

/// `port_publish`
pub(super) fn publish(
    shared: &Shared,
    owner: &Owner,
    request: &PortPublish,
) -> Result<PortPublished, Failure> {
    let lent = shared.environment(owner, &request.environment)?;
    lent.policy.judge_publishing(request.outside)?;
    let port = judge(&lent, request)?;
    let published = |address| PortPublished {
        environment: lent.id.clone(),
        published: told(port, address),
    };
    let mut all = shared.ports.all();
    // Whoever ends it says so before they take its ports away, for which they need what is locked here.
    if lent.ending.is_cancelled() {
        return Err(Failure::no_such_environment(&lent.id));
    }
    let own = all.entry(lent.id.clone()).or_insert_with(|| Own {
        room: Arc::new(Semaphore::new(MOST_CONNECTIONS)),
        published: BTreeMap::new(),
    });
    if let Some(there) = own.published.get(&port) {
        return match request.outside {
            Some(outside) if outside != there.address.port() => Err(invalid(
                "outside",
                format!("port {port} is published at {}", there.address),
                "the same port, or withdraw it first (port_withdraw)",
            )),
            _ => Ok(published(there.address)),
        };
    }
    if own.published.len() >= MOST_PORTS {
        return Err(Failure::LimitReached {
            limit: "published ports of an environment".to_owned(),
            value: MOST_PORTS.to_string(),
        });
    }
    let (listener, address) = listen(request.outside.unwrap_or(0)).map_err(|error| {
        match (error.kind(), request.outside) {
            (io::ErrorKind::AddrInUse, Some(outside)) => invalid(
                "outside",
                format!("something else listens on port {outside} of this machine"),
                "another port, or none for one that is free",
            ),
            (io::ErrorKind::PermissionDenied, Some(outside)) => invalid(
                "outside",
                format!("this user may not listen on port {outside} of this machine"),
                "a port from 1024 on, or none for one that is free",
            ),
            _ => failure::internal("listening on the machine's loopback", &error),
        }
    })?;
    let ending = lent.ending.child_token();
    let way = Way {
        live: lent.live.clone(),
        port,
    };
    let serving = tokio::spawn(serve(listener, way, own.room.clone(), ending.clone()));
    own.published.insert(
        port,
        Published {
            address,
            ending,
            serving,
        },
    );
    Ok(published(address))
}

/// `port_withdraw`
pub(super) async fn withdraw(
    shared: &Shared,
    owner: &Owner,
    request: &PortWithdraw,
) -> Result<PortWithdrawn, Failure> {
    let lent = shared.environment(owner, &request.environment)?;
    let withdrawn = {
        let mut all = shared.ports.all();
        let own = all.get_mut(&lent.id);
        own.and_then(|own| own.published.remove(&request.port))
    };
    let Some(published) = withdrawn else {
        return Err(invalid(
            "port",
            format!("port {} is not published", request.port),
            "a port inside that environment_list has among the ports",
        ));
    };
    let answer = PortWithdrawn {
        environment: lent.id.clone(),
        withdrawn: told(request.port, published.address),
    };
    published.end().await;
    Ok(answer)
}

/// The port inside, if there can be something to reach at it.
fn judge(lent: &Lent, request: &PortPublish) -> Result<u16, Failure> {
    let port = request.port;
    match &lent.network {
        // A socket of the machine's own namespace would lead to whatever listens on the machine.
        Network::Host => Err(invalid(
            "environment",
            "it uses the machine's network: what listens inside is reached at its own port already"
                .to_owned(),
            "that port, or an environment with another network",
        )),
        Network::Allow(_) if port == PROXY_PORT => Err(invalid(
            "port",
            format!("{port} is the environment's own way out, for nobody else"),
            "the port of a server inside",
        )),
        _ if port == 0 || request.outside == Some(0) => Err(invalid(
            if port == 0 { "port" } else { "outside" },
            "0 is no port".to_owned(),
            "a port from 1 to 65535; without `outside`, one that is free",
        )),
        _ => Ok(port),
    }
}

fn invalid(field: &str, problem: String, expected: &str) -> Failure {
    Failure::Invalid {
        field: field.to_owned(),
        problem,
        expected: expected.to_owned(),
    }
}

/// Listens where only this machine connects.
fn listen(port: u16) -> io::Result<(TcpListener, SocketAddr)> {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    Ok((TcpListener::from_std(listener)?, address))
}

/// Where connections go.
#[derive(Clone, Debug)]
struct Way {
    live: Arc<RwLock<Option<Live>>>,
    port: u16,
}

/// Accepts until it is over.
async fn serve(listener: TcpListener, way: Way, room: Arc<Semaphore>, ending: CancellationToken) {
    let mut connections = JoinSet::new();
    let accepting = async {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                Some(_) = connections.join_next() => continue,
            };
            let Ok((stream, _)) = accepted else {
                // Nobody else's fault, and over when somebody closes something.
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            // Not before: whoever waits for a connection would take the place of one.
            let Ok(permit) = room.clone().acquire_owned().await else {
                return;
            };
            connections.spawn(carry(stream, way.clone(), permit));
        }
    };
    tokio::select! {
        () = accepting => {}
        () = ending.cancelled() => {}
    }
    drop(listener);
    connections.shutdown().await;
}

/// Carries one connection.
async fn carry(mut outside: TcpStream, way: Way, _permit: OwnedSemaphorePermit) {
    match way.connect().await {
        Ok(mut inside) => {
            let _ = copy_bidirectional_with_sizes(&mut outside, &mut inside, BUFFER, BUFFER).await;
        }
        Err(error) => {
            tracing::debug!(%error, port = way.port, "a published port leads nowhere");
            // Reset and not closed: there was nobody to close it.
            let reset = Some(Duration::ZERO);
            let _ = rustix::net::sockopt::set_socket_linger(&outside, reset);
        }
    }
}

impl Way {
    /// Connects to the loopback inside, which for some servers is that of the newer protocol alone.
    async fn connect(&self) -> io::Result<TcpStream> {
        let four = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        let six = SocketAddr::from((Ipv6Addr::LOCALHOST, self.port));
        let connecting = async {
            match self.connect_to(IpVersion::Four, four).await {
                Err(first) => match self.connect_to(IpVersion::Six, six).await {
                    Err(_) => Err(first),
                    stream => stream,
                },
                stream => stream,
            }
        };
        tokio::time::timeout(PATIENCE, connecting)
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    async fn connect_to(&self, version: IpVersion, address: SocketAddr) -> io::Result<TcpStream> {
        let asked = {
            // What launches it anew has it alone; then the next PID 1 is asked.
            let live = self.live.read().await;
            let resident = live.as_ref().and_then(|live| live.body.resident());
            let resident = resident.ok_or(io::ErrorKind::ConnectionReset)?;
            resident.ask_for_socket(version)?
        };
        // A datagram socket to the runtime, which has none of its kind; only its readiness is of interest.
        let answered = UnixDatagram::from_std(asked.as_fd().try_clone_to_owned()?.into())?;
        let socket = answered
            .async_io(Interest::READABLE, || asked.take())
            .await?;
        rustix::io::ioctl_fionbio(&socket, true)?;
        let socket = TcpSocket::from_std_stream(std::net::TcpStream::from(socket));
        socket.connect(address).await
    }
}
