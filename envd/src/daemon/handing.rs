//! What a client hands over, made ready to be handed on: the command as it is inside.

use std::{
    ffi::{CStr, CString, OsStr},
    fs::File,
    io,
    os::{
        fd::OwnedFd,
        unix::{
            ffi::{OsStrExt as _, OsStringExt as _},
            fs::FileExt as _,
        },
    },
    path::Path,
};

use envd_init::{
    request::{Draft, Limit, Request, SESSION},
    sys::{self, SignalSet},
};
use envd_shims::request;

use super::{
    message::{Reason, Refusal},
    order::Variable,
    recipe::Recipe,
};
use crate::settings::HostVariables;

/// The whole environment of a command, which is its caller's until a [`Handed`] has made it the inside's.
pub fn variables(command: &Request<'_>) -> HostVariables {
    let entries = command.environment.filter_map(|entry| {
        let bytes = entry.to_bytes();
        let at = bytes.iter().position(|byte| *byte == b'=')?;
        let (name, value) = (&bytes[..at], &bytes[at + 1..]);
        Some((OsStr::from_bytes(name), OsStr::from_bytes(value)))
    });
    entries.collect()
}

/// A command that was handed over, and what it is to be.
#[derive(Clone, Copy)]
pub struct Handed<'h> {
    /// As its caller has it.
    pub command: &'h Request<'h>,
    /// How the inside is.
    pub recipe: &'h Recipe,
    /// All of its caller's variables.
    pub caller: &'h HostVariables,
    /// `--env`.
    pub extra: &'h [Variable],
}

impl Handed<'_> {
    /// The command as PID 1 is to execute it: the inside's variables and working directory, a session of its own, and what its
    /// caller has and this process, which PID 1 has it from, has not.
    pub fn for_init(&self) -> Result<Vec<u8>, Refusal> {
        let limits = limits(self.command.limits.iter())?;
        let niceness = niceness(self.command.niceness)?;
        self.adapt((SESSION, self.command.ignored), niceness, &limits)
    }

    /// The command as its caller is to execute it, whose child it then is.
    pub fn for_caller(&self) -> Result<Vec<u8>, Refusal> {
        self.adapt((0, SignalSet(0)), None, &[])
    }

    fn adapt(
        &self,
        (flags, ignored): (u32, SignalSet),
        niceness: Option<i32>,
        limits: &[Limit],
    ) -> Result<Vec<u8>, Refusal> {
        let (command, recipe) = (self.command, self.recipe);
        let environment: Vec<CString> = recipe
            .variables(self.caller, self.extra)
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
        let shell = recipe.shell()?;
        let shell = shell.map(|shell| CString::new(shell.into_os_string().into_vec()));
        let shell = shell.map(Result::unwrap_or_default);
        let (program, arguments) = match &shell {
            Some(shell) => (shell.as_c_str(), None),
            None => (command.program, Some(command.arguments)),
        };
        let draft = Draft {
            flags,
            umask: command.umask,
            niceness,
            ignored,
            // Those of the plan hold whatever the caller's are.
            limits: limits
                .iter()
                .copied()
                .chain(request::numbered(&recipe.blueprint.plan.limits)),
            arguments: arguments.into_iter().flatten().chain(shell.as_deref()),
            environment: environment.iter().map(CString::as_c_str),
        };
        let mut bytes = Vec::with_capacity(1024);
        draft.write(&directory, program, &mut |more: &[u8]| {
            bytes.extend_from_slice(more)
        });
        Ok(bytes)
    }
}

/// The caller may do something that no command of this process may.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0} of the command is beyond what the daemon was started with")]
pub struct Beyond(&'static str);

impl From<Beyond> for Refusal {
    fn from(beyond: Beyond) -> Self {
        Self::new(Reason::Beyond, beyond.to_string())
    }
}

/// Those of a caller's limits that differ from this process's. A hard limit of more than this process's is not to be had; a soft
/// one, which is what holds, is not given up for that.
fn limits(wanted: impl Iterator<Item = Limit>) -> Result<Vec<Limit>, Beyond> {
    let mut differing = Vec::new();
    for limit in wanted {
        let Ok((soft, hard)) = sys::limit(limit.resource) else {
            continue;
        };
        if limit.soft > hard {
            return Err(Beyond("a resource limit"));
        }
        let possible = Limit {
            hard: limit.hard.min(hard).max(limit.soft),
            ..limit
        };
        if (possible.soft, possible.hard) != (soft, hard) {
            differing.push(possible);
        }
    }
    Ok(differing)
}

/// A caller's niceness where it differs from this process's.
fn niceness(wanted: Option<i32>) -> Result<Option<i32>, Beyond> {
    /// `RLIMIT_NICE`: 20 less the niceness that a process may go down to.
    const NICE: u32 = 13;
    let Some((wanted, own)) = wanted.zip(sys::niceness().ok()) else {
        return Ok(None);
    };
    let lowest = || sys::limit(NICE).map_or(own, |(soft, _)| 20 - soft.min(40) as i32);
    match wanted {
        _ if wanted == own => Ok(None),
        _ if wanted > own || wanted >= lowest() => Ok(Some(wanted)),
        _ => Err(Beyond("the priority")),
    }
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
        const DESCRIPTORS: u32 = 7;
        let (soft, hard) = sys::limit(DESCRIPTORS).unwrap();
        let of = |soft, hard| {
            limits(std::iter::once(Limit {
                resource: DESCRIPTORS,
                soft,
                hard,
            }))
        };
        assert_eq!(of(soft, hard), Ok(vec![]), "they are the same");
        let lower = Limit {
            resource: DESCRIPTORS,
            soft: 8,
            hard: 16,
        };
        assert_eq!(of(8, 16), Ok(vec![lower]));
        assert_eq!(of(8, u64::MAX).map(|limits| limits[0].hard), Ok(hard));
        if hard < u64::MAX {
            assert!(
                of(hard + 1, u64::MAX).is_err(),
                "more than the daemon's own"
            );
        }
        assert_eq!(limits(std::iter::once(Limit::both(4242, 1))), Ok(vec![]));
    }

    #[test]
    fn a_command_is_as_nice_as_its_caller_or_is_not_run_here() {
        let own = sys::niceness().unwrap();
        assert_eq!(niceness(None), Ok(None));
        assert_eq!(niceness(Some(own)), Ok(None));
        assert_eq!(niceness(Some(19)), Ok((own != 19).then_some(19)));
    }
}
