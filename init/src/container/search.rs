//! Finding and executing a program, as execvp(3) does.

use core::ffi::CStr;

use crate::sys::{self, Errno, Vector, constant::*};

/// Where programs are looked for when PATH does not say.
const DEFAULT: &[u8] = b"/bin:/usr/bin";

/// Executes `program`: comes back only when that fails. `room` has place for the arguments and two more pointers.
pub fn execute(
    program: &CStr,
    arguments: &Vector<'_>,
    environment: &Vector<'_>,
    path: Option<&[u8]>,
    room: &mut [usize],
) -> Errno {
    if program.is_empty() {
        return Errno(ENOENT);
    }
    if program.to_bytes().contains(&b'/') {
        return at(program, arguments, environment, room);
    }
    let mut buffer = [0; 4096];
    let mut result = Errno(ENOENT);
    for directory in path.unwrap_or(DEFAULT).split(|&byte| byte == b':') {
        let Some(candidate) = join(&mut buffer, directory, program) else {
            continue;
        };
        match at(candidate, arguments, environment, room) {
            // There is one that may not be executed: worth telling unless another is found.
            Errno(EACCES) => result = Errno(EACCES),
            Errno(ENOENT | ENOTDIR | ENODEV | ESTALE | ETIMEDOUT | ENAMETOOLONG) => {}
            error => return error,
        }
    }
    result
}

fn at(
    program: &CStr,
    arguments: &Vector<'_>,
    environment: &Vector<'_>,
    room: &mut [usize],
) -> Errno {
    let error = sys::execute(program, arguments, environment);
    if error != Errno(ENOEXEC) {
        return error;
    }
    // A script that does not say whose.
    let words = [c"/bin/sh", program].into_iter();
    match Vector::within(room, words.chain(arguments.iter().skip(1))) {
        Ok(arguments) => sys::execute(c"/bin/sh", &arguments, environment),
        Err(error) => error,
    }
}

/// `directory/program`, or `program` where the directory is empty: the current one; `None` when it is too long.
fn join<'b>(buffer: &'b mut [u8], directory: &[u8], program: &CStr) -> Option<&'b CStr> {
    let slash: &[u8] = if directory.is_empty() { b"" } else { b"/" };
    let mut places = buffer.iter_mut();
    for part in [directory, slash, program.to_bytes_with_nul()] {
        for &byte in part {
            *places.next()? = byte;
        }
    }
    CStr::from_bytes_until_nul(buffer).ok()
}
