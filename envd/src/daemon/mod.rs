//! The daemon of a project: it keeps environments ready, so that a command costs no more than its start.
//!
//! A client hands its own descriptors over, and from then on the environment's PID 1 and the client talk to each other: no
//! byte of what a command reads or writes passes through here. What the daemon owns is the environments' existence. When a
//! client's connection ends, so does what runs for it; when the daemon ends, however it ends, so does everything.
//!
//! PROTOCOL.md is what is said on the socket.

mod channel;
pub mod client;
mod conversation;
mod handing;
pub mod household;
mod inhabitant;
mod joining;
mod lease;
pub mod lending;
mod log;
pub mod maker;
pub mod message;
pub mod order;
mod packet;
pub mod place;
mod recipe;
pub mod running;
pub mod server;
pub mod serving;
mod skeletons;
mod stamp;
pub(crate) mod watched;

pub use place::{Place, PlaceError};
pub use recipe::{Recipes, Source};
