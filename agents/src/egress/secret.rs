//! Values that an environment may use and not see: header fields put into its plain HTTP requests on their way out.
//!
//! Where the header says so, the proxy speaks TLS to the server itself, so that the value is never in the clear; a client inside
//! uses an `http://` address. What clients say in TLS of their own passes unread, and nothing is put into it.

use super::name::HostName;
use crate::secret::{Header, Secret};

/// A field that is set on requests to one host and port.
#[derive(Clone, Debug)]
pub struct SecretHeader {
    host: HostName,
    port: u16,
    name: String,
    value: Secret,
    /// What must not come back.
    secret: Secret,
    upgrade: bool,
}

/// Why a secret cannot be a header field. The value is not repeated.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SecretError {
    /// Not a token of RFC 9110.
    #[error("{0:?} is no name of a header field")]
    Name(String),
    /// A field that the proxy itself writes.
    #[error("the header field {0} is the proxy's own to write")]
    Reserved(String),
    /// A control character or something beyond ASCII.
    #[error("the value for the header field {0} holds characters that a header field cannot")]
    Value(String),
}

impl SecretHeader {
    /// The field that `header` makes of a value. Its host has to be on the network list as well.
    pub fn of(header: &Header, secret: &Secret) -> Result<Self, SecretError> {
        let Header {
            host,
            port,
            name,
            before,
            after,
            upgrade,
        } = header;
        if !super::http::is_token(name.as_bytes()) {
            return Err(SecretError::Name(name.clone()));
        }
        if super::http::is_own(name) {
            return Err(SecretError::Reserved(name.clone()));
        }
        let value = [before.as_bytes(), secret.reveal(), after.as_bytes()].concat();
        let value = Secret::new(value);
        let text = value.reveal();
        if !text.iter().all(|byte| matches!(byte, b' '..=b'~')) || text.trim_ascii() != text {
            return Err(SecretError::Value(name.clone()));
        }
        Ok(Self {
            host: host.clone(),
            port: *port,
            name: name.clone(),
            value,
            secret: secret.clone(),
            upgrade: *upgrade,
        })
    }

    /// Whether requests to this host and port get it.
    pub(super) fn concerns(&self, host: &HostName, port: u16) -> bool {
        self.host == *host && self.port == port
    }

    /// Whether the proxy speaks TLS to the host.
    pub(super) fn upgrades(&self) -> bool {
        self.upgrade
    }

    /// The field's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The value, for the one place that writes it out.
    pub(super) fn value(&self) -> &[u8] {
        self.value.reveal()
    }

    /// What must not come back in an answer.
    pub(super) fn secret(&self) -> &Secret {
        &self.secret
    }
}
