//! The quick way in: what `envd run` and a shim do when everything is ready.
//!
//! A program with a C library spends most of a millisecond before `main` on a machine where CPUID traps, and a large program
//! as much again on its own memory when it is copied. This one has neither: it is the first code of `envd` itself (see
//! `envd/build.rs`) and a program of a few pages ([`envd-shim`](shim)). It asks the project's daemon if one runs; else it
//! carries out a [start](start) that an earlier run has left in the store, after looking whether everything that it depends
//! on is as it was. Where anything is not plain (a first run, a changed file, an option that it does not know, a terminal) it
//! does nothing at all and leaves the matter to the whole of envd.

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

pub mod arguments;
mod attempt;
mod daemon;
pub mod facts;
pub mod key;
mod place;
mod relay;
pub mod shim;
pub mod start;
mod text;

use envd_init::sys::Start as Process;

/// Runs what the process was started for, if that can be done quickly: its exit code. `None` if nothing has been done.
pub fn front(process: &Process) -> Option<i32> {
    let invocation = arguments::run(process.arguments.iter())?;
    attempt::attempt(&invocation, process)
}

/// The program `envd-shim`, to be written to a file and executed (see [`shim`]).
#[cfg(not(freestanding))]
pub static SHIM: &[u8] = include_bytes!(env!("ENVD_SHIM_BINARY"));
