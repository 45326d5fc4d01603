//! PID 1 of a container: a drop-in for tini, dumb-init and catatonit, by the name it is called.
//!
//! One mechanism serves them all: [`begin`] starts the program, [`watch`] looks after it. What differs is data
//! ([`settings::Settings`]), made by a file for each name from its own command line, and the words in which it tells what
//! happens ([`event::Event`]).

mod activation;
mod begin;
mod catatonit;
mod dumb_init;
mod event;
mod message;
mod names;
mod numbers;
mod options;
mod plain;
mod search;
mod settings;
#[cfg(test)]
mod tests;
mod tini;
mod watch;

use crate::sys::{self, Mask, SignalSet, Start};

/// Runs as what it is called; gives the exit code.
pub fn run(start: &Start) -> i32 {
    // Before anything else: what is not blocked is lost to a PID 1, and deadly to any other process.
    let before = sys::mask_signals(Mask::Set, SignalSet::ALL).unwrap_or_default();
    let parsed = match name(start) {
        b"tini" | b"tini-static" | b"docker-init" => tini::parse(start),
        b"dumb-init" => dumb_init::parse(start),
        b"catatonit" | b"podman-init" => catatonit::parse(start),
        _ => plain::parse(start),
    };
    match parsed {
        Ok((settings, command)) => begin::begin(&settings, &command, before),
        Err(code) => code,
    }
}

/// The last component of the name that this was called by.
fn name(start: &Start) -> &[u8] {
    let called = start.arguments.iter().next().unwrap_or_default();
    called
        .to_bytes()
        .rsplit(|&byte| byte == b'/')
        .next()
        .unwrap_or_default()
}
