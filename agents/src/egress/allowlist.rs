//! What `[agent] network = [...]` says: which names may be reached, on which ports.
//!
//! | written | allows |
//! |---|---|
//! | `pypi.org` | this name, ports 80 and 443 |
//! | `*.crates.io` | every name below `crates.io`, however deep, not `crates.io` itself; ports 80 and 443 |
//! | `example.org:8443` | this name and port, for TLS and HTTP |
//! | `github.com:22/tcp` | this name and port, for whatever is spoken there |
//!
//! Without `/tcp` what a client says first is looked at: TLS has to ask for the name that was allowed, HTTP has to address
//! it, and nothing else passes. With it, nothing is looked at, which is what ssh or a database needs.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use super::{
    name::{HostName, NameError},
    refusal::Refusal,
};

/// The port of plain HTTP.
pub const HTTP: u16 = 80;
/// The port of HTTP over TLS.
pub const HTTPS: u16 = 443;

/// One line of the list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rule {
    host: Pattern,
    /// `None` is 80 and 443.
    port: Option<u16>,
    opaque: bool,
}

/// Which names a rule speaks of.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Pattern {
    /// This one.
    Exactly(HostName),
    /// Those below it.
    Below(HostName),
}

/// Why a text is no rule.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RuleError {
    /// Not a host name.
    #[error("{text:?} cannot be on the network list: {problem}")]
    Name {
        /// The rule as written.
        text: String,
        /// What is wrong with its name.
        problem: NameError,
    },
    /// `https://example.org/`.
    #[error(
        "{text:?} cannot be on the network list: it is a URL; write the name alone, as in \"example.org\""
    )]
    Url {
        /// The rule as written.
        text: String,
    },
    /// `*`, `*.com`, `foo.*`, `a*.example.org`.
    #[error(
        "{text:?} cannot be on the network list: a wildcard stands for whole labels at the start and needs two more after \
         it, as in \"*.example.org\""
    )]
    Wildcard {
        /// The rule as written.
        text: String,
    },
    /// Not a number between 1 and 65535.
    #[error("{text:?} cannot be on the network list: {port:?} is no port between 1 and 65535")]
    Port {
        /// The rule as written.
        text: String,
        /// What stands for the port.
        port: String,
    },
    /// `example.org/udp`, `example.org/tcp`.
    #[error(
        "{text:?} cannot be on the network list: after the name and the port only \"/tcp\" may follow, as in \
         \"example.org:5432/tcp\""
    )]
    Ending {
        /// The rule as written.
        text: String,
    },
}

impl Rule {
    /// Whether it allows this.
    pub fn allows(&self, name: &HostName, port: u16) -> bool {
        self.names(name) && self.ports(port)
    }

    /// Whether what passes is looked at: false lets any protocol through.
    pub fn is_opaque(&self) -> bool {
        self.opaque
    }

    /// Whether everything that `other` allows is allowed by this one.
    pub fn covers(&self, other: &Self) -> bool {
        let names = match &other.host {
            Pattern::Exactly(name) => self.names(name),
            Pattern::Below(parent) => {
                matches!(&self.host, Pattern::Below(mine) if mine == parent || parent.is_below(mine))
            }
        };
        let ports = match other.port {
            Some(port) => self.ports(port),
            None => self.port.is_none(),
        };
        names && ports && (self.opaque || !other.opaque)
    }

    fn names(&self, name: &HostName) -> bool {
        match &self.host {
            Pattern::Exactly(mine) => mine == name,
            Pattern::Below(parent) => name.is_below(parent),
        }
    }

    fn ports(&self, port: u16) -> bool {
        match self.port {
            None => matches!(port, HTTP | HTTPS),
            Some(mine) => mine == port,
        }
    }
}

impl FromStr for Rule {
    type Err = RuleError;

    fn from_str(written: &str) -> Result<Self, RuleError> {
        let text = || written.to_owned();
        if written.contains("://") {
            return Err(RuleError::Url { text: text() });
        }
        let (rest, opaque) = match written.split_once('/') {
            None => (written, false),
            Some((rest, "tcp")) => (rest, true),
            Some(_) => return Err(RuleError::Ending { text: text() }),
        };
        let (host, port) = match rest.split_once(':') {
            None => (rest, None),
            // Two colons or a bracket: an IPv6 address, which the name's own parser calls by its name.
            Some((_, port)) if rest.starts_with('[') || port.contains(':') => (rest, None),
            Some((host, digits)) => {
                let port = port_number(digits.as_bytes()).ok_or_else(|| RuleError::Port {
                    text: text(),
                    port: digits.to_owned(),
                })?;
                (host, Some(port))
            }
        };
        if opaque && port.is_none() {
            return Err(RuleError::Ending { text: text() });
        }
        let name = |host: &str| {
            host.parse().map_err(|problem| RuleError::Name {
                text: text(),
                problem,
            })
        };
        let host = match host.strip_prefix("*.") {
            None if host.contains('*') => return Err(RuleError::Wildcard { text: text() }),
            None => Pattern::Exactly(name(host)?),
            Some(parent) => match parent.parse() {
                Ok(parent) => Pattern::Below(parent),
                Err(NameError::SingleLabel | NameError::Empty | NameError::Character('*')) => {
                    return Err(RuleError::Wildcard { text: text() });
                }
                Err(problem) => {
                    return Err(RuleError::Name {
                        text: text(),
                        problem,
                    });
                }
            },
        };
        Ok(Self { host, port, opaque })
    }
}

/// A port in decimal without sign or leading zeros. Zero is none.
pub(super) fn port_number(digits: &[u8]) -> Option<u16> {
    if digits.is_empty() || digits[0] == b'0' || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    str::from_utf8(digits).ok()?.parse().ok()
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Pattern::Exactly(name) => write!(f, "{name}")?,
            Pattern::Below(parent) => write!(f, "*.{parent}")?,
        }
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        if self.opaque {
            f.write_str("/tcp")?;
        }
        Ok(())
    }
}

impl Serialize for Rule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Rule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

/// The whole list. An empty one allows nothing.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Allowlist {
    rules: Vec<Rule>,
}

impl Allowlist {
    /// Reads a list as written; the first rule that is none is the error.
    pub fn parse<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, RuleError> {
        texts.into_iter().map(str::parse).collect()
    }

    /// The rules, in the order in which they were written.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The rule that allows this, or which rule is missing. Where several allow it the one that allows most is named.
    pub fn check(&self, name: &HostName, port: u16) -> Result<&Rule, Refusal> {
        let mut allowing = self.rules.iter().filter(|rule| rule.allows(name, port));
        if let Some(first) = allowing.next() {
            let widest = if first.opaque {
                None
            } else {
                allowing.find(|rule| rule.opaque)
            };
            return Ok(widest.unwrap_or(first));
        }
        let name = name.clone();
        if self.rules.is_empty() {
            return Err(Refusal::NothingListed { name, port });
        }
        Err(match self.rules.iter().find(|rule| rule.names(&name)) {
            Some(rule) => Refusal::PortNotListed {
                rule: rule.clone(),
                name,
                port,
            },
            None => Refusal::NotListed { name, port },
        })
    }

    /// Whether everything that `rule` allows is allowed here: a list that may only tighten this one holds no other rules.
    pub fn covers(&self, rule: &Rule) -> bool {
        self.rules.iter().any(|mine| mine.covers(rule))
    }
}

impl FromIterator<Rule> for Allowlist {
    fn from_iter<I: IntoIterator<Item = Rule>>(rules: I) -> Self {
        Self {
            rules: rules.into_iter().collect(),
        }
    }
}
