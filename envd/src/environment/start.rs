//! What is kept of a run, for the next one to be carried out without looking at anything twice (`shims/trampoline`).

use std::{
    ffi::{CString, OsStr},
    fs,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use envd_init::{
    program::Field as _,
    sys::{
        self, Errno,
        constant::{AT_FDCWD, ENOENT, ENOTDIR},
    },
};
use envd_shims::{LaunchError, Plan, compile};
use envd_trampoline::{
    facts, key,
    start::{Check, NEW_SESSION, Start},
};

use crate::{environment::git::repository_of_worktree, settings::HostVariables};

/// How long a file must have been as it is before it is believed that it was so when it was read: the clock that files are
/// dated by ticks every 4 ms, and much may happen within a tick.
const SETTLED: Duration = Duration::from_millis(50);

/// What a start is made of.
#[derive(Clone, Copy, Debug)]
pub struct Run<'r> {
    /// The plan. Its command's program and directory do not matter.
    pub plan: &'r Plan,
    /// The project's directory.
    pub project: &'r Path,
    /// Flags of [`envd_trampoline::arguments`].
    pub inside: u32,
    /// The directory that is the root.
    pub view: &'r Path,
    /// `uname -n` of the machine.
    pub hostname: &'r str,
    /// The caller's ids.
    pub ids: (u32, u32),
    /// The caller's variables.
    pub variables: &'r HostVariables,
    /// The user's configuration file, there or not.
    pub configuration: Option<&'r Path>,
    /// When this process began to read files.
    pub since: SystemTime,
}

/// A name and the bytes to keep under it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Kept {
    /// See [`key::start`].
    pub name: String,
    /// See [`Start`].
    pub bytes: Vec<u8>,
}

/// Makes a start; `None` where it could not be told whether it still holds.
pub fn keep(run: &Run<'_>) -> Result<Option<Kept>, LaunchError> {
    let program = compile(run.plan)?;
    // What is to be said on each run is not for the quick way, which says nothing.
    if !program.downgrades().is_empty() {
        return Ok(None);
    }
    Ok(written(run, program.bytes()))
}

fn written(run: &Run<'_>, program: &[u8]) -> Option<Kept> {
    let checks = checks(run)?;
    let mut environment = Vec::new();
    for (name, value) in &run.plan.command.environment {
        environment.extend_from_slice(name.as_bytes());
        environment.push(b'=');
        environment.extend_from_slice(value.as_bytes());
        environment.push(0);
    }
    let variables: Vec<CString> = run
        .variables
        .iter()
        .filter_map(|(name, value)| {
            CString::new([name.as_bytes(), b"=", value.as_bytes()].concat()).ok()
        })
        .collect();
    let mut known = Vec::new();
    facts::write(
        run.ids,
        variables.iter().map(CString::as_c_str),
        &mut |more: &[u8]| {
            known.extend_from_slice(more);
        },
    );
    let project = text(run.project.as_os_str())?;
    let start = Start {
        facts: &known,
        inside: run.inside,
        project: &project,
        view: &text(run.view.as_os_str())?,
        hostname: &text(OsStr::new(run.hostname))?,
        boot: &fs::read("/proc/sys/kernel/random/boot_id").ok()?,
        flags: if run.plan.command.new_session {
            NEW_SESSION
        } else {
            0
        },
        limits: &envd_shims::request::limits(&run.plan.limits),
        check_bytes: &checks,
        variables: &environment,
        program,
    };
    let mut bytes = Vec::new();
    start.write(&mut |more: &[u8]| bytes.extend_from_slice(more));
    let name = key::start(project.as_bytes(), run.inside, &known);
    Some(Kept {
        name: String::from_utf8_lossy(&name).into_owned(),
        bytes,
    })
}

/// Everything that was read on the way to the plan, as it is now. `None` if something of it may have changed meanwhile.
fn checks(run: &Run<'_>) -> Option<Vec<u8>> {
    let mut files: Vec<(PathBuf, bool)> = vec![
        (fs::read_link("/proc/self/exe").ok()?, true),
        (run.project.join("envd.toml"), true),
        (run.project.join("envd.lock"), true),
        // Whether it is a work tree of another repository.
        (run.project.join(".git"), false),
        (run.view.to_owned(), true),
        ("/etc/passwd".into(), true),
        ("/etc/group".into(), true),
        ("/etc/hosts".into(), true),
        ("/etc/resolv.conf".into(), true),
        ("/etc/localtime".into(), false),
    ];
    files.extend(run.configuration.map(|file| (file.to_owned(), true)));
    // And whether that one is still what is there.
    files.extend(repository_of_worktree(run.project).map(|path| (path, false)));
    let limit = run.since.checked_sub(SETTLED)?;
    let limit = limit.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    let mut bytes = Vec::new();
    for (path, follow) in files {
        let path = text(path.as_os_str())?;
        let found = match sys::status_at(AT_FDCWD, &path, follow) {
            Ok(status) => Some(status),
            Err(Errno(ENOENT | ENOTDIR)) => None,
            Err(_) => return None,
        };
        let changed = found.map_or((0, 0), |status| status.changed);
        if Duration::new(changed.0.max(0) as u64, changed.1) >= limit {
            return None;
        }
        let check = Check {
            path: &path,
            follow,
            found,
        };
        check.write(&mut |more: &[u8]| bytes.extend_from_slice(more));
    }
    Some(bytes)
}

fn text(text: &OsStr) -> Option<CString> {
    CString::new(text.as_bytes()).ok()
}
