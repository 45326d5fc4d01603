//! Supervision without input or output: which service is started, stopped, killed or started again, and when.
//!
//! [`Supervisor`] is a state machine. Its driver tells it what happened and what time it is ([`Event`]), and does what it
//! is told ([`Action`]). It starts no process, reads no clock and opens no file, so the project's daemon and the PID 1 of a
//! machine use the same one, and a test plays years of crashes in a second.
//!
//! The rules in short:
//!
//! * A service is started when everything it *needs* is up, and what it is only *after* is no longer on its way. What does
//!   not wait for another starts at once, side by side. Services stop in the opposite order.
//! * A service that ends is started again as its [`Restart`] says, each time after a longer pause. Those that need it keep
//!   running meanwhile. When it has failed for good, so have they: each is stopped and says why.
//! * Whatever is stopped has until a common deadline. After three quarters of it order is given up, shortly before its end
//!   everything that is left is killed, and at the end the driver is told who was slow, whether they have ended or not.
#![forbid(unsafe_code)]

mod clock;
mod error;
mod event;
mod exit;
pub mod graph;
mod name;
pub mod notify;
mod restart;
mod service;
mod signal;
mod status;
mod supervisor;
mod unit;

pub use error::SupervisorError;
pub use event::{Action, Event, Run, Slow};
pub use exit::ExitStatus;
pub use name::{Name, NameError};
pub use restart::{Limit, Policy, Restart};
pub use service::{Readiness, Service};
pub use signal::{Signal, SignalError};
pub use status::{Report, State, Status};
pub use supervisor::Supervisor;
