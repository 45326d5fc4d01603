//! From the arguments of another process's system call to the file it means.
//!
//! Everything is reached through that process's own root, working directory and descriptors (`/proc/PID/...`), and
//! resolved by openat2(2) so that no link leads to a file of the host.

use std::{
    ffi::{OsStr, OsString},
    io::IoSliceMut,
    os::{
        fd::OwnedFd,
        unix::ffi::{OsStrExt, OsStringExt},
    },
    path::{Path, PathBuf},
};

use nix::sys::uio::RemoteIoVec;
use rustix::{
    fs::{AtFlags, Mode, OFlags, ResolveFlags},
    io::Errno,
};

const PAGE: usize = 4096;

/// The longest path the kernel takes, with its final zero.
const LONGEST_PATH: usize = 4096;

/// A thread whose system call waits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caller(pub(super) u32);

/// What a system call names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Name {
    /// What a relative path starts from; `AT_FDCWD` is the working directory.
    pub(super) directory: i32,
    /// The path; empty for `directory` itself.
    pub(super) path: PathBuf,
    /// Whether a symbolic link at its end is followed.
    pub(super) follow: bool,
}

impl Caller {
    fn proc(self, what: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{what}", self.0))
    }

    fn open(self, what: &str) -> Result<OwnedFd, Errno> {
        rustix::fs::open(
            self.proc(what),
            OFlags::PATH | OFlags::CLOEXEC,
            Mode::empty(),
        )
    }

    /// Where one of the process's links leads, from the root of its mount namespace.
    fn path_of(self, what: &str) -> Result<PathBuf, Errno> {
        let path = rustix::fs::readlink(self.proc(what), Vec::new())?;
        Ok(PathBuf::from(OsString::from_vec(path.into_bytes())))
    }

    fn directory(self, directory: i32) -> String {
        if directory == libc::AT_FDCWD {
            "cwd".to_owned()
        } else {
            format!("fd/{directory}")
        }
    }

    /// The process's own bits to leave out of new files' modes.
    pub(super) fn umask(self) -> Result<u32, Errno> {
        let status = std::fs::read_to_string(self.proc("status")).map_err(|_| Errno::SRCH)?;
        let umask = status.lines().find_map(|line| line.strip_prefix("Umask:"));
        umask
            .and_then(|mask| u32::from_str_radix(mask.trim(), 8).ok())
            .ok_or(Errno::SRCH)
    }

    /// Opens the file of an open descriptor.
    pub(super) fn descriptor(self, descriptor: i32) -> Result<OwnedFd, Errno> {
        self.open(&format!("fd/{descriptor}"))
            .map_err(|error| match error {
                Errno::NOENT => Errno::BADF,
                other => other,
            })
    }

    /// Opens what a name means, as a mere reference to it.
    pub(super) fn find(self, name: &Name) -> Result<OwnedFd, Errno> {
        if name.path.as_os_str().is_empty() {
            return self.open(&self.directory(name.directory));
        }
        if let Some(descriptor) = descriptor_of(&name.path).filter(|_| name.follow) {
            return self.descriptor(descriptor);
        }
        let mut flags = OFlags::PATH | OFlags::CLOEXEC;
        flags.set(OFlags::NOFOLLOW, !name.follow);
        if name.path.is_absolute() {
            return resolve(
                &self.open("root")?,
                &name.path,
                flags,
                ResolveFlags::IN_ROOT,
            );
        }
        let directory = self.directory(name.directory);
        let start = self.open(&directory)?;
        match resolve(&start, &name.path, flags, ResolveFlags::BENEATH) {
            // By `..` or an absolute link it leaves the directory it starts from: resolve it from the root instead.
            Err(Errno::XDEV) => {
                let root = self.open("root")?;
                let root_path = self.path_of("root")?;
                let start_path = self.path_of(&directory)?;
                // A working directory outside of a changed root has no path in it.
                let start_path = start_path.strip_prefix(&root_path);
                let start_path = Path::new("/").join(start_path.map_err(|_| Errno::NOENT)?);
                let again = resolve(&root, &start_path, flags, ResolveFlags::IN_ROOT)?;
                if !same_file(&start, &again)? {
                    return Err(Errno::NOENT);
                }
                let path = start_path.join(&name.path);
                resolve(&root, &path, flags, ResolveFlags::IN_ROOT)
            }
            other => other,
        }
    }

    /// Opens the directory that a name lies in, and gives the last component.
    pub(super) fn find_parent(self, name: &Name) -> Result<(OwnedFd, OsString), Errno> {
        let file = name.path.file_name().ok_or(Errno::EXIST)?.to_owned();
        let parent = match name.path.parent() {
            Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
            Some(parent) => parent,
            None => return Err(Errno::EXIST),
        };
        let parent = Name {
            directory: name.directory,
            path: parent.to_owned(),
            follow: true,
        };
        Ok((self.find(&parent)?, file))
    }

    /// Reads a path from the process's memory.
    pub(super) fn read_path(self, address: u64) -> Result<PathBuf, Errno> {
        let path = self.read_string(address, LONGEST_PATH, Errno::NAMETOOLONG)?;
        Ok(PathBuf::from(OsString::from_vec(path)))
    }

    /// Reads a string that ends in a zero byte, which is not part of the result.
    pub(super) fn read_string(
        self,
        address: u64,
        longest: usize,
        too_long: Errno,
    ) -> Result<Vec<u8>, Errno> {
        let mut string = Vec::new();
        while string.len() < longest {
            // Up to the end of a page at a time, for the next may not be there.
            let from = address as usize + string.len();
            let part = self.read(
                from as u64,
                (PAGE - from % PAGE).min(longest - string.len()),
            )?;
            if let Some(end) = part.iter().position(|byte| *byte == 0) {
                string.extend(&part[..end]);
                return Ok(string);
            }
            string.extend(part);
        }
        Err(too_long)
    }

    /// Reads so many bytes.
    pub(super) fn read(self, address: u64, length: usize) -> Result<Vec<u8>, Errno> {
        let mut bytes = vec![0; length];
        let remote = [RemoteIoVec {
            base: address as usize,
            len: length,
        }];
        let thread = nix::unistd::Pid::from_raw(self.0 as i32);
        let read =
            nix::sys::uio::process_vm_readv(thread, &mut [IoSliceMut::new(&mut bytes)], &remote)
                .map_err(|error| Errno::from_raw_os_error(error as i32))?;
        if read == length {
            Ok(bytes)
        } else {
            Err(Errno::FAULT)
        }
    }
}

fn resolve(
    directory: &OwnedFd,
    path: &Path,
    flags: OFlags,
    how: ResolveFlags,
) -> Result<OwnedFd, Errno> {
    let how = how | ResolveFlags::NO_MAGICLINKS;
    // The kernel answers EAGAIN when something was renamed anywhere while it was resolving a `..`.
    for _ in 0..128 {
        match rustix::fs::openat2(directory, path, flags, Mode::empty(), how) {
            Err(Errno::AGAIN) => {}
            other => return other,
        }
    }
    Err(Errno::AGAIN)
}

fn same_file(one: &OwnedFd, other: &OwnedFd) -> Result<bool, Errno> {
    let identity = |fd| {
        let found = rustix::fs::statat(fd, "", AtFlags::EMPTY_PATH)?;
        Ok::<_, Errno>((found.st_dev, found.st_ino))
    };
    Ok(identity(one)? == identity(other)?)
}

/// The descriptor that a path names by way of procfs. Such magic links cannot be followed on another process's behalf:
/// `/proc/self` would be ours.
fn descriptor_of(path: &Path) -> Option<i32> {
    let number = |rest: &OsStr| std::str::from_utf8(rest.as_bytes()).ok()?.parse().ok();
    for prefix in ["/proc/self/fd", "/proc/thread-self/fd", "/dev/fd"] {
        if let Ok(rest) = path.strip_prefix(prefix) {
            return number(rest.as_os_str());
        }
    }
    let standard = ["/dev/stdin", "/dev/stdout", "/dev/stderr"];
    let index = standard.iter().position(|name| path == Path::new(name))?;
    i32::try_from(index).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_by_name() {
        assert_eq!(descriptor_of(Path::new("/proc/self/fd/7")), Some(7));
        assert_eq!(descriptor_of(Path::new("/dev/stdout")), Some(1));
        assert_eq!(descriptor_of(Path::new("/proc/self/fd/7/x")), None);
        assert_eq!(descriptor_of(Path::new("/etc/passwd")), None);
    }

    #[test]
    fn memory_is_read_to_the_zero_and_no_further() {
        let own = Caller(std::process::id());
        let text = c"/etc/passwd".to_owned();
        let path = own.read_path(text.as_ptr() as u64).unwrap();
        assert_eq!(path, Path::new("/etc/passwd"));
        assert_eq!(own.read_path(8), Err(Errno::FAULT));
        let long = [b'x'; 2 * LONGEST_PATH];
        let refused = own.read_path(long.as_ptr() as u64);
        assert_eq!(refused, Err(Errno::NAMETOOLONG));
    }
}
