//! Why nothing was let through, in words that a model can act on.

use std::{io, net::IpAddr};

use serde::{Serialize, Serializer, ser::SerializeStruct};

use super::{
    address::NotGlobal,
    allowlist::{HTTP, HTTPS, Rule},
    http::RequestError,
    name::{HostName, NameError},
    socks::SocksError,
    tls::HelloError,
};

/// How much of a client's own text a message repeats, in bytes.
const LONGEST_QUOTE: usize = 80;

/// Why a connection was refused or came to nothing.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    /// No rule names the host.
    #[error(
        "{name}:{port} is not on this environment's network list. Ask the owner to add \"{}\" to [agent] network in \
         the user's config.toml of envd",
        rule_for(name, *port)
    )]
    NotListed {
        /// The name asked for.
        name: HostName,
        /// The port asked for.
        port: u16,
    },
    /// A rule names the host with other ports.
    #[error(
        "port {port} of {name} is not on this environment's network list, which has \"{rule}\". Ask the owner to add \
         \"{}\" to [agent] network in the user's config.toml of envd",
        rule_for(name, *port)
    )]
    PortNotListed {
        /// The name asked for.
        name: HostName,
        /// The port asked for.
        port: u16,
        /// A rule that names it.
        rule: Rule,
    },
    /// The list is empty.
    #[error(
        "{name}:{port} is out of reach: this environment's network list is empty. Ask the owner to add \"{}\" to \
         [agent] network in the user's config.toml of envd",
        rule_for(name, *port)
    )]
    NothingListed {
        /// The name asked for.
        name: HostName,
        /// The port asked for.
        port: u16,
    },
    /// What was asked for is no host name.
    #[error(
        "{asked} cannot be reached: {problem}. Ask for a host by its full name, as in \"example.org\""
    )]
    Name {
        /// What was asked for, escaped and cut.
        asked: String,
        /// What is wrong with it.
        problem: NameError,
    },
    /// The name points to where the proxy does not go.
    #[error(
        "{name} resolves to {address}, {problem}, and only public addresses are connected to. Nothing that is added to the \
         network list changes this"
    )]
    NotGlobal {
        /// The name asked for.
        name: HostName,
        /// The first such address.
        address: IpAddr,
        /// What it is.
        problem: NotGlobal,
    },
    /// The TLS client asks for another host than the tunnel is for.
    #[error(
        "the tunnel was asked for {name}, and TLS in it asks for {found}: both have to be the same name. Connect by the \
         name that you want to reach"
    )]
    ServerName {
        /// What the tunnel is for.
        name: HostName,
        /// The server name indication, escaped and cut.
        found: String,
    },
    /// The TLS client names no host.
    #[error(
        "TLS to {name} carries no server name (SNI), without which it is not let through. Use a client that sends it"
    )]
    NoServerName {
        /// What the tunnel is for.
        name: HostName,
    },
    /// HTTP in a tunnel addresses another host.
    #[error(
        "the tunnel was asked for {name}, and HTTP in it addresses {found}: both have to be the same name and port"
    )]
    HostDiffers {
        /// What the tunnel is for, with its port.
        name: String,
        /// The `Host` field, escaped and cut.
        found: String,
    },
    /// Something other than TLS to port 443.
    #[error(
        "only TLS passes to {name}:443, and what was sent is not TLS. For plain HTTP use port 80"
    )]
    NotTls {
        /// What the tunnel is for.
        name: HostName,
    },
    /// Something that is neither TLS nor HTTP.
    #[error(
        "only TLS and HTTP pass to {name}:{port}, and what was sent is neither. For another protocol ask the owner to add \
         \"{name}:{port}/tcp\" to [agent] network in the user's config.toml of envd"
    )]
    Opaque {
        /// What the tunnel is for.
        name: HostName,
        /// And the port.
        port: u16,
    },
    /// The client opened a tunnel and said nothing.
    #[error(
        "the tunnel to {name}:{port} was closed because nothing was sent into it in time. If the server speaks first, ask \
         the owner to add \"{name}:{port}/tcp\" to [agent] network in the user's config.toml of envd"
    )]
    Silent {
        /// What the tunnel is for.
        name: HostName,
        /// And the port.
        port: u16,
    },
    /// The request is not one that is forwarded.
    #[error("the HTTP request was refused: {0}")]
    Request(#[from] RequestError),
    /// The TLS client's first message is not one.
    #[error("the first TLS message was refused: {0}")]
    Hello(#[from] HelloError),
    /// Not the SOCKS that is spoken here.
    #[error("the SOCKS request was refused: {0}")]
    Socks(#[from] SocksError),
    /// Neither HTTP nor SOCKS.
    #[error("this is an HTTP and SOCKS5 proxy, and what was sent is neither")]
    Protocol,
    /// The client did not finish asking.
    #[error("the request was not finished in time")]
    Slow,
    /// The environment has used up what it may transfer.
    #[error("this environment has transferred all the bytes that its limit allows")]
    Budget,
    /// The name has no address.
    #[error("{name} cannot be resolved: {problem}")]
    Unresolved {
        /// The name asked for.
        name: HostName,
        /// What the resolver said.
        problem: String,
    },
    /// The proxy itself cannot speak TLS to the server, as a secret header demands.
    #[error("TLS to {name}, over which the owner's secret has to go, failed: {problem}")]
    Tls {
        /// The name asked for.
        name: HostName,
        /// What went wrong.
        problem: String,
    },
    /// None of the addresses answers.
    #[error("{name}:{port} cannot be reached: {problem}")]
    Unreachable {
        /// The name asked for.
        name: HostName,
        /// The port asked for.
        port: u16,
        /// What the last attempt said.
        problem: io::ErrorKind,
    },
}

/// The rule that would allow this.
fn rule_for(name: &HostName, port: u16) -> String {
    match port {
        HTTP | HTTPS => name.to_string(),
        _ => format!("{name}:{port}"),
    }
}

/// A client's own text for a message or a record: printable ASCII, cut.
pub(super) fn quoted(text: &[u8]) -> String {
    let cut = &text[..text.len().min(LONGEST_QUOTE)];
    let more = if cut.len() < text.len() { "…" } else { "" };
    format!("\"{}{more}\"", cut.escape_ascii())
}

impl Refusal {
    /// A stable word for machines.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotListed { .. } => "not-listed",
            Self::PortNotListed { .. } => "port-not-listed",
            Self::NothingListed { .. } => "nothing-listed",
            Self::Name { .. } => "not-a-name",
            Self::NotGlobal { .. } => "address-not-public",
            Self::ServerName { .. } => "server-name-differs",
            Self::NoServerName { .. } => "no-server-name",
            Self::HostDiffers { .. } => "host-differs",
            Self::NotTls { .. } => "not-tls",
            Self::Opaque { .. } => "neither-tls-nor-http",
            Self::Silent { .. } => "silent",
            Self::Request(_) => "bad-request",
            Self::Hello(_) => "bad-hello",
            Self::Socks(_) => "bad-socks",
            Self::Protocol => "unknown-protocol",
            Self::Slow => "slow",
            Self::Budget => "budget",
            Self::Unresolved { .. } => "unresolved",
            Self::Tls { .. } => "tls",
            Self::Unreachable { .. } => "unreachable",
        }
    }

    /// The rule that is missing, where one would help.
    pub fn missing_rule(&self) -> Option<String> {
        match self {
            Self::NotListed { name, port }
            | Self::PortNotListed { name, port, .. }
            | Self::NothingListed { name, port } => Some(rule_for(name, *port)),
            Self::Opaque { name, port } | Self::Silent { name, port } => {
                Some(format!("{name}:{port}/tcp"))
            }
            _ => None,
        }
    }

    /// The status code of the HTTP response that says so (RFC 9110, section 15).
    pub fn status(&self) -> u16 {
        match self {
            Self::Request(_) | Self::Hello(_) | Self::Socks(_) | Self::Protocol => 400,
            Self::Slow | Self::Silent { .. } => 408,
            Self::Unresolved { .. } | Self::Unreachable { .. } | Self::Tls { .. } => 502,
            _ => 403,
        }
    }

    /// The whole HTTP response. Its reason phrase is the message, too, because that is all that some clients show of a
    /// refused CONNECT.
    pub(super) fn response(&self) -> Vec<u8> {
        let message = format!("envd: {self}");
        let phrase: String = message
            .chars()
            .map(|c| match c {
                ' '..='~' => c,
                _ => '?',
            })
            .collect();
        let body = format!("{message}\n");
        format!(
            "HTTP/1.1 {} {phrase}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\nCache-Control: \
             no-store\r\nX-Envd-Refusal: {}\r\nConnection: close\r\n\r\n{body}",
            self.status(),
            body.len(),
            self.reason(),
        )
        .into_bytes()
    }
}

impl Serialize for Refusal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut record = serializer.serialize_struct("Refusal", 3)?;
        record.serialize_field("reason", self.reason())?;
        record.serialize_field("missing_rule", &self.missing_rule())?;
        record.serialize_field("message", &self.to_string())?;
        record.end()
    }
}
