//! What PID 1 and the launcher report as numbers, in words.

use std::path::{Path, PathBuf};

use envd_init::protocol::{Failure, Stage};

use crate::{
    compile::Program,
    errno::Errno,
    error::{LaunchError, SetupError},
    explain,
    plan::{Command, Limit},
    request,
};

/// Why there is no environment, or no command in it. `command` is the one that was to be started, if one was.
pub(crate) fn launch_error(
    failure: &Failure,
    program: Option<&Program>,
    command: Option<&Command>,
) -> LaunchError {
    let errno = Errno(failure.errno);
    match failure.stage {
        Stage::Clone => LaunchError::Namespaces {
            hint: explain::restricted(errno),
            source: errno,
        },
        Stage::Join => LaunchError::Join(errno),
        _ => setup_error(setup(failure, program, command)),
    }
}

/// With what to do about it.
fn setup_error(error: SetupError) -> LaunchError {
    let hint = match &error {
        SetupError::Maps { source, .. } | SetupError::Propagation { source } => {
            explain::restricted(*source)
        }
        _ => String::new(),
    };
    LaunchError::Setup {
        error: Box::new(error),
        hint,
    }
}

fn setup(failure: &Failure, program: Option<&Program>, command: Option<&Command>) -> SetupError {
    let source = Errno(failure.errno);
    let protect = |call: &str| SetupError::Protect {
        call: call.to_owned(),
        source,
    };
    match failure.stage {
        Stage::Malformed | Stage::Clone | Stage::Join => {
            protect("what it was asked to do cannot be read")
        }
        Stage::Maps => SetupError::Maps {
            file: match failure.index {
                0 => "/proc/self/setgroups",
                1 => "/proc/self/uid_map",
                _ => "/proc/self/gid_map",
            }
            .to_owned(),
            source,
        },
        Stage::Operation => {
            let origin = program.and_then(|program| program.origin(failure.index));
            let origin = origin.cloned().unwrap_or_else(|| protect("an operation"));
            origin.with_source(source)
        }
        Stage::Protect => protect(match failure.index {
            0 => "PR_SET_PDEATHSIG",
            1 => "PR_SET_NAME",
            2 => "signalfd",
            3 => "capset",
            _ => "its connection",
        }),
        Stage::Spawn => SetupError::Spawn { source },
        Stage::TooMany => SetupError::Spawn {
            source: Errno(libc::EAGAIN),
        },
        Stage::Socket => protect("socket"),
        Stage::Job => SetupError::JobControl {
            what: match failure.index {
                0 => "a session of its own",
                1 => "a process group of its own",
                _ => "the terminal",
            }
            .to_owned(),
            source,
        },
        Stage::Descriptors => protect("dup2"),
        Stage::Limit => SetupError::Limit {
            limit: request::limit(failure.index).unwrap_or(Limit::Core),
            value: 0,
            source,
        },
        Stage::Capabilities => SetupError::Capabilities {
            what: "permitted set".to_owned(),
            source,
        },
        Stage::Directory => SetupError::WorkingDirectory {
            path: command.map_or_else(PathBuf::new, |command| command.directory.clone()),
            source,
        },
        Stage::Missing => missing(command, failure.index != 0),
        Stage::Refused => SetupError::Program {
            program: command.map_or_else(PathBuf::new, |command| found(command, failure.index)),
            source,
        },
    }
}

fn missing(command: Option<&Command>, interpreter: bool) -> SetupError {
    let program = command.map_or_else(PathBuf::new, |command| (&command.program).into());
    let searched = command.filter(|_| !program.to_string_lossy().contains('/'));
    SetupError::ProgramMissing {
        searched: searched.map(|command| request::path(command).to_string_lossy().into_owned()),
        program,
        interpreter,
    }
}

/// Where PID 1 found the program: in the directory of PATH with this number, if it searched.
fn found(command: &Command, index: u32) -> PathBuf {
    let program = Path::new(&command.program);
    if program.components().count() > 1 || program.has_root() {
        return program.to_owned();
    }
    let path = request::path(command);
    let directory = std::env::split_paths(&path).nth(index as usize);
    directory.unwrap_or_default().join(program)
}
