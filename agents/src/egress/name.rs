//! Names of hosts, as the network list writes them and as clients ask for them.
//!
//! A [`HostName`] is what DNS calls a fully qualified name: at least two labels, lower case, internationalised labels as
//! A-labels (RFC 5890), no trailing dot. No spelling of an address is one: whatever `inet_aton(3)` would take for an
//! address ends in a numeric label, and no such name is accepted (as the WHATWG URL standard has it).

use std::{fmt, str::FromStr};

use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};
use serde::Serialize;

/// The longest name, in bytes, without the trailing dot (RFC 1035, section 2.3.4).
const LONGEST_NAME: usize = 253;
/// The longest label (the same).
const LONGEST_LABEL: usize = 63;

/// The name of a host: validated, lower case, A-labels, no trailing dot.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
#[serde(transparent)]
pub struct HostName(String);

/// Why a text is no host name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NameError {
    /// There is nothing.
    #[error("the name is empty")]
    Empty,
    /// More than 253 bytes.
    #[error("the name is longer than 253 bytes")]
    Long,
    /// Two dots in a row, a leading dot, or more than 63 bytes between dots.
    #[error("a label of the name is empty or longer than 63 bytes")]
    Label,
    /// A dot at the end.
    #[error("the name ends in a dot; leave it out")]
    TrailingDot,
    /// An address in any spelling: dotted, decimal, octal, hexadecimal, IPv6.
    #[error("that is an address, and only names are accepted")]
    Address,
    /// No dot: a machine of the local network, or a whole top-level domain.
    #[error("the name has a single label; only full names such as \"example.org\" are accepted")]
    SingleLabel,
    /// A character that no host name has: NUL, a space, `@`, `/`, `*`, …
    #[error("the name holds {0:?}, which no host name does")]
    Character(char),
    /// Something that is not ASCII where a client has to send A-labels.
    #[error("the name is not ASCII; internationalised names are asked for as A-labels (xn--…)")]
    NotAscii,
    /// A label that is not valid under UTS 46.
    #[error("the name is no valid internationalised name (UTS 46)")]
    Internationalised,
}

impl HostName {
    /// A name as a client asked for it: ASCII only.
    pub fn from_wire(bytes: &[u8]) -> Result<Self, NameError> {
        if !bytes.is_ascii() {
            return Err(NameError::NotAscii);
        }
        // ASCII is UTF-8.
        str::from_utf8(bytes)
            .map_err(|_| NameError::NotAscii)?
            .parse()
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this name lies below `parent`, one label or more; a name does not lie below itself.
    pub fn is_below(&self, parent: &Self) -> bool {
        self.0
            .strip_suffix(&parent.0)
            .is_some_and(|rest| rest.ends_with('.'))
    }
}

impl FromStr for HostName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.starts_with('[') || text.contains(':') {
            return Err(NameError::Address);
        }
        let stranger = |c: char| {
            c.is_ascii() && !c.is_ascii_alphanumeric() && !matches!(c, '-' | '_' | '.')
                || c.is_control()
                || c.is_whitespace()
        };
        if let Some(found) = text.chars().find(|&c| stranger(c)) {
            return Err(NameError::Character(found));
        }
        let name = Uts46::new()
            .to_ascii(
                text.as_bytes(),
                AsciiDenyList::URL,
                Hyphens::Allow,
                DnsLength::Ignore,
            )
            .map_err(|_| NameError::Internationalised)?;
        if name.is_empty() {
            return Err(NameError::Empty);
        }
        if name.len() > 1 && name.ends_with('.') && !name.ends_with("..") {
            return Err(NameError::TrailingDot);
        }
        if name.len() > LONGEST_NAME {
            return Err(NameError::Long);
        }
        let mut last = "";
        for label in name.split('.') {
            if label.is_empty() || label.len() > LONGEST_LABEL {
                return Err(NameError::Label);
            }
            if label.starts_with('-') || label.ends_with('-') {
                return Err(NameError::Character('-'));
            }
            let usual =
                |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_');
            if let Some(found) = label.chars().find(|&c| !usual(c)) {
                return Err(NameError::Character(found));
            }
            last = label;
        }
        if is_numeric(last) {
            return Err(NameError::Address);
        }
        if !name.contains('.') {
            return Err(NameError::SingleLabel);
        }
        Ok(Self(name.into_owned()))
    }
}

/// Whether `inet_aton(3)` would read this label as a number: digits, or `0x` and hexadecimal digits.
fn is_numeric(label: &str) -> bool {
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    digits(label)
        || label
            .strip_prefix("0x")
            .is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
