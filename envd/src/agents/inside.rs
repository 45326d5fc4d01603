//! The files of an environment, through its own root: a path means what it means inside, and nothing leads out.
//!
//! Whoever lives inside made what is there. So a path is resolved with the environment's root as `/`, without procfs's magic
//! links; what is found is first a mere reference, and opened only when it is a regular file or a directory of the
//! environment's own file systems: neither a FIFO stops us, nor does a device or the kernel's /proc hear of it, which this
//! process may be allowed more of than those inside.

use std::{
    ffi::CString,
    fs::File,
    io::{self, Read as _},
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
};

use rustix::{
    fs::{
        AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, fstatfs, mkdirat,
        openat, openat2, readlinkat, statat,
    },
    io::Errno,
};

/// How paths are resolved.
const RESOLVE: ResolveFlags = ResolveFlags::IN_ROOT.union(ResolveFlags::NO_MAGICLINKS);
/// The file systems that an environment's own files are on: overlayfs and tmpfs (statfs(2)).
const OWN: [i64; 2] = [0x794c_7630, 0x0102_1994];
/// The file system of terminals (statfs(2)).
const DEVPTS: i64 = 0x1cd1;
/// Names of one directory that are looked at.
const MOST_NAMES: usize = 100_000;

/// An environment's root.
#[derive(Debug)]
pub(super) struct Inside<'a>(BorrowedFd<'a>);

/// A reference to what is at a path, and what it was when it was found.
#[derive(Debug)]
pub(super) struct Found {
    fd: OwnedFd,
    pub(super) stat: Stat,
}

/// An entry met on a walk.
#[derive(Debug)]
pub(super) struct Met<'a> {
    /// Below where the walk began.
    pub(super) path: &'a str,
    pub(super) stat: Stat,
    directory: BorrowedFd<'a>,
    name: &'a CString,
}

/// Whether a walk goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Walk {
    /// Also into this directory.
    On,
    /// Not into this directory.
    Past,
    /// No further.
    Stop,
}

impl<'a> Inside<'a> {
    pub(super) fn new(root: &'a OwnedFd) -> Self {
        Self(root.as_fd())
    }

    fn open(&self, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
        let flags = flags | OFlags::CLOEXEC;
        let mut tries = 0;
        loop {
            match openat2(self.0, path, flags, Mode::empty(), RESOLVE) {
                // Something was renamed while a `..` was resolved.
                Err(Errno::AGAIN | Errno::INTR) if tries < 128 => tries += 1,
                other => return other,
            }
        }
    }

    /// What is at a path, links followed as inside.
    pub(super) fn find(&self, path: &str) -> Result<Found, Errno> {
        let fd = self.open(path, OFlags::PATH)?;
        let stat = fstat(&fd)?;
        Ok(Found { fd, stat })
    }

    /// Makes an empty file and the directories above it. `None` where something is there already.
    pub(super) fn make(&self, path: &str) -> io::Result<Option<File>> {
        let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
        if name.is_empty() || name == "." || name == ".." {
            return Err(Errno::ISDIR.into());
        }
        let directory = self.directory(above)?;
        let flags = OFlags::WRONLY
            | OFlags::CREATE
            | OFlags::EXCL
            | OFlags::NOFOLLOW
            | OFlags::NOCTTY
            | OFlags::CLOEXEC;
        match openat(&directory, name, flags, Mode::from_raw_mode(0o644)) {
            Ok(file) => Ok(Some(file.into())),
            Err(Errno::EXIST) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The directory at a path, made with those above it where it is missing.
    fn directory(&self, path: &str) -> io::Result<OwnedFd> {
        let found = match self.find(if path.is_empty() { "/" } else { path }) {
            Err(Errno::NOENT) if !path.is_empty() => {
                let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
                let parent = self.directory(above)?;
                match mkdirat(&parent, name, Mode::from_raw_mode(0o755)) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(error) => return Err(error.into()),
                }
                self.find(path)?
            }
            found => found?,
        };
        found.open_directory().map_err(Into::into)
    }

    /// Opens the multiplexer of its own terminals: a new one's outer side.
    pub(super) fn multiplexer(&self) -> Result<OwnedFd, Errno> {
        let found = self.open("dev/pts/ptmx", OFlags::PATH | OFlags::NOFOLLOW)?;
        // Somebody inside may have put something else there.
        if fstatfs(&found)?.f_type != DEVPTS {
            return Err(Errno::NODEV);
        }
        let own = format!("/proc/self/fd/{}", found.as_raw_fd());
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        openat(CWD, own, flags, Mode::empty())
    }

    /// `/dev/null`, for a command to read from. Not the machine's own name of it: whoever has a descriptor that was opened by that
    /// may change the node's mode where the number of its owner is theirs.
    pub(super) fn null(&self) -> io::Result<OwnedFd> {
        let found = self.find("/dev/null")?;
        if found.kind().is_file() {
            // What it was bound to: with the last process inside the mounts go.
            return Err(Errno::NOENT.into());
        }
        // devices.txt of the kernel: memory, the third.
        let device = rustix::fs::makedev(1, 3);
        if !found.kind().is_char_device() || found.stat.st_rdev != device {
            return Err(Errno::NODEV.into());
        }
        let own = format!("/proc/self/fd/{}", found.fd.as_raw_fd());
        let flags = OFlags::RDONLY | OFlags::NOCTTY | OFlags::CLOEXEC;
        Ok(openat(CWD, own, flags, Mode::empty())?)
    }

    /// Processes inside, its PID 1 among them.
    pub(super) fn processes(&self) -> usize {
        self.numbers().len()
    }

    /// Their numbers, as they are inside.
    pub(super) fn numbers(&self) -> Vec<u32> {
        let listed = self
            .open("proc", OFlags::RDONLY | OFlags::DIRECTORY)
            .and_then(Dir::new);
        let Ok(directory) = listed else {
            return Vec::new();
        };
        directory
            .flatten()
            .filter_map(|entry| entry.file_name().to_str().ok()?.parse().ok())
            .collect()
    }
}

impl Found {
    pub(super) fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }

    fn reopen(&self, flags: OFlags) -> Result<OwnedFd, Errno> {
        if !OWN.contains(&fstatfs(&self.fd)?.f_type) {
            return Err(Errno::ACCESS);
        }
        // By the name that the kernel gives what the descriptor refers to, whatever its path has become.
        let own = format!("/proc/self/fd/{}", self.fd.as_raw_fd());
        let flags = flags | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        openat(CWD, own, flags, Mode::empty())
    }

    fn open_directory(&self) -> Result<OwnedFd, Errno> {
        match self.kind() {
            FileType::Directory => self.reopen(OFlags::RDONLY | OFlags::DIRECTORY),
            _ => Err(Errno::NOTDIR),
        }
    }

    /// Opens a regular file.
    pub(super) fn open_file(&self, flags: OFlags) -> Result<File, Errno> {
        match self.kind() {
            FileType::RegularFile => self.reopen(flags).map(File::from),
            FileType::Directory => Err(Errno::ISDIR),
            _ => Err(Errno::INVAL),
        }
    }

    /// The content of a regular file of at most `limit` bytes. `None` where it has more.
    pub(super) fn content(&self, limit: u64) -> io::Result<Option<Vec<u8>>> {
        let file = self.open_file(OFlags::RDONLY)?;
        let mut bytes = Vec::new();
        file.take(limit + 1).read_to_end(&mut bytes)?;
        Ok((bytes.len() as u64 <= limit).then_some(bytes))
    }

    /// Calls `visit` with all that is in a directory, sorted, `depth` levels deep. Links are not followed, other file systems
    /// than the environment's own not entered.
    pub(super) fn walk(
        &self,
        depth: u32,
        visit: &mut dyn FnMut(&Met<'_>) -> Walk,
    ) -> Result<(), Errno> {
        let directory = self.open_directory()?;
        walk(&directory, "", depth, visit).map(drop)
    }
}

fn walk(
    directory: &OwnedFd,
    above: &str,
    depth: u32,
    visit: &mut dyn FnMut(&Met<'_>) -> Walk,
) -> Result<Walk, Errno> {
    let mut names: Vec<CString> = Dir::read_from(directory)?
        .flatten()
        .map(|entry| entry.file_name().to_owned())
        .filter(|name| !matches!(name.to_bytes(), b"." | b".."))
        .take(MOST_NAMES)
        .collect();
    names.sort();
    for name in &names {
        let Ok(stat) = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) else {
            continue;
        };
        let path = format!("{above}{}", name.to_string_lossy());
        let met = Met {
            path: &path,
            stat,
            directory: directory.as_fd(),
            name,
        };
        match visit(&met) {
            Walk::Stop => return Ok(Walk::Stop),
            Walk::On if depth > 1 && FileType::from_raw_mode(stat.st_mode).is_dir() => {
                let below = met.found().and_then(|found| found.open_directory());
                // One that went away or cannot be read has nothing to show.
                if let Ok(below) = below
                    && walk(&below, &format!("{path}/"), depth - 1, visit)? == Walk::Stop
                {
                    return Ok(Walk::Stop);
                }
            }
            _ => {}
        }
    }
    Ok(Walk::On)
}

impl Met<'_> {
    /// A reference to it.
    pub(super) fn found(&self) -> Result<Found, Errno> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = openat(self.directory, self.name, flags, Mode::empty())?;
        let stat = fstat(&fd)?;
        Ok(Found { fd, stat })
    }

    /// Where a symbolic link points.
    pub(super) fn target(&self) -> Option<String> {
        let target = readlinkat(self.directory, self.name, Vec::new()).ok()?;
        Some(target.to_string_lossy().into_owned())
    }
}
