//! A minimal `/dev`.

use std::path::{Path, PathBuf};

use rustix::{
    fs::{FileType, Mode},
    io::Errno,
    mount::MountFlags,
};

use crate::{
    error::SetupError,
    mounts,
    root::Stage,
    target::{Inside, mount_error},
};

/// Device nodes taken from the host: none can be made in a user namespace.
const NODES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

/// Links to the process's own descriptors, and to the one multiplexer of its own terminals.
const LINKS: [(&str, &str); 6] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("core", "/proc/kcore"),
    ("ptmx", "pts/ptmx"),
];

/// Mounts it: a tmpfs (mode 755: some maintainer scripts take a sticky one for `/tmp`) with the host's nodes bound to
/// empty files. A bind costs 20 µs, hence only those that programs cannot do without. A file system for message queues is
/// not among them: queues work without, and it only lists them.
pub(crate) fn mount(
    inside: &Inside,
    target: &Path,
    stage: &mut Option<Stage>,
) -> Result<(), SetupError> {
    let part = |name: &str| target.join(name);
    let directory = mounts::tmpfs(inside, target, 0o755, None, stage)?;
    rustix::process::fchdir(&directory).map_err(|error| mount_error("tmpfs", target, error))?;

    for name in NODES {
        bind_node(Path::new("/dev").join(name), name)
            .map_err(|error| mount_error(&format!("/dev/{name}"), &part(name), error))?;
    }
    if let Some(terminal) = terminal() {
        bind_node(terminal.clone(), "console").map_err(|error| {
            mount_error(&terminal.display().to_string(), &part("console"), error)
        })?;
    }
    for (name, points_to) in LINKS {
        rustix::fs::symlink(points_to, name)
            .map_err(|error| mount_error("a symbolic link", &part(name), error))?;
    }
    // Not a tmpfs of its own: this is one already.
    let shared = Mode::from_raw_mode(0o1777);
    rustix::fs::mkdir("shm", shared).map_err(|error| mount_error("tmpfs", &part("shm"), error))?;
    let failed = |error| mount_error("devpts", &part("pts"), error);
    rustix::fs::mkdir("pts", Mode::from_raw_mode(0o755)).map_err(failed)?;
    let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
    let options = c"newinstance,ptmxmode=0666,mode=0620";
    rustix::mount::mount("devpts", "pts", "devpts", flags, options).map_err(failed)?;
    Ok(())
}

/// Binds a node of the host to a new file in the current directory.
fn bind_node(node: PathBuf, name: &str) -> Result<(), Errno> {
    let mode = Mode::from_raw_mode(0o666);
    rustix::fs::mknodat(rustix::fs::CWD, name, FileType::RegularFile, mode, 0)?;
    rustix::mount::mount_bind(node, name)
}

/// The terminal on standard input, by its name on the host. Inside, `/dev/pts` is another file system, and this is the
/// only name that ttyname(3) finds it by.
fn terminal() -> Option<PathBuf> {
    let input = std::io::stdin();
    if !rustix::termios::isatty(&input) {
        return None;
    }
    let name = rustix::termios::ttyname(&input, Vec::new()).ok()?;
    Some(PathBuf::from(std::ffi::OsString::from(
        name.into_string().ok()?,
    )))
}
