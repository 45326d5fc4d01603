//! Which of its programs this file is: one file, several names.

use crate::{
    container, launcher,
    sys::{Descriptor, Start},
};

/// Runs the program that the first argument names; gives its exit code.
pub fn run(start: &Start) -> i32 {
    let mut arguments = start.arguments.iter();
    match arguments.next().map(core::ffi::CStr::to_bytes) {
        // For envd, not for people: the socket is what it inherits as standard input.
        Some(b"envd-launcher") => {
            const SOCKET: Descriptor = 0;
            launcher::run(SOCKET)
        }
        _ => container::run(start),
    }
}
