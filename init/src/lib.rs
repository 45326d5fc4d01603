//! PID 1 of an environment: it reaps, forwards signals, and ends everything by ending itself.
//!
//! The kernel does the cleaning up: when PID 1 of a PID namespace dies, every other process of that namespace is killed
//! and the namespaces, mounts and memory behind them are given back. So the whole duty of this crate is to live exactly
//! as long as the command and its owner both do, and to be of no use to what runs beside it.
//!
//! No allocation, no `std`: the process this runs in is a copy of its launcher, made by clone3(2) without an exec.

#![cfg_attr(not(test), no_std)]
#![deny(unsafe_code)]

pub mod protocol;
mod supervise;
#[allow(unsafe_code)]
mod sys;

pub use supervise::{Duty, supervise};
pub use sys::{Errno, Pid, SignalSet, block_signals, spawn};
