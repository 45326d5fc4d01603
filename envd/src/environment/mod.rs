//! From a realised root and a caller to a launcher's plan. [`plan()`] is a pure function of what was observed:
//! [`Caller`] and [`HostFacts`] of the machine, [`RootFacts`] of the environment's root.

pub mod caches;
mod caller;
mod facts;
pub mod git;
mod identity;
mod plan;
pub mod start;
mod variables;
mod workplace;

pub use caches::Cache;
pub use caller::Caller;
pub use facts::{HostFacts, NameFile, RootFacts, Wanted};
pub use plan::{Inputs, Network, plan, variables};
pub use variables::PATH;
pub use workplace::{Shadow, Workplace, working_directory};
