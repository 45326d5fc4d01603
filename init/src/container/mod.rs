//! PID 1 of a container: a drop-in for tini, dumb-init and catatonit, by the name it is called.
//!
//! One mechanism serves them all: [`begin`] starts the program, [`watch`] looks after it. What differs is data, in a file for
//! each name ([`dialect::Dialect`]): its command line, what that means ([`settings::Settings`]), and the words in which it
//! tells what happens ([`event::Event`]).

mod activation;
mod begin;
mod catatonit;
mod child;
mod dialect;
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

use dialect::{Dialect, last_component};

use crate::sys::{self, Mask, SignalSet, Start};

/// Printed where a name has an option for it.
const LICENCE: &str = "Apache-2.0 OR MIT\n";

/// Runs as what it is called; gives the exit code.
pub fn run(start: &Start) -> i32 {
    // Before anything else: what is not blocked is lost to a PID 1, and deadly to any other process.
    let before = sys::mask_signals(Mask::Set, SignalSet::ALL).unwrap_or_default();
    let called = start.arguments.iter().next().unwrap_or_default();
    let dialect = named(last_component(called.to_bytes()));
    let mut settings = dialect.settings;
    match dialect.parse(start, &mut settings) {
        Ok(command) => begin::begin(&settings, &command, before),
        Err(code) => code,
    }
}

/// By a name, or by the name under which a container manager brings it along.
fn named(name: &[u8]) -> &'static Dialect {
    const OTHERS: [&Dialect; 3] = [&tini::DIALECT, &dumb_init::DIALECT, &catatonit::DIALECT];
    let mut others = OTHERS.into_iter();
    others
        .find(|dialect| dialect.names.contains(&name))
        .unwrap_or(&plain::DIALECT)
}
