//! PID 1 of a container: a drop-in for tini, dumb-init and catatonit, by the name it is called.

use crate::sys::Start;

/// Runs as what it is called; gives the exit code.
pub fn run(_start: &Start) -> i32 {
    2
}
