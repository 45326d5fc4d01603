//! Free ports for those who ask for one by name: `{port.db}`.

use std::{
    collections::BTreeMap,
    io,
    net::{Ipv4Addr, Ipv6Addr, TcpListener},
};

use envd_store::Digest;
use envd_supervision::Name;

/// The ports that are given out: below those that the kernel gives to outgoing connections (ip_local_port_range, 32768 and above), so
/// that none of these takes one between our look and the service's.
const RANGE: std::ops::Range<u16> = 20_000..32_000;

/// Ports by name. A name keeps its port for as long as this value lives, and tends to have the same one the next time.
#[derive(Debug)]
pub struct Ports {
    /// What tells this project from others.
    seed: Vec<u8>,
    given: BTreeMap<Name, u16>,
}

/// No port is free.
#[derive(Debug, thiserror::Error)]
#[error("no port from {} to {} is free for {{port.{name}}}", RANGE.start, RANGE.end - 1)]
pub struct PortsError {
    name: Name,
    #[source]
    source: io::Error,
}

impl Ports {
    /// None yet. `seed` tells this project from others: its path, say.
    pub fn new(seed: &[u8]) -> Self {
        Self {
            seed: seed.to_owned(),
            given: BTreeMap::new(),
        }
    }

    /// Gives each of these names a port that is free now, unless it has one.
    pub fn give<'a>(&mut self, names: impl Iterator<Item = &'a Name>) -> Result<(), PortsError> {
        for name in names {
            if !self.given.contains_key(name) {
                let port = self.free(name)?;
                self.given.insert(name.clone(), port);
            }
        }
        Ok(())
    }

    /// The port of a name.
    pub fn get(&self, name: &Name) -> Option<u16> {
        self.given.get(name).copied()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&Name, u16)> {
        self.given.iter().map(|(name, port)| (name, *port))
    }

    fn free(&self, name: &Name) -> Result<u16, PortsError> {
        let mut words = self.seed.clone();
        words.push(0);
        words.extend_from_slice(name.as_str().as_bytes());
        let digest = Digest::of(&words);
        let start = u16::from_le_bytes([digest.as_bytes()[0], digest.as_bytes()[1]]);
        let mut last = io::Error::from(io::ErrorKind::AddrInUse);
        for step in 0..RANGE.end - RANGE.start {
            let port = RANGE.start + (start % RANGE.len() as u16 + step) % RANGE.len() as u16;
            if self.given.values().any(|given| *given == port) {
                continue;
            }
            match is_free(port) {
                Ok(()) => return Ok(port),
                Err(error) => last = error,
            }
        }
        Err(PortsError {
            name: name.clone(),
            source: last,
        })
    }
}

/// Whether one can listen on `port`. A machine without IPv6 is no obstacle.
fn is_free(port: u16) -> io::Result<()> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    match TcpListener::bind((Ipv6Addr::LOCALHOST, port)) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &[&str]) -> Vec<Name> {
        text.iter().map(|name| name.parse().unwrap()).collect()
    }

    #[test]
    fn each_name_has_its_own_port_and_keeps_it() {
        let names = names(&["db", "cache", "web"]);
        let mut ports = Ports::new(b"/project");
        ports.give(names.iter()).unwrap();
        let first: Vec<u16> = names.iter().map(|n| ports.get(n).unwrap()).collect();
        // The port may be in use by now: that is what it is for.
        let _listener = TcpListener::bind((Ipv4Addr::LOCALHOST, first[0]));
        ports.give(names.iter()).unwrap();
        let second: Vec<u16> = names.iter().map(|n| ports.get(n).unwrap()).collect();
        assert_eq!(first, second);
        let mut distinct = first.clone();
        distinct.dedup();
        assert_eq!(distinct.len(), 3);
        assert!(first.iter().all(|port| RANGE.contains(port)));
    }

    #[test]
    fn a_port_in_use_is_passed_over() {
        let names = names(&["db"]);
        let mut ports = Ports::new(b"/another");
        ports.give(names.iter()).unwrap();
        let taken = ports.get(&names[0]).unwrap();
        // Somebody else may have been faster: the port is in use either way.
        let _listener = TcpListener::bind((Ipv4Addr::LOCALHOST, taken));
        let mut later = Ports::new(b"/another");
        later.give(names.iter()).unwrap();
        assert_ne!(later.get(&names[0]).unwrap(), taken);
    }
}
