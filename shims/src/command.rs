//! The first process's program, arguments and environment, made ready before there is a process for them.

use std::{
    ffi::{CStr, CString, OsStr},
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::PathBuf,
};

use crate::{
    error::{LaunchError, SetupError},
    plan::Command,
    sys::{self, Vector},
};

/// Searched when the environment has no PATH.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Everything exec needs, and nothing left to allocate.
pub(crate) struct Ready {
    /// As given.
    program: PathBuf,
    /// The PATH, when it is searched.
    searched: Option<String>,
    /// What to try, in order.
    candidates: Vec<CString>,
    arguments: Vec<CString>,
    environment: Vec<CString>,
    /// Where it starts.
    pub(crate) directory: CString,
}

impl Ready {
    pub(crate) fn new(command: &Command) -> Result<Self, LaunchError> {
        let program = &command.program;
        if program.is_empty() {
            return Err(LaunchError::Plan("there is no program to run".to_owned()));
        }
        let path = command.environment.get("PATH");
        let (searched, candidates) = if program.as_bytes().contains(&b'/') {
            (None, vec![c_string(program)?])
        } else {
            let path = path.map_or(OsStr::new(DEFAULT_PATH), |path| path);
            let directories = path.as_bytes().split(|byte| *byte == b':');
            // An empty component is the current directory, says POSIX; a surprise that nobody misses.
            let candidates = directories
                .filter(|directory| !directory.is_empty())
                .map(|directory| {
                    let mut candidate = directory.to_vec();
                    candidate.push(b'/');
                    candidate.extend(program.as_bytes());
                    c_string(OsStr::from_bytes(&candidate))
                })
                .collect::<Result<_, _>>()?;
            (Some(path.to_string_lossy().into_owned()), candidates)
        };
        let arguments = std::iter::once(program).chain(&command.arguments);
        let environment = command.environment.iter().map(|(name, value)| {
            if name.is_empty() || name.contains('=') {
                let message = format!("{name:?} cannot be the name of a variable");
                return Err(LaunchError::Plan(message));
            }
            let mut entry = name.clone().into_bytes();
            entry.push(b'=');
            entry.extend(value.as_bytes());
            c_string(OsStr::from_bytes(&entry))
        });
        Ok(Ready {
            program: program.into(),
            searched,
            candidates,
            arguments: arguments
                .map(|argument| c_string(argument))
                .collect::<Result<_, _>>()?,
            environment: environment.collect::<Result<_, _>>()?,
            directory: c_string(command.directory.as_os_str())?,
        })
    }

    /// Becomes the program; comes back with why not. A directory of PATH in which it may not be executed does not end
    /// the search, as in shells.
    pub(crate) fn execute(&self) -> SetupError {
        let environment = Vector::new(self.environment.iter().map(CString::as_c_str));
        let arguments = Vector::new(self.arguments.iter().map(CString::as_c_str));
        let mut denied = None;
        let mut interpreter = false;
        for candidate in &self.candidates {
            // A program that is not there costs execve ten times as much.
            if self.searched.is_some() && !exists(candidate) {
                continue;
            }
            let error = sys::execute(candidate, &arguments, &environment);
            match error.raw_os_error() {
                Some(libc::ENOENT | libc::ENOTDIR) => {
                    interpreter |= exists(candidate);
                }
                Some(libc::EACCES) => {
                    denied.get_or_insert((candidate, error));
                }
                // A script without `#!` is for the shell, says POSIX.
                Some(libc::ENOEXEC) if is_text(candidate) => {
                    let rest = self.arguments.iter().skip(1).map(CString::as_c_str);
                    let shell = [c"/bin/sh", candidate.as_c_str()];
                    let arguments = Vector::new(shell.into_iter().chain(rest));
                    let error = sys::execute(c"/bin/sh", &arguments, &environment);
                    return self.refused(candidate, error);
                }
                _ => return self.refused(candidate, error),
            }
        }
        match denied {
            Some((candidate, error)) => self.refused(candidate, error),
            None => SetupError::ProgramMissing {
                program: self.program.clone(),
                searched: self.searched.clone(),
                interpreter,
            },
        }
    }

    fn refused(&self, candidate: &CStr, error: std::io::Error) -> SetupError {
        SetupError::Program {
            program: PathBuf::from(std::ffi::OsString::from_vec(candidate.to_bytes().to_vec())),
            source: error.into(),
        }
    }
}

/// Whether there is a file, as far as can be seen: what cannot be looked at is for execve to refuse.
fn exists(file: &CStr) -> bool {
    let found = rustix::fs::access(file, rustix::fs::Access::EXISTS);
    !matches!(
        found,
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR)
    )
}

/// Whether a file that has no format known to the kernel looks like a script: nothing but text at its beginning.
fn is_text(file: &CStr) -> bool {
    let mut start = [0; 128];
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC;
    rustix::fs::open(file, flags, rustix::fs::Mode::empty())
        .and_then(|file| rustix::io::read(&file, &mut start))
        .is_ok_and(|length| {
            !start[..length].contains(&0) && !start[..length].starts_with(b"\x7fELF")
        })
}

fn c_string(text: &OsStr) -> Result<CString, LaunchError> {
    CString::new(text.as_bytes())
        .map_err(|_| LaunchError::Plan(format!("{text:?} contains a zero byte")))
}
