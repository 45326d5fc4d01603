//! SOCKS version 5 (RFC 1928), as far as it is spoken here: no authentication, CONNECT, names.

use super::{
    name::{HostName, NameError},
    refusal::{Refusal, quoted},
};

/// The first byte of everything that a client says.
pub(super) const VERSION: u8 = 5;
/// The method "no authentication required".
const NO_AUTHENTICATION: u8 = 0;
/// The method "no acceptable methods".
const NO_METHOD: u8 = 0xff;
const CONNECT: u8 = 1;
const ADDRESS_V4: u8 = 1;
const ADDRESS_NAME: u8 = 3;
const ADDRESS_V6: u8 = 4;

/// Why a SOCKS request is not served.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SocksError {
    /// A first byte other than 5.
    #[error("its version is not 5")]
    Version,
    /// The client insists on authentication.
    #[error("it does not offer the method \"no authentication\"")]
    Method,
    /// BIND, UDP ASSOCIATE.
    #[error("its command is not CONNECT; there is no UDP and no listening here")]
    Command,
    /// An IPv4 or IPv6 address.
    #[error(
        "it asks for an address, and only names are accepted; let the proxy resolve the name (socks5h://)"
    )]
    Address,
    /// Some other type of address.
    #[error("its address is of an unknown type")]
    AddressType,
    /// A byte that has to be zero is not.
    #[error("its reserved byte is not zero")]
    Reserved,
    /// Port 0.
    #[error("its port is zero")]
    Port,
    /// The client closed the connection.
    #[error("it ends in the middle")]
    Cut,
}

/// The reply codes (RFC 1928, section 6).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Reply {
    /// succeeded
    Succeeded = 0,
    /// general SOCKS server failure
    Failure = 1,
    /// connection not allowed by ruleset
    NotAllowed = 2,
    /// Host unreachable
    HostUnreachable = 4,
    /// Connection refused
    ConnectionRefused = 5,
    /// Command not supported
    Command = 7,
    /// Address type not supported
    AddressType = 8,
}

impl Reply {
    /// What says this refusal.
    pub(super) fn to(refusal: &Refusal) -> Self {
        match refusal {
            Refusal::Socks(SocksError::Command) => Self::Command,
            Refusal::Socks(SocksError::Address | SocksError::AddressType) => Self::AddressType,
            Refusal::Socks(_) | Refusal::Slow => Self::Failure,
            Refusal::Unresolved { .. } => Self::HostUnreachable,
            Refusal::Unreachable {
                problem: std::io::ErrorKind::ConnectionRefused,
                ..
            } => Self::ConnectionRefused,
            Refusal::Unreachable { .. } => Self::HostUnreachable,
            _ => Self::NotAllowed,
        }
    }

    /// The whole reply. The address that it carries is unspecified: where we connect from is nobody's business inside.
    pub(super) fn bytes(self) -> [u8; 10] {
        [VERSION, self as u8, 0, ADDRESS_V4, 0, 0, 0, 0, 0, 0]
    }
}

/// The answer to the offered methods.
pub(super) fn method_reply(accepted: bool) -> [u8; 2] {
    [
        VERSION,
        if accepted {
            NO_AUTHENTICATION
        } else {
            NO_METHOD
        },
    ]
}

/// Reads the offered methods. The number of bytes they take, or `None` where more are needed.
pub(super) fn parse_methods(bytes: &[u8]) -> Result<Option<usize>, SocksError> {
    let Some((&version, rest)) = bytes.split_first() else {
        return Ok(None);
    };
    if version != VERSION {
        return Err(SocksError::Version);
    }
    let Some((&count, rest)) = rest.split_first() else {
        return Ok(None);
    };
    let count = usize::from(count);
    match rest.get(..count) {
        None => Ok(None),
        Some(methods) if methods.contains(&NO_AUTHENTICATION) => Ok(Some(2 + count)),
        Some(_) => Err(SocksError::Method),
    }
}

/// A request to connect.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Request {
    /// The name as sent and what became of it.
    pub(super) name: Result<HostName, (String, NameError)>,
    pub(super) port: u16,
}

/// Reads a request. With the number of bytes it takes, or `None` where more are needed.
pub(super) fn parse_request(bytes: &[u8]) -> Result<Option<(Request, usize)>, SocksError> {
    let &[version, command, reserved, kind, ..] = bytes else {
        return match bytes.first() {
            Some(&version) if version != VERSION => Err(SocksError::Version),
            _ => Ok(None),
        };
    };
    if version != VERSION {
        return Err(SocksError::Version);
    }
    if command != CONNECT {
        return Err(SocksError::Command);
    }
    if reserved != 0 {
        return Err(SocksError::Reserved);
    }
    match kind {
        ADDRESS_NAME => {}
        ADDRESS_V4 | ADDRESS_V6 => return Err(SocksError::Address),
        _ => return Err(SocksError::AddressType),
    }
    let Some(&length) = bytes.get(4) else {
        return Ok(None);
    };
    let end = 5 + usize::from(length);
    let (Some(name), Some(&[high, low])) = (bytes.get(5..end), bytes.get(end..end + 2)) else {
        return Ok(None);
    };
    let port = u16::from_be_bytes([high, low]);
    if port == 0 {
        return Err(SocksError::Port);
    }
    let name = HostName::from_wire(name).map_err(|problem| (quoted(name), problem));
    Ok(Some((Request { name, port }, end + 2)))
}
