//! A minimal `/dev`.

use std::{
    os::fd::{AsFd as _, BorrowedFd},
    path::{Path, PathBuf},
};

use envd_init::{
    program::{Like, Operation, Slot},
    sys::constant::{MS_NOEXEC, MS_NOSUID},
};

use super::{Compiler, c_path, mounts::mount_error, text};
use crate::{error::LaunchError, skeleton::Thing};

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

/// Directories to mount on.
const DIRECTORIES: [(&str, u32); 2] = [("shm", 0o1777), ("pts", 0o755)];

/// What there is to make before nodes can be bound, relative to `/dev`.
pub(super) fn parts() -> impl Iterator<Item = (&'static str, Thing)> {
    let nodes = NODES.map(|name| (name, Thing::File(0o666, String::new())));
    let links = LINKS.map(|(name, points_to)| (name, Thing::Link(points_to.into())));
    let directories = DIRECTORIES.map(|(name, mode)| (name, Thing::Directory(mode)));
    nodes.into_iter().chain(links).chain(directories)
}

impl Compiler<'_> {
    /// A tmpfs (mode 755: some maintainer scripts take a sticky one for `/tmp`) with the host's nodes bound to empty files. A
    /// bind costs 20 µs, hence only those that programs cannot do without. A file system for message queues is not among
    /// them: queues work without, and it only lists them.
    pub(super) fn devices(&mut self, target: &Path) -> Result<(), LaunchError> {
        let part = |name: &str| target.join(name);
        let directory = self.tmpfs(target, 0o755, None)?;
        // What is put into it here is not noted one by one.
        self.fresh.insert(target.to_owned(), None);
        self.bind_nodes(directory, target)?;
        for (name, points_to) in LINKS {
            let operation = Operation::MakeLink {
                parent: directory,
                path: &text(name)?,
                points_to: &text(points_to)?,
            };
            self.push(operation, mount_error("a symbolic link", &part(name)));
        }
        // The first is no tmpfs of its own: this is one already.
        for (name, mode) in DIRECTORIES {
            let operation = Operation::MakeDirectory {
                parent: directory,
                path: &text(name)?,
                mode,
            };
            self.push(operation, mount_error("a directory", &part(name)));
        }
        self.terminals(directory, target)
    }

    /// The same where files to bind nodes to, links and directories are in a layer of the root.
    pub(super) fn nodes(&mut self, target: &Path) -> Result<(), LaunchError> {
        let directory = self.ensure(target, Like::Directory)?;
        self.bind_nodes(directory, target)?;
        // Of this, C libraries want to see that it is one (glibc before 2.34).
        self.tmpfs(&target.join("shm"), 0o1777, None)?;
        self.terminals(directory, target)
    }

    fn bind_nodes(&mut self, directory: Slot, target: &Path) -> Result<(), LaunchError> {
        for name in NODES {
            self.node(directory, target, &Path::new("/dev").join(name), name)?;
        }
        // What has a session of its own has no business with the caller's terminal, on which that may be read and drawn.
        let shared = !self.plan.command.new_session;
        if let Some(terminal) = self.terminal.filter(|_| shared) {
            self.node(directory, target, terminal, "console")?;
        }
        Ok(())
    }

    /// Terminals of its own.
    fn terminals(&mut self, directory: Slot, target: &Path) -> Result<(), LaunchError> {
        let origin = mount_error("devpts", &target.join("pts"));
        let on = self.open_below(directory, c"pts", origin.clone());
        let operation = Operation::Mount {
            kind: c"devpts",
            on,
            flags: (MS_NOSUID | MS_NOEXEC) as u32,
            options: c"newinstance,ptmxmode=0666,mode=0620",
        };
        self.push(operation, origin);
        Ok(())
    }

    /// Binds a node of the host to a file, new where there is none.
    fn node(
        &mut self,
        directory: Slot,
        target: &Path,
        node: &Path,
        name: &str,
    ) -> Result<(), LaunchError> {
        let origin = mount_error(&node.display().to_string(), &target.join(name));
        let name = text(name)?;
        let operation = Operation::Node {
            directory,
            name: &name,
            node: &c_path(node)?,
            // Whose number is that of the node's owner could change its mode, for the whole machine.
            frozen: self.caller.uid == 0,
        };
        self.push(operation, origin);
        Ok(())
    }
}

/// The terminal on standard input, by its name on the host. Inside, `/dev/pts` is another file system, and this is the
/// only name that ttyname(3) finds it by.
pub(super) fn terminal() -> Option<PathBuf> {
    name_of_terminal(std::io::stdin().as_fd())
}

/// The name that a descriptor's terminal has on the host, if it is one.
pub fn name_of_terminal(descriptor: BorrowedFd<'_>) -> Option<PathBuf> {
    if !rustix::termios::isatty(descriptor) {
        return None;
    }
    let name = rustix::termios::ttyname(descriptor, Vec::new()).ok()?;
    Some(PathBuf::from(std::ffi::OsString::from(
        name.into_string().ok()?,
    )))
}
