//! `envd-shim`: a file named like a tool, for editors, cron, git hooks and whatever else wants a path to one.
//!
//! It lies in `PROJECT/.envd/bin/`, or in a directory with a link `.envd-project` to the project. The project's daemon runs the tool; where there is none yet, `PROJECT/.envd/envd`, a link to the
//! envd that installed it, starts one. Nothing is realised on the way: an editor must not begin to download.
//! Inside the environment itself, where the path is the same, it is the tool.

use core::ffi::CStr;

use envd_init::sys::{self, Start as Process, Vector, constant::*};

use crate::{
    arguments::{Invocation, MOST_VARIABLES},
    attempt, place,
    text::Path,
};

/// What lies between a project and its shims.
const DIRECTORY: &[u8] = b"/.envd/";

/// In a directory of shims elsewhere: the link to their project.
const OWNER: &[u8] = b".envd-project";

/// Exit code where the tool could not be run at all, as of env(1).
const NOT_RUN: i32 = 125;

/// Where programs are inside, in the order of PATH there.
const PROGRAMS: [&[u8]; 6] = [
    b"/usr/local/bin/",
    b"/usr/bin/",
    b"/bin/",
    b"/usr/local/sbin/",
    b"/usr/sbin/",
    b"/sbin/",
];

/// Runs the tool that this file is named like; gives the exit code.
pub fn run(process: &Process) -> i32 {
    // The file's own name, not what it was called by: that may be anything.
    let Some(executable) = place::read_link(&[b"/proc/self/exe"]) else {
        return complain(&[b"cannot tell which file this is: is /proc mounted?"]);
    };
    let path = executable.as_bytes();
    let name = path
        .iter()
        .rposition(|byte| *byte == b'/')
        .map_or(0, |slash| slash + 1);
    let tool = &path[name..];
    let home = match rfind(path, DIRECTORY) {
        Some(at) => Path::of(&[&path[..at]]),
        // Elsewhere a link beside it says whose it is.
        None => place::read_link(&[&path[..name], OWNER]),
    };
    let Some(home) = home else {
        return complain(&[
            path,
            b": nothing says which project this shim is of; make it with \"envd shim install\"",
        ]);
    };
    let home = home.as_bytes();
    let Some(project) = project(home) else {
        return complain(&[
            tool,
            b": there is no envd.toml in ",
            home,
            b" any more; remove this shim, or put it back",
        ]);
    };
    let Some(tool) = Path::of(&[tool]) else {
        return complain(&[b"the name is too long"]);
    };
    let command = [tool.as_c_str()].into_iter();
    let command = Vector::new(command.chain(process.arguments.iter().skip(1)));
    let Ok(command) = command else {
        return complain(&[b"out of memory"]);
    };
    let inside = place::variable(process.environment.iter(), "ENVD_PROJECT");
    if inside == Some(project.as_bytes()) {
        return directly(&tool, &command, process);
    }
    let invocation = Invocation {
        project: Some(project.as_c_str()),
        inside: 0,
        daemon: true,
        variables: [None; MOST_VARIABLES],
        command: command.iter(),
    };
    match attempt::by_daemon(&invocation, process) {
        Some(code) => code,
        None => whole(home, &project, &command, process),
    }
}

/// Inside the environment already, where an editor or a hook was started: there the tool is at its own place.
fn directly(tool: &Path, command: &Vector<'_>, process: &Process) -> i32 {
    for directory in PROGRAMS {
        if let Some(program) = Path::of(&[directory, tool.as_bytes()]) {
            sys::execute(program.as_c_str(), command, &process.environment);
        }
    }
    complain(&[tool.as_bytes(), b": the environment has no such command"])
}

/// Leaves it to the whole of envd; comes back only if that is not there.
fn whole(home: &[u8], project: &Path, command: &Vector<'_>, process: &Process) -> i32 {
    let Some(envd) = Path::of(&[home, DIRECTORY, b"envd"]) else {
        return complain(&[home, b": the path is too long"]);
    };
    let words = [
        c"envd",
        c"run",
        c"--ready",
        c"--start-daemon",
        c"--project",
        project.as_c_str(),
        c"--",
    ];
    let Ok(words) = Vector::new(words.into_iter().chain(command.iter())) else {
        return complain(&[b"out of memory"]);
    };
    sys::execute(envd.as_c_str(), &words, &process.environment);
    complain(&[
        envd.as_bytes(),
        b" leads to no envd any more; run \"envd shim install\" in ",
        home,
    ])
}

/// The project that the shim belongs to; or, where one is in a work tree that `git worktree` made, that one: the same shims serve
/// all of them.
fn project(home: &[u8]) -> Option<Path> {
    let mut buffer = [0; crate::text::LONGEST_PATH];
    let current = sys::current_directory(&mut buffer).map_or(&b""[..], CStr::to_bytes);
    let within = current.strip_prefix(home);
    if !within.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
        && let Some(other) = place::above(current)
        && is_work_tree(&other)
    {
        return Some(other);
    }
    place::above(home).filter(|found| found.as_bytes() == home)
}

/// Whether `.git` is a file, which leads to the repository elsewhere.
fn is_work_tree(project: &Path) -> bool {
    let git = Path::of(&[project.as_bytes(), b"/.git"]);
    let status = git.and_then(|git| sys::status_at(AT_FDCWD, git.as_c_str(), false).ok());
    status.is_some_and(|status| status.mode & S_IFMT == S_IFREG)
}

/// Where `needle` begins last.
fn rfind(text: &[u8], needle: &[u8]) -> Option<usize> {
    text.windows(needle.len())
        .rposition(|window| window == needle)
}

fn complain(parts: &[&[u8]]) -> i32 {
    let _ = sys::write_all(2, b"envd: ");
    for part in parts {
        let _ = sys::write_all(2, part);
    }
    let _ = sys::write_all(2, b"\n");
    NOT_RUN
}
