//! What may be done in an environment, and by whom.
//!
//! The launcher in `envd-shims` is mechanism: it does what its plan says. What the plan says about privileges is decided
//! here, as values that print and compare. What was done inside comes out through [`changes`]: looked at, judged, and put
//! back as far as the owner wants it.
#![forbid(unsafe_code)]

pub mod audit;
pub mod changes;
pub mod egress;
pub mod install;
pub mod mcp;
pub mod policy;
pub mod secret;
pub mod service;

pub use policy::Policy;
