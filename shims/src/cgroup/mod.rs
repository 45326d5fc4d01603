//! Control groups, version 2 (Documentation/admin-guide/cgroup-v2.rst): the limits of all processes of an environment together.
//!
//! | file | is |
//! |---|---|
//! | `delegation` | where groups may be made, from what the kernel shows: a pure function |
//! | `settings` | what is written where: a pure function |
//! | `group` | making a group, reading its events, taking it away |

mod delegation;
mod group;
mod settings;

pub use delegation::{Controller, Delegation, Facts, Hierarchy, find};
pub use group::{CgroupError, Group, Groups};
pub use settings::{Limits, Setting};
