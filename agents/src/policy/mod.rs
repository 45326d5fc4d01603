//! What may be done in a lent environment, and who said so.
//!
//! A policy has layers: what is built in, what the user says (their configuration file, and the flags of whoever starts the
//! server), and what a project's file says. The user's layers replace and add; a project's can only tighten. [`effective`]
//! puts them together, a pure function whose every value keeps its [`Origin`]; requests are judged by what it gives
//! (`judge`), and [`Effective::lines`] says it, with the mechanism behind each line.
//!
//! The launcher's side of it, privileges and namespaces as a plan has them, is [`Policy`].

mod effective;
mod judge;
mod layer;
mod lines;
mod origin;
mod privileges;
mod publish;
#[cfg(test)]
mod tests;

pub use effective::{Effective, Layers, Widening, effective};
pub use layer::{Layer, Outside, Quantity};
pub use lines::{Line, Mechanism};
pub use origin::{Origin, Place, Said};
pub use privileges::Policy;
pub use publish::Publishing;
