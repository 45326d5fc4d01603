//! What a client hands over, made ready to be handed on: the command as it is inside.

use std::{
    ffi::{CStr, CString, OsStr, OsString},
    fs::File,
    io,
    os::{
        fd::OwnedFd,
        unix::{ffi::OsStrExt as _, fs::FileExt as _},
    },
    path::Path,
};

use envd_init::request::{Draft, Request, SESSION};

use super::recipe::Recipe;
use crate::settings::HostVariables;

/// The whole environment of a command, which is its caller's until [`adapt`] has made it the inside's.
pub fn variables(command: &Request<'_>) -> HostVariables {
    let entries = command.environment.filter_map(|entry| {
        let bytes = entry.to_bytes();
        let at = bytes.iter().position(|byte| *byte == b'=')?;
        let (name, value) = (&bytes[..at], &bytes[at + 1..]);
        Some((OsStr::from_bytes(name), OsStr::from_bytes(value)))
    });
    entries.collect()
}

/// The command as PID 1 is to execute it: the inside's variables and working directory, and a session of its own.
pub fn adapt(
    command: &Request<'_>,
    recipe: &Recipe,
    caller: &HostVariables,
    extra: &[(String, OsString)],
) -> Vec<u8> {
    let environment: Vec<CString> = recipe
        .variables(caller, extra)
        .into_iter()
        .filter_map(|(name, value)| {
            let mut entry = name.into_bytes();
            entry.push(b'=');
            entry.extend_from_slice(value.as_bytes());
            // What a manifest says may hold a zero byte; no variable can.
            CString::new(entry).ok()
        })
        .collect();
    let current = Path::new(OsStr::from_bytes(command.directory.to_bytes()));
    let directory = recipe.directory(current);
    let directory = CString::new(directory.as_os_str().as_bytes()).unwrap_or_default();
    let draft = Draft {
        flags: SESSION,
        umask: command.umask,
        limits: command
            .limits
            .iter()
            .filter(|limit| possible(*limit))
            .collect::<Vec<_>>()
            .into_iter(),
        arguments: command.arguments,
        environment: environment.iter().map(CString::as_c_str),
    };
    let mut bytes = Vec::with_capacity(1024);
    draft.write(&directory, command.program, &mut |more: &[u8]| {
        bytes.extend_from_slice(more)
    });
    bytes
}

/// Whether a limit can be set where the hard one is the daemon's: only a lower one can.
fn possible((resource, value): (u32, u64)) -> bool {
    use nix::sys::resource::{Resource, getrlimit};
    let known = [
        Resource::RLIMIT_CPU,
        Resource::RLIMIT_FSIZE,
        Resource::RLIMIT_DATA,
        Resource::RLIMIT_STACK,
        Resource::RLIMIT_CORE,
        Resource::RLIMIT_RSS,
        Resource::RLIMIT_NPROC,
        Resource::RLIMIT_NOFILE,
        Resource::RLIMIT_MEMLOCK,
        Resource::RLIMIT_AS,
        Resource::RLIMIT_LOCKS,
        Resource::RLIMIT_SIGPENDING,
        Resource::RLIMIT_MSGQUEUE,
        Resource::RLIMIT_NICE,
        Resource::RLIMIT_RTPRIO,
    ];
    let resource = known.into_iter().find(|known| *known as u32 == resource);
    resource.is_some_and(|resource| getrlimit(resource).is_ok_and(|(_, hard)| value <= hard))
}

/// What was put into memory because it was too long for a packet, at most so many bytes.
pub fn read_memory(file: Option<OwnedFd>, most: u64) -> io::Result<Vec<u8>> {
    let file = file.ok_or(io::ErrorKind::NotFound)?;
    // Only files in memory have seals. Anything else might have the daemon wait.
    rustix::fs::fcntl_get_seals(&file)?;
    let file = File::from(file);
    let length = file.metadata()?.len();
    if length > most {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let mut bytes = vec![0; length as usize];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

/// Puts something into memory, as [`read_memory`] takes it.
pub fn in_memory(bytes: &[u8]) -> io::Result<OwnedFd> {
    use rustix::fs::{MemfdFlags, memfd_create};
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = File::from(memfd_create(NAME, flags)?);
    file.write_all_at(bytes, 0)?;
    Ok(file.into())
}

const NAME: &CStr = c"envd-command";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::order::TAIL;

    #[test]
    fn only_memory_is_read_and_only_so_much() {
        let file = in_memory(b"abc").unwrap();
        assert_eq!(read_memory(Some(file), TAIL as u64).unwrap(), b"abc");
        let (reader, _writer) = rustix::pipe::pipe().unwrap();
        assert!(
            read_memory(Some(reader), TAIL as u64).is_err(),
            "it would wait"
        );
        assert!(read_memory(None, TAIL as u64).is_err());
        let file = in_memory(b"").unwrap();
        rustix::fs::ftruncate(&file, TAIL as u64 + 1).unwrap();
        assert!(read_memory(Some(file), TAIL as u64).is_err());
    }

    #[test]
    fn no_limit_is_asked_for_that_would_be_refused() {
        use nix::sys::resource::{Resource, getrlimit};
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        let number = Resource::RLIMIT_NOFILE as u32;
        assert!(possible((number, 8)));
        assert_eq!(possible((number, u64::MAX)), hard == u64::MAX);
        assert!(!possible((4242, 1)));
    }
}
