//! Sockets that whoever started this process passed on to it (sd_listen_fds(3)) are the program's: LISTEN_PID is to name it.

use core::ffi::CStr;

use super::{
    numbers,
    settings::{Command, variable},
};
use crate::sys::{self, Vector};

const NAME: &[u8] = b"LISTEN_PID";

/// In the child: the environment with this process's id in place of its parent's; `None` when nothing is to be replaced.
pub fn rewritten<'r>(
    command: &Command<'r>,
    text: &'r mut [u8; 32],
    room: &'r mut [usize],
) -> Option<Vector<'r>> {
    let named = variable(command.environment, NAME).and_then(numbers::whole)?;
    if named != command.supervisor {
        return None;
    }
    let text = entry(text, sys::own_pid())?;
    let entries = command.environment.iter().map(|entry| {
        let rest = entry.to_bytes().strip_prefix(NAME);
        let replaced = rest.is_some_and(|rest| rest.starts_with(b"="));
        if replaced { text } else { entry }
    });
    Vector::within(room, entries).ok()
}

fn entry(text: &mut [u8; 32], pid: sys::Pid) -> Option<&CStr> {
    let mut digits = [0; 10];
    let mut places = text.iter_mut();
    for &byte in NAME
        .iter()
        .chain(b"=")
        .chain(numbers::decimal(&mut digits, pid.unsigned_abs()))
    {
        *places.next()? = byte;
    }
    *places.next()? = 0;
    CStr::from_bytes_until_nul(text).ok()
}
