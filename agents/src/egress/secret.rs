//! Values that an environment may use and not see: header fields put into its plain HTTP requests on their way out.
//!
//! TLS is not ended here, so nothing can be put into https:// requests; a secret for those has to go into the environment
//! of one command. And a server that answers with what it was sent shows the secret to whoever asked.

use std::fmt;

use super::name::HostName;

/// A text that no log shows: `Debug` says only that there is one, and nothing serialises it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// A field that is set on requests to one host.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SecretHeader {
    host: HostName,
    name: String,
    value: Secret,
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
    /// The field `name` with `value` for plain HTTP requests to `host`, which has to be on the network list as well.
    pub fn new(host: HostName, name: &str, value: String) -> Result<Self, SecretError> {
        if !super::http::is_token(name.as_bytes()) {
            return Err(SecretError::Name(name.to_owned()));
        }
        if super::http::is_own(name) {
            return Err(SecretError::Reserved(name.to_owned()));
        }
        if !value.bytes().all(|byte| matches!(byte, b' '..=b'~')) || value.trim() != value {
            return Err(SecretError::Value(name.to_owned()));
        }
        Ok(Self {
            host,
            name: name.to_owned(),
            value: Secret(value),
        })
    }

    /// The host whose requests get it.
    pub fn host(&self) -> &HostName {
        &self.host
    }

    /// The field's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The value, for the one place that writes it out.
    pub(super) fn value(&self) -> &str {
        &self.value.0
    }
}
