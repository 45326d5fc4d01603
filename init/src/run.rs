//! Which of its programs this file is: one file, several names.

use crate::{container, sys::Start};

/// Runs the program that the first argument names; gives its exit code.
pub fn run(start: &Start) -> i32 {
    container::run(start)
}
