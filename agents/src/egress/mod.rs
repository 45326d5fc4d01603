//! The only way out of a lent environment: an HTTP and SOCKS5 proxy that knows names, not addresses.
//!
//! The environment has a network namespace with nothing in it but its loopback. The launcher listens on a port there and
//! hands the socket out, so the proxy runs outside while its clients are inside, and nobody else can reach it: one
//! listener, one environment, one list. What is spoken and what is refused is written down in `PROTOCOL.md`.

mod address;
mod allowlist;
mod chunks;
mod client;
mod connection;
mod event;
mod http;
mod limits;
mod meter;
mod name;
mod outgoing;
mod refusal;
mod relay;
mod route;
mod secret;
mod socks;
mod tls;

#[cfg(test)]
mod tests;

use std::{io, net::TcpListener, sync::Arc, time::Duration};

use tokio::{sync::Semaphore, task::JoinSet};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

pub use self::{
    address::{NotGlobal, Reach},
    allowlist::{Allowlist, Rule, RuleError},
    client::{ClientSettings, client_settings},
    event::{Ending, Event, Protocol, Reporter},
    http::RequestError,
    limits::Limits,
    name::{HostName, NameError},
    refusal::Refusal,
    route::{Resolver, Resolving, SystemResolver},
    secret::{SecretError, SecretHeader},
    socks::SocksError,
    tls::HelloError,
};
use self::{
    allowlist::{HTTP, HTTPS},
    meter::Budget,
};
use crate::secret::Patterns;

/// After a failure to accept (no descriptor left, say), how long until the next try.
const PAUSE: Duration = Duration::from_millis(50);

/// What all connections of an environment share.
struct Shared {
    policy: Arc<Allowlist>,
    reporter: Arc<dyn Reporter>,
    limits: Limits,
    secrets: Vec<SecretHeader>,
    /// What must not come back in answers to requests with secrets.
    patterns: Patterns,
    tls: Option<TlsConnector>,
    resolver: Arc<dyn Resolver>,
    reach: Reach,
    budget: Arc<Budget>,
}

/// The proxy of one environment.
pub struct Egress {
    policy: Arc<Allowlist>,
    reporter: Arc<dyn Reporter>,
    limits: Limits,
    secrets: Vec<SecretHeader>,
    tls: Option<TlsConnector>,
    resolver: Arc<dyn Resolver>,
    reach: Reach,
}

impl Shared {
    /// The secrets of requests to this host and port.
    fn secrets_for(&self, name: &HostName, port: u16) -> Vec<&SecretHeader> {
        let all = self.secrets.iter();
        all.filter(|secret| secret.concerns(name, port)).collect()
    }

    /// The port to which a request to this host and port goes, if it goes over TLS.
    fn upgraded(&self, name: &HostName, port: u16) -> Option<u16> {
        let mut secrets = self.secrets_for(name, port).into_iter();
        secrets.any(SecretHeader::upgrades).then_some(match port {
            HTTP => HTTPS,
            port => port,
        })
    }
}

impl Egress {
    /// A proxy that lets through what `policy` allows and tells `reporter` of each decision; with the machine's resolver,
    /// to public addresses.
    pub fn new(policy: Arc<Allowlist>, reporter: Arc<dyn Reporter>, limits: Limits) -> Self {
        Self {
            policy,
            reporter,
            limits,
            secrets: Vec::new(),
            tls: None,
            resolver: Arc::new(SystemResolver),
            reach: Reach::Global,
        }
    }

    /// The same with fields for plain HTTP requests.
    pub fn secrets(mut self, secrets: Vec<SecretHeader>) -> Self {
        self.secrets = secrets;
        self
    }

    /// The same with a way to speak TLS to servers, which secrets need that are not to go in the clear.
    pub fn tls(mut self, configuration: &rustls::ClientConfig) -> Self {
        let mut configuration = configuration.clone();
        // What is written and read here is HTTP/1.
        configuration.alpn_protocols = vec![b"http/1.1".to_vec()];
        self.tls = Some(TlsConnector::from(Arc::new(configuration)));
        self
    }

    /// The same with another resolver.
    pub fn resolver(mut self, resolver: Arc<dyn Resolver>) -> Self {
        self.resolver = resolver;
        self
    }

    /// The same with another reach.
    pub fn reach(mut self, reach: Reach) -> Self {
        self.reach = reach;
        self
    }

    /// Serves the clients of `listener`, which listens already, until `cancellation`: then every connection ends, and
    /// when this returns none is left. Dropping the future ends them as well.
    ///
    /// An error is one of the listener itself.
    pub async fn serve(
        self,
        listener: TcpListener,
        cancellation: CancellationToken,
    ) -> io::Result<()> {
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let slots = Arc::new(Semaphore::new(self.limits.connections.max(1)));
        let shared = Arc::new(Shared {
            budget: Arc::new(Budget::new(self.limits.total_bytes)),
            policy: self.policy,
            reporter: self.reporter,
            limits: self.limits,
            patterns: Patterns::of(
                self.secrets
                    .iter()
                    .map(|secret| (secret.name(), secret.secret())),
            ),
            secrets: self.secrets,
            tls: self.tls,
            resolver: self.resolver,
            reach: self.reach,
        });
        let mut connections = JoinSet::new();
        let accepting = async {
            let mut number = 0;
            loop {
                // A connection is taken from the kernel's queue only when there is room for it.
                let Ok(slot) = slots.clone().acquire_owned().await else {
                    return;
                };
                let Ok((client, _)) = listener.accept().await else {
                    tokio::time::sleep(PAUSE).await;
                    continue;
                };
                number += 1;
                let served = connection::serve(client, number, shared.clone());
                connections.spawn(async move {
                    served.await;
                    drop(slot);
                });
                while connections.try_join_next().is_some() {}
            }
        };
        cancellation.run_until_cancelled(accepting).await;
        connections.shutdown().await;
        Ok(())
    }
}
