//! A command as PID 1 takes it (see [`envd_init::request`]).

use std::{
    collections::BTreeMap,
    ffi::{CString, OsStr, OsString},
    os::unix::ffi::{OsStrExt, OsStringExt},
};

use envd_init::{
    inherited::Inherited,
    request::{self, Draft, FOREGROUND, SESSION, TERMINAL, TREE},
    sys::SignalSet,
};

use crate::{
    error::LaunchError,
    plan::{Command, Limit},
};

/// Searched when the environment has no PATH.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Every limit and the kernel's number of it (setrlimit(2)).
const RESOURCES: [(Limit, u32); 7] = [
    (Limit::CpuSeconds, libc::RLIMIT_CPU),
    (Limit::FileSize, libc::RLIMIT_FSIZE),
    (Limit::Data, libc::RLIMIT_DATA),
    (Limit::Core, libc::RLIMIT_CORE),
    (Limit::Processes, libc::RLIMIT_NPROC),
    (Limit::Descriptors, libc::RLIMIT_NOFILE),
    (Limit::AddressSpace, libc::RLIMIT_AS),
];

/// The limit with this number.
pub(crate) fn limit(resource: u32) -> Option<Limit> {
    let row = RESOURCES.iter().find(|(_, number)| *number == resource);
    row.map(|(limit, _)| *limit)
}

/// The PATH that the command is looked up in.
pub(crate) fn path(command: &Command) -> OsString {
    let path = command.environment.get("PATH");
    path.cloned().unwrap_or_else(|| DEFAULT_PATH.into())
}

/// Limits as a request has them.
pub fn limits(limits: &BTreeMap<Limit, u64>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for limit in numbered(limits) {
        limit.write(&mut |more: &[u8]| bytes.extend_from_slice(more));
    }
    bytes
}

/// Limits by the kernel's numbers.
pub fn numbered(
    limits: &BTreeMap<Limit, u64>,
) -> impl Iterator<Item = request::Limit> + Clone + use<'_> {
    limits.iter().filter_map(|(limit, value)| {
        let row = RESOURCES.iter().find(|(known, _)| known == limit)?;
        Some(request::Limit::both(row.1, *value))
    })
}

/// Encodes a command. With `foreground` it gets a process group of its own in the foreground of the terminal on standard
/// input, unless it has a session of its own.
pub fn encode(
    command: &Command,
    limits: &BTreeMap<Limit, u64>,
    foreground: bool,
) -> Result<Vec<u8>, LaunchError> {
    draft(command, numbered(limits), foreground, (None, SignalSet(0)))
}

/// Encodes a command that is to be as if it were a child of this process, whoever starts it.
pub fn encode_as_child(command: &Command, inherited: &Inherited) -> Result<Vec<u8>, LaunchError> {
    let signals = (inherited.niceness, inherited.ignored);
    draft(command, inherited.limits(), false, signals)
}

fn draft(
    command: &Command,
    limits: impl Iterator<Item = request::Limit> + Clone,
    foreground: bool,
    (niceness, ignored): (Option<i32>, SignalSet),
) -> Result<Vec<u8>, LaunchError> {
    let wrong = |message: String| LaunchError::Plan(message);
    if command.program.is_empty() {
        return Err(wrong("there is no program to run".to_owned()));
    }
    if !command.directory.is_absolute() {
        let directory = command.directory.display();
        return Err(wrong(format!(
            "the working directory {directory} is not absolute"
        )));
    }
    let program = c_string(&command.program)?;
    let arguments: Vec<CString> = std::iter::once(&command.program)
        .chain(&command.arguments)
        .map(|argument| c_string(argument))
        .collect::<Result<_, _>>()?;
    let environment: Vec<CString> = command
        .environment
        .iter()
        .map(|(name, value)| {
            if name.is_empty() || name.contains('=') {
                return Err(wrong(format!("{name:?} cannot be the name of a variable")));
            }
            let mut entry = name.clone().into_bytes();
            entry.push(b'=');
            entry.extend(value.as_bytes());
            c_string(&OsString::from_vec(entry))
        })
        .collect::<Result<_, _>>()?;
    let mut flags = 0;
    if command.terminal {
        flags |= SESSION | TERMINAL;
    } else if command.new_session {
        flags |= SESSION;
    } else if foreground {
        flags |= FOREGROUND;
    }
    let draft = Draft {
        flags,
        umask: command.umask,
        niceness,
        ignored,
        limits,
        arguments: arguments.iter().map(CString::as_c_str),
        environment: environment.iter().map(CString::as_c_str),
    };
    let mut bytes = Vec::with_capacity(4096);
    let directory = c_string(command.directory.as_os_str())?;
    draft.write(&directory, &program, &mut |more: &[u8]| {
        bytes.extend_from_slice(more);
    });
    Ok(bytes)
}

/// Has an encoded command be killed with all its descendants.
pub(crate) fn kill_as_tree(request: &mut [u8]) {
    // The flags come first.
    if let Some(flags) = request.first_chunk_mut::<4>() {
        *flags = (u32::from_ne_bytes(*flags) | TREE).to_ne_bytes();
    }
}

/// Gives an encoded command the terminal on its standard input, whose session it stays in.
pub(crate) fn take_foreground(request: &mut [u8]) {
    if let Some(flags) = request.first_chunk_mut::<4>() {
        *flags = (u32::from_ne_bytes(*flags) | FOREGROUND).to_ne_bytes();
    }
}

fn c_string(text: &OsStr) -> Result<CString, LaunchError> {
    CString::new(text.as_bytes())
        .map_err(|_| LaunchError::Plan(format!("{text:?} contains a zero byte")))
}
