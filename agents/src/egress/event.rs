//! What the proxy tells those who keep the record.

use std::{net::IpAddr, time::Duration};

use serde::{Serialize, Serializer};

use super::{allowlist::Rule, name::HostName, refusal::Refusal};

/// How a client asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// An HTTP request with an absolute target.
    Http,
    /// HTTP CONNECT.
    Connect,
    /// SOCKS5 CONNECT.
    Socks5,
    /// Not understood.
    Unknown,
}

/// Why what was let through ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// Both sides were done.
    Finished,
    /// Nothing passed for too long.
    Idle,
    /// The environment used up its bytes.
    Budget,
    /// A side broke the connection off.
    Broken,
    /// The client's request body was malformed.
    Malformed,
    /// The environment ended.
    Cancelled,
}

/// One decision, or the end of what a decision allowed. Every connection whose client asked for something gives either one
/// `Refused`, or an `Allowed` and later its `Closed`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// Something was let through.
    Allowed {
        /// Numbers an environment's connections from 1.
        connection: u64,
        /// How it was asked for.
        protocol: Protocol,
        /// Where to.
        name: HostName,
        /// On which port.
        port: u16,
        /// The rule that allows it.
        rule: Rule,
        /// The address that was connected to.
        address: IpAddr,
    },
    /// What was let through ended.
    Closed {
        /// The number that `Allowed` gave.
        connection: u64,
        /// Where to.
        name: HostName,
        /// On which port.
        port: u16,
        /// Bytes from the environment.
        sent: u64,
        /// Bytes into it.
        received: u64,
        /// Since the connection was accepted, in milliseconds in the record.
        #[serde(rename = "milliseconds", serialize_with = "milliseconds")]
        duration: Duration,
        /// Why.
        ending: Ending,
    },
    /// Nothing was let through.
    Refused {
        /// Numbers an environment's connections from 1.
        connection: u64,
        /// How it was asked for.
        protocol: Protocol,
        /// Where to, as far as it was understood.
        name: Option<HostName>,
        /// On which port, as far as it was understood.
        port: Option<u16>,
        /// Why, and which rule is missing.
        refusal: Refusal,
        /// Since the connection was accepted, in milliseconds in the record.
        #[serde(rename = "milliseconds", serialize_with = "milliseconds")]
        duration: Duration,
    },
}

fn milliseconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

/// Gets every event, in the task that serves the connection: it has to return at once.
pub trait Reporter: Send + Sync {
    /// Takes note.
    fn report(&self, event: Event);
}

impl<F: Fn(Event) + Send + Sync> Reporter for F {
    fn report(&self, event: Event) {
        self(event);
    }
}
