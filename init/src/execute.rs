//! From a request to a process: what happens between vfork and exec.

use core::ffi::CStr;

use crate::{
    protocol::{Failure, Stage},
    request::{FOREGROUND, Request, SESSION, Strings, TERMINAL},
    sys::{
        self, Capabilities, Descriptor, Disposition, Errno, Lasting, Mask, Pid, Region, SignalSet,
        Vector, constant::*,
    },
};

/// Searched when the environment has no PATH.
const DEFAULT_PATH: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Longest path that is tried, with its zero byte (PATH_MAX).
const LONGEST_PATH: usize = 4096;

/// What the command gets from PID 1, whatever it asks for.
#[derive(Clone, Copy, Debug)]
pub struct Given<'g> {
    /// Capabilities, in all sets.
    pub kept: u64,
    /// Signals that it starts with blocked.
    pub mask: SignalSet,
    /// The mask of permission bits, where the request has none.
    pub umask: u32,
    /// Descriptors that become its first ones; empty if it inherits those of PID 1.
    pub descriptors: &'g [Descriptor],
}

/// Bytes of stack for the moment between clone and exec.
const STACK: usize = 128 * 1024;

/// Bytes for the lists of arguments and variables. Longer ones get memory of their own.
const LISTS: usize = 16 * 1024;

/// Memory that commands are started with, one after the other.
#[derive(Debug)]
pub struct Scratch {
    stack: Region,
    lists: Region,
}

impl Scratch {
    /// Fresh.
    pub fn new() -> Result<Self, Failure> {
        let failed = |error: Errno| Failure::at(Stage::Spawn, 0, error.0);
        Ok(Scratch {
            stack: Region::new(STACK).map_err(failed)?,
            lists: Region::new(LISTS).map_err(failed)?,
        })
    }
}

/// Starts a command. `Err` says at which step it failed, and then there is no process.
pub fn execute(
    request: &Request<'_>,
    given: &Given<'_>,
    scratch: &mut Scratch,
) -> Result<Pid, Failure> {
    let words = scratch.lists.words_mut();
    let (first, second) = words.split_at_mut(words.len() / 2);
    let prepared = Prepared {
        request,
        given,
        arguments: list(request.arguments, first)?,
        environment: list(request.environment, second)?,
    };
    let mut failure = None;
    let pid = sys::spawn(&mut scratch.stack, &mut || {
        failure = Some(become_command(&prepared));
        127
    })
    .map_err(|error| Failure::at(Stage::Spawn, 0, error.0))?;
    match failure {
        None => Ok(pid),
        Some(failure) => {
            // It has ended, and nobody else is told of it.
            let _ = sys::wait_for(pid);
            Err(failure)
        }
    }
}

/// Starts a command below a keeper (see [`sys::keep`]), whose memory `memory` becomes until it is reaped. A failure to spawn with
/// index 1: the command may run, and nobody keeps it.
pub fn execute_kept(
    request: &Request<'_>,
    given: &Given<'_>,
    scratch: &mut Scratch,
    memory: Lasting,
) -> Result<(Pid, Pid), Failure> {
    let mut failure = Failure::at(Stage::Spawn, 0, EAGAIN);
    let kept = sys::keep(memory, &mut || match execute(request, given, scratch) {
        Ok(pid) => Some(pid),
        Err(why) => {
            failure = why;
            None
        }
    })
    .map_err(|error| Failure::at(Stage::Spawn, u32::from(error.0 == ESRCH), error.0))?;
    match kept.command {
        Some(command) => Ok((kept.keeper, command)),
        None => Err(failure),
    }
}

fn list<'l>(strings: Strings<'l>, room: &'l mut [usize]) -> Result<Vector<'l>, Failure> {
    let vector = match strings.count() < room.len() {
        true => Vector::within(room, strings),
        false => Vector::new(strings),
    };
    vector.map_err(|error| Failure::at(Stage::Spawn, 0, error.0))
}

struct Prepared<'p> {
    request: &'p Request<'p>,
    given: &'p Given<'p>,
    arguments: Vector<'p>,
    environment: Vector<'p>,
}

/// In the new process, which shares PID 1's memory until it executes the program: comes back only with why not.
fn become_command(prepared: &Prepared<'_>) -> Failure {
    match prepare(prepared) {
        Ok(()) => search(prepared),
        Err(failure) => failure,
    }
}

fn prepare(prepared: &Prepared<'_>) -> Result<(), Failure> {
    let (request, given) = (prepared.request, prepared.given);
    let failed = |stage, index| move |error: Errno| Failure::at(stage, index, error.0);
    // PID 1 would not see its own end otherwise: it holds what the command must not.
    take_descriptors(given.descriptors).map_err(failed(Stage::Descriptors, 0))?;
    if request.flags & SESSION != 0 {
        sys::new_session().map_err(failed(Stage::Job, 0))?;
        if request.flags & TERMINAL != 0 {
            sys::take_terminal(0, false).map_err(failed(Stage::Job, 2))?;
        }
    } else if request.flags & FOREGROUND != 0 {
        sys::new_group().map_err(failed(Stage::Job, 1))?;
        // SIGTTOU is blocked here, as in PID 1.
        sys::give_terminal(0, sys::own_pid()).map_err(failed(Stage::Job, 2))?;
    }
    for limit in request.limits.iter() {
        sys::set_limit(limit.resource, limit.soft, limit.hard)
            .map_err(failed(Stage::Limit, limit.resource))?;
    }
    if let Some(niceness) = request.niceness {
        // Whoever asks for one that cannot be had has been told before.
        let _ = sys::set_niceness(niceness);
    }
    sys::set_capabilities(Capabilities {
        effective: given.kept,
        permitted: given.kept,
        inheritable: given.kept,
    })
    .map_err(failed(Stage::Capabilities, 0))?;
    sys::change_directory(request.directory).map_err(failed(Stage::Directory, 0))?;
    sys::set_umask(request.umask.unwrap_or(given.umask));
    let _ = sys::set_disposition(SIGPIPE, Disposition::Default);
    for signal in request.ignored.iter() {
        let _ = sys::set_disposition(signal, Disposition::Ignore);
    }
    sys::close_on_exec_from(3.max(given.descriptors.len() as Descriptor));
    let mask = sys::mask_signals(Mask::Set, given.mask);
    mask.map(drop).map_err(failed(Stage::Protect, 2))
}

/// Makes `descriptors` the first ones. They lie above all places that are filled (see [`sys::move_above`]).
fn take_descriptors(descriptors: &[Descriptor]) -> Result<(), Errno> {
    for (place, descriptor) in descriptors.iter().enumerate() {
        sys::duplicate_to(*descriptor, place as Descriptor)?;
    }
    Ok(())
}

/// Tries the program, or each place of PATH. A directory in which it may not be executed does not end the search, as in
/// shells; nor is an empty component the current directory, which POSIX has and nobody misses.
fn search(prepared: &Prepared<'_>) -> Failure {
    let program = prepared.request.program;
    if program.to_bytes().contains(&b'/') {
        let mut missing = false;
        return attempt(prepared, program, 0, &mut missing).unwrap_or(Failure::at(
            Stage::Missing,
            u32::from(missing),
            ENOENT,
        ));
    }
    let mut denied = None;
    let mut interpreter = false;
    let directories = path(prepared).split(|byte| *byte == b':');
    for (index, directory) in directories.enumerate().filter(|(_, path)| !path.is_empty()) {
        let mut place = [0; LONGEST_PATH];
        let Some(candidate) = join(&mut place, directory, program) else {
            continue;
        };
        // A program that is not there costs execve ten times as much.
        if !sys::exists(candidate) {
            continue;
        }
        match attempt(prepared, candidate, index as u32, &mut interpreter) {
            Some(failure) if failure.errno == EACCES => denied = denied.or(Some(failure)),
            Some(failure) => return failure,
            None => {}
        }
    }
    denied.unwrap_or(Failure::at(Stage::Missing, u32::from(interpreter), ENOENT))
}

/// Executes; `None` where the file, or the interpreter that it names, is not there.
fn attempt(
    prepared: &Prepared<'_>,
    candidate: &CStr,
    index: u32,
    interpreter: &mut bool,
) -> Option<Failure> {
    let error = sys::execute(candidate, &prepared.arguments, &prepared.environment);
    match error.0 {
        ENOENT | ENOTDIR => {
            *interpreter |= sys::exists(candidate);
            None
        }
        // A script without `#!` is for the shell, says POSIX.
        ENOEXEC if is_text(candidate) => {
            let rest = prepared.arguments.iter().skip(1);
            let script = [c"/bin/sh", candidate].into_iter().chain(rest);
            let error = match Vector::new(script) {
                Ok(arguments) => sys::execute(c"/bin/sh", &arguments, &prepared.environment),
                Err(error) => error,
            };
            Some(Failure::at(Stage::Refused, index, error.0))
        }
        errno => Some(Failure::at(Stage::Refused, index, errno)),
    }
}

fn path<'p>(prepared: &'p Prepared<'_>) -> &'p [u8] {
    let mut variables = prepared.request.environment;
    let value = variables.find_map(|variable| variable.to_bytes().strip_prefix(b"PATH="));
    value.unwrap_or(DEFAULT_PATH)
}

fn join<'j>(place: &'j mut [u8; LONGEST_PATH], directory: &[u8], name: &CStr) -> Option<&'j CStr> {
    let name = name.to_bytes();
    let end = directory.len() + 1 + name.len();
    if end >= LONGEST_PATH || name.is_empty() {
        return None;
    }
    place[..directory.len()].copy_from_slice(directory);
    place[directory.len()] = b'/';
    place[directory.len() + 1..end].copy_from_slice(name);
    CStr::from_bytes_until_nul(place).ok()
}

/// Whether a file that has no format known to the kernel looks like a script: nothing but text at its beginning.
fn is_text(file: &CStr) -> bool {
    let mut start = [0; 128];
    let Ok(opened) = sys::open_at(AT_FDCWD, file, 0, 0) else {
        return false;
    };
    let read = sys::read(opened, &mut start);
    sys::close(opened);
    read.is_ok_and(|length| {
        let start = start.get(..length).unwrap_or_default();
        !start.contains(&0) && !start.starts_with(b"\x7fELF")
    })
}
