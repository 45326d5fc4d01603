//! From an allowed name to a connection: resolved here, every address checked, and connected to the very address that was
//! checked. There is no second lookup that could answer differently.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    time::Duration,
};

use tokio::{
    net::TcpStream,
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{address::Reach, name::HostName, refusal::Refusal};

/// The most addresses of a name that are tried.
const MOST_ATTEMPTS: usize = 4;
/// How long an attempt has before the next begins beside it, so that an address family without a way out delays nobody
/// (RFC 8305, section 5).
const STAGGER: Duration = Duration::from_millis(250);

/// What [`Resolver::resolve`] returns.
pub type Resolving<'a> = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send + 'a>>;

/// Finds a name's addresses. Asked only for names that are allowed.
pub trait Resolver: Send + Sync {
    /// The addresses of `name`, best first.
    fn resolve<'a>(&'a self, name: &'a HostName) -> Resolving<'a>;
}

/// The machine's own resolver (`getaddrinfo(3)`).
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemResolver;

impl Resolver for SystemResolver {
    fn resolve<'a>(&'a self, name: &'a HostName) -> Resolving<'a> {
        Box::pin(async move {
            // The dot at the end keeps the machine's search domains away from the name.
            let found = tokio::net::lookup_host((format!("{name}."), 0)).await?;
            let mut addresses: Vec<IpAddr> = Vec::new();
            for address in found.map(|address| address.ip()) {
                if !addresses.contains(&address) {
                    addresses.push(address);
                }
            }
            Ok(addresses)
        })
    }
}

/// Connects to `name`. `limit` is for resolving and all attempts together.
pub(super) async fn connect(
    resolver: &dyn Resolver,
    reach: Reach,
    name: &HostName,
    port: u16,
    limit: Duration,
) -> Result<(TcpStream, IpAddr), Refusal> {
    let unreachable = |problem| Refusal::Unreachable {
        name: name.clone(),
        port,
        problem,
    };
    let attempt = async {
        let mut waiting = addresses(resolver, reach, name).await?.into_iter();
        let mut attempts = JoinSet::new();
        let mut last = io::ErrorKind::AddrNotAvailable;
        loop {
            if let Some(address) = waiting.next() {
                let target = SocketAddr::new(address, reach.port(port));
                attempts.spawn(async move { (address, TcpStream::connect(target).await) });
            } else if attempts.is_empty() {
                return Err(unreachable(last));
            }
            tokio::select! {
                Some(Ok((address, result))) = attempts.join_next() => match result {
                    Ok(stream) => return Ok((stream, address)),
                    Err(problem) => last = problem.kind(),
                },
                () = sleep(STAGGER), if waiting.len() > 0 => {}
            }
        }
    };
    let (stream, address) = match timeout(limit, attempt).await {
        Ok(connected) => connected?,
        Err(_) => return Err(unreachable(io::ErrorKind::TimedOut)),
    };
    let local = stream
        .local_addr()
        .map_err(|error| unreachable(error.kind()))?;
    reach
        .check_ends(local.ip(), address)
        .map_err(|problem| Refusal::NotGlobal {
            name: name.clone(),
            address,
            problem,
        })?;
    Ok((stream, address))
}

/// The addresses to try. One that is not public spoils all: a name that points half inside is not to be trusted.
async fn addresses(
    resolver: &dyn Resolver,
    reach: Reach,
    name: &HostName,
) -> Result<Vec<IpAddr>, Refusal> {
    let unresolved = |problem: String| Refusal::Unresolved {
        name: name.clone(),
        problem,
    };
    let found = resolver
        .resolve(name)
        .await
        .map_err(|problem| unresolved(problem.to_string()))?;
    let mut checked = Vec::with_capacity(found.len());
    for address in found {
        checked.push(reach.check(address).map_err(|problem| Refusal::NotGlobal {
            name: name.clone(),
            address,
            problem,
        })?);
    }
    if checked.is_empty() {
        return Err(unresolved("it has no address".to_owned()));
    }
    checked.truncate(MOST_ATTEMPTS);
    Ok(checked)
}
