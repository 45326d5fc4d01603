//! PID 1 of an environment: it reaps, forwards signals, and ends everything by ending itself.
//!
//! The kernel does the cleaning up: when PID 1 of a PID namespace dies, every other process of that namespace is killed
//! and the namespaces, mounts and memory behind them are given back. So the whole duty of this crate is to live exactly
//! as long as the command and its owner both do, and to be of no use to what runs beside it.
//!
//! No allocation, no `std`, no C library: the same code is linked into envd and is a program of a few pages by itself
//! ([`INIT`], [`LAUNCHER`]).

#![cfg_attr(not(test), no_std)]
#![deny(unsafe_code)]

pub mod apply;
pub mod container;
mod execute;
mod handing;
pub mod inherited;
pub mod launch;
pub mod launcher;
mod processes;
pub mod program;
pub mod protocol;
pub mod request;
mod serve;
#[allow(unsafe_code)]
pub mod sys;

pub use sys::{Errno, Pid};

/// The program `envd-init`, to be written to a file and executed: PID 1 of containers (see [`container`]).
#[cfg(not(freestanding))]
pub static INIT: &[u8] = include_bytes!(env!("ENVD_INIT_PROGRAM"));

/// The program `envd-launcher`, to be written to a file and executed: it makes environments (see [`launcher`]).
#[cfg(not(freestanding))]
pub static LAUNCHER: &[u8] = include_bytes!(env!("ENVD_LAUNCHER_PROGRAM"));
