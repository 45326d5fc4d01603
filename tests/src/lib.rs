//! What it takes to test envd from the outside: packages and hostile packages made in memory ([`deb`], [`hostile`]), a
//! signed archive that moves on ([`archive`]) served on loopback with faults on request ([`server`]), a scrubbed home
//! for each test ([`sandbox`]), an ordinary user when the tests run as root ([`user`]), and the count of what a command
//! left behind ([`leftovers`]). The programs inside are compiled here ([`programs`]), or are the host's own git ([`git`]).
//!
//! The product is known by its command line alone: see [`sandbox::envd_binary`] for how the binary is found.
#![forbid(unsafe_code)]

pub mod agent;
pub mod archive;
pub mod clock;
pub mod daemon;
pub mod deb;
pub mod git;
pub mod hostile;
pub mod key;
pub mod leftovers;
pub mod programs;
pub mod requirement;
pub mod sandbox;
pub mod screen;
pub mod server;
pub mod session;
pub mod tape;
pub mod user;
pub mod vm;
pub mod world;

use sha2::{Digest as _, Sha256};

/// Debian's name of this machine's architecture.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "i386",
        other => other,
    }
}

/// SHA-256 in lower-case hexadecimal digits.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}
