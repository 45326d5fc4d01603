//! How much one environment's way out may take.

use std::time::Duration;

/// Bounds for one environment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Connections at a time. Further ones wait in the kernel's queue until one ends.
    pub connections: usize,
    /// Bytes of a request's head, or of a TLS client's first message.
    pub opening_bytes: usize,
    /// How long a client may take to say what it wants, and again for its first bytes into a tunnel.
    pub opening: Duration,
    /// How long resolving and connecting may take.
    pub connecting: Duration,
    /// How long a connection may carry nothing.
    pub idle: Duration,
    /// Bytes in both directions together, over the environment's life.
    pub total_bytes: Option<u64>,
}

impl Default for Limits {
    /// 128 connections, 32 KiB and 30 s to ask, 30 s to connect, 5 min of silence, any number of bytes.
    fn default() -> Self {
        Self {
            connections: 128,
            opening_bytes: 32 << 10,
            opening: Duration::from_secs(30),
            connecting: Duration::from_secs(30),
            idle: Duration::from_secs(300),
            total_bytes: None,
        }
    }
}
