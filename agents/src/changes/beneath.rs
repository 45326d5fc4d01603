//! A directory that others write to, looked into without being led out of it.
//!
//! Every name is resolved by openat2(2) beneath an open directory: no symbolic link, no magic link of procfs and no mount
//! point on the way. What is found is first a mere reference (`O_PATH`); only when its type is known is it opened for
//! reading, through that reference, so that neither a FIFO stops us nor a device notices.

use std::{
    ffi::{CStr, CString},
    fs::File,
    io,
    mem::MaybeUninit,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    path::Path,
};

use envd_store::TreePath;
use rustix::{
    fs::{CWD, FileType, Mode, OFlags, RawDir, ResolveFlags, Stat, fstat, openat, openat2},
    io::Errno,
};

use super::content;

/// How names below an opened directory are resolved.
const RESOLVE: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_XDEV);

/// An open directory.
#[derive(Debug)]
pub(super) struct Directory(OwnedFd);

/// A reference to something of any type, and what it was when it was found.
pub(super) struct Found {
    fd: OwnedFd,
    pub(super) stat: Stat,
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<OwnedFd> for Directory {
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

impl Directory {
    /// Opens the directory at a path of the host, which is the caller's own to name.
    pub(super) fn open(path: &Path) -> Result<Self, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        openat(CWD, path, flags, Mode::empty()).map(Self)
    }

    /// A second descriptor of the same directory, for reading, whatever the first is for.
    pub(super) fn reopen(fd: BorrowedFd<'_>) -> Result<Self, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        openat(fd, c".", flags, Mode::empty()).map(Self)
    }

    /// Opens the directory at `path`, or itself again where there is none.
    pub(super) fn below(&self, path: Option<&TreePath>) -> Result<Self, Errno> {
        let path = path.map_or(&b"."[..], TreePath::as_bytes);
        self.resolve(path, OFlags::RDONLY | OFlags::DIRECTORY)
            .map(Self)
    }

    /// What is at `path`; `None` where nothing is.
    pub(super) fn look(&self, path: &[u8]) -> Result<Option<Found>, Errno> {
        let fd = match self.resolve(path, OFlags::PATH) {
            // A component that is a file, or (ELOOP) a link: the path leads nowhere within.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
            fd => fd?,
        };
        let stat = fstat(&fd)?;
        Ok(Some(Found { fd, stat }))
    }

    fn resolve(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // EAGAIN is for `..` that races with a rename (openat2(2)); there is none here, but EINTR may come from network
        // file systems.
        loop {
            match openat2(&self.0, path, flags, Mode::empty(), RESOLVE) {
                Err(Errno::INTR) => {}
                other => return other,
            }
        }
    }

    /// Calls `each` with every name in it, until `each` fails.
    pub(super) fn names<E: From<Errno>>(
        &self,
        mut each: impl FnMut(&CStr) -> Result<(), E>,
    ) -> Result<(), E> {
        // A descriptor of its own: the position in a directory belongs to the open file.
        let reading = Self::reopen(self.as_fd())?;
        let mut buffer = [MaybeUninit::<u8>::uninit(); 32 * 1024];
        let mut entries = RawDir::new(&reading.0, &mut buffer);
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name();
            if name != c"." && name != c".." {
                each(name)?;
            }
        }
        Ok(())
    }
}

impl Found {
    pub(super) fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }

    /// Opens a regular file for reading. Anything else is refused with EINVAL.
    pub(super) fn read(&self) -> Result<File, Errno> {
        if self.kind() != FileType::RegularFile {
            return Err(Errno::INVAL);
        }
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        openat(CWD, self.through_proc(), flags, Mode::empty()).map(File::from)
    }

    /// Bytes of a file.
    pub(super) fn size(&self) -> u64 {
        u64::try_from(self.stat.st_size).unwrap_or(0)
    }

    /// The content of a regular file of at most `limit` bytes. `None` where it has more.
    pub(super) fn content(&self, limit: u64) -> io::Result<Option<Vec<u8>>> {
        content::read_whole(&mut self.read()?, self.size(), limit)
    }

    /// The target of a symbolic link.
    pub(super) fn target(&self) -> Result<Box<[u8]>, Errno> {
        let target = rustix::fs::readlinkat(&self.fd, c"", Vec::with_capacity(256))?;
        Ok(target.into_bytes().into())
    }

    /// Changes the permission bits of the very thing that was found.
    pub(super) fn set_mode(&self, mode: u16) -> Result<(), Errno> {
        if self.kind() == FileType::Symlink {
            return Err(Errno::INVAL);
        }
        rustix::fs::chmod(self.through_proc(), Mode::from_raw_mode(mode.into()))
    }

    /// An attribute of a file or directory that may not be opened; `None` where there is none.
    pub(super) fn attribute(&self, name: &CStr) -> Result<Option<Vec<u8>>, Errno> {
        let mut value = Vec::with_capacity(256);
        let spare = rustix::buffer::spare_capacity(&mut value);
        match rustix::fs::getxattr(self.through_proc(), name, spare) {
            Ok(_) => Ok(Some(value)),
            // Longer than any that is looked for.
            Err(Errno::RANGE) => Ok(Some(Vec::new())),
            Err(Errno::NODATA | Errno::NOTSUP | Errno::ACCESS | Errno::PERM) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The name by which the kernel gives what the descriptor refers to, whatever its path has become.
    fn through_proc(&self) -> CString {
        CString::new(format!("/proc/self/fd/{}", self.fd.as_raw_fd())).unwrap_or_default()
    }
}

/// A name of a path's last component, as system calls want it.
pub(super) fn c_name(path: &TreePath) -> CString {
    // A `TreePath` has no NUL.
    CString::new(path.name()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use rustix::fs::{CWD, mknodat};

    use super::*;

    fn place() -> (tempfile::TempDir, Directory) {
        let place = tempfile::tempdir().unwrap();
        fs::create_dir_all(place.path().join("top/real/deep")).unwrap();
        fs::write(place.path().join("top/real/deep/f"), "x").unwrap();
        fs::write(place.path().join("outside"), "x").unwrap();
        let directory = Directory::open(&place.path().join("top")).unwrap();
        (place, directory)
    }

    /// An attacker would have us read or write in a place of their choice, outside or inside.
    #[test]
    fn no_link_is_on_the_way_whether_it_leads_out_or_not() {
        let (place, directory) = place();
        symlink("real", place.path().join("top/link")).unwrap();
        symlink("..", place.path().join("top/up")).unwrap();
        symlink(place.path(), place.path().join("top/absolute")).unwrap();
        symlink("/proc/self/root", place.path().join("top/magic")).unwrap();
        assert!(directory.look(b"real/deep/f").unwrap().is_some());
        for path in [
            "link/deep/f",
            "up/outside",
            "absolute/outside",
            "magic/etc/passwd",
        ] {
            assert!(directory.look(path.as_bytes()).unwrap().is_none(), "{path}");
        }
        for path in ["link", "link/deep", "up", "absolute", "magic/etc"] {
            let path = TreePath::new(path.as_bytes()).unwrap();
            let error = directory.below(Some(&path)).unwrap_err();
            assert!(
                matches!(error, Errno::LOOP | Errno::NOTDIR),
                "{path} {error}"
            );
        }
        let link = directory.look(b"link").unwrap().unwrap();
        assert_eq!(link.kind(), FileType::Symlink);
        assert_eq!(&*link.target().unwrap(), b"real");
        assert!(link.set_mode(0o777).is_err());
        // No path of ours has these; if one had, it would lead nowhere.
        for path in [&b"../outside"[..], b"/etc/passwd", b"real/../../outside"] {
            assert!(!matches!(directory.look(path), Ok(Some(_))));
        }
    }

    /// An attacker would stop us for ever.
    #[test]
    fn only_a_regular_file_is_opened() {
        let (place, directory) = place();
        mknodat(
            CWD,
            place.path().join("top/fifo"),
            FileType::Fifo,
            Mode::RWXU,
            0,
        )
        .unwrap();
        for name in [&b"fifo"[..], b"real"] {
            let found = directory.look(name).unwrap().unwrap();
            assert_eq!(found.read().unwrap_err(), Errno::INVAL);
        }
    }

    #[test]
    fn a_mount_point_is_not_entered() {
        // Every system has one there.
        let root = Directory::open(Path::new("/")).unwrap();
        assert_eq!(root.look(b"proc/version").err(), Some(Errno::XDEV));
    }
}
