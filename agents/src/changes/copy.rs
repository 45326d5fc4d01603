//! Copying what a session has written so far, where it cannot be frozen because the session goes on.
//!
//! Nobody writes to it meanwhile: every process of the session stands still. But whoever made it is hostile: nothing is opened
//! before its type is known, no link is followed, and a tree may be deeper than paths reach.

use std::{
    collections::HashMap,
    ffi::{CStr, CString},
    mem::MaybeUninit,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use rustix::{
    fs::{
        AtFlags, Dir, FileType, Gid, Mode, OFlags, SeekFrom, Stat, Timespec, Timestamps, Uid,
        XattrFlags, chmod, chownat, copy_file_range, fchmod, fgetxattr, flistxattr, fsetxattr,
        fstat, ftruncate, futimens, ioctl_ficlone, linkat, mkdirat, mknodat, openat, readlinkat,
        seek, statat, symlinkat, utimensat,
    },
    io::Errno,
};

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Copies all that is in a directory to another one, an empty one on the same file system: contents, holes, permissions, times,
/// hard links, overlayfs's marks, and as root owners. Where the file system can share contents (btrfs, XFS), it does; else the
/// copy takes as long, and as much, as what is copied.
pub fn copy_tree(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<(), Errno> {
    let mut copy = Copy {
        linked: HashMap::new(),
        top: to,
        is_root: rustix::process::geteuid().is_root(),
    };
    let mut source = openat(from, c".", DIRECTORY, Mode::empty())?;
    let mut target = openat(to, c".", DIRECTORY, Mode::empty())?;
    let mut levels = vec![copy.level(&source, &target, &[], Held::default())?];
    while let Some(top) = levels.last_mut() {
        if let Some(name) = top.below.pop() {
            let path = [&*top.path, std::slice::from_ref(&name)].concat();
            let (below, held) = enter(&source, &name)?;
            mkdirat(&target, &name, Mode::RWXU)?;
            let made = openat(&target, &name, DIRECTORY, Mode::empty())?;
            let level = copy.level(&below, &made, &path, held);
            (source, target) = (below, made);
            levels.push(level?);
            continue;
        }
        let left = levels.pop();
        let above = match levels.is_empty() {
            true => None,
            false => Some((
                openat(&source, c"..", DIRECTORY, Mode::empty())?,
                openat(&target, c"..", DIRECTORY, Mode::empty())?,
            )),
        };
        if let Some(left) = left {
            copy.finish(&source, &target, &left)?;
        }
        if let Some((up, made)) = above {
            (source, target) = (up, made);
        }
    }
    Ok(())
}

/// How much may still be copied.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Files and directories.
    pub entries: usize,
    /// Of files, by their sizes.
    pub bytes: u64,
}

/// Whether what is in a directory is at most what is `left`, which is less by that afterwards. More than four directories within each
/// other are too much.
pub fn fits(directory: BorrowedFd<'_>, left: &mut Size) -> Result<bool, Errno> {
    fits_below(directory, left, 4)
}

fn fits_below(directory: BorrowedFd<'_>, left: &mut Size, depth: usize) -> Result<bool, Errno> {
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let stat = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        let bytes = match kind {
            FileType::RegularFile => stat.st_size as u64,
            _ => 0,
        };
        match (left.entries.checked_sub(1), left.bytes.checked_sub(bytes)) {
            (Some(entries), Some(bytes)) => *left = Size { entries, bytes },
            _ => return Ok(false),
        }
        if kind.is_dir() {
            if depth == 0 {
                return Ok(false);
            }
            let below = openat(directory, name, DIRECTORY, Mode::empty())?;
            if !fits_below(below.as_fd(), left, depth - 1)? {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// A directory on the way down.
struct Level {
    /// Its names from the top on.
    path: Vec<CString>,
    stat: Stat,
    held: Held,
    /// Directories in it that have not been entered.
    below: Vec<CString>,
}

/// What was changed of a source so that it can be read.
#[derive(Default)]
struct Held {
    mode: Option<Mode>,
}

struct Copy<'c> {
    /// Where the first of several names of a file is, by device and inode.
    linked: HashMap<(u64, u64), Vec<CString>>,
    top: BorrowedFd<'c>,
    is_root: bool,
}

impl Copy<'_> {
    /// Copies a directory's files, and says what directories there are.
    fn level(
        &mut self,
        source: &OwnedFd,
        target: &OwnedFd,
        path: &[CString],
        held: Held,
    ) -> Result<Level, Errno> {
        let stat = fstat(source)?;
        let mut below = Vec::new();
        for entry in Dir::read_from(source)? {
            let entry = entry?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            let stat = statat(source, name, AtFlags::SYMLINK_NOFOLLOW)?;
            if FileType::from_raw_mode(stat.st_mode).is_dir() {
                below.push(name.to_owned());
            } else {
                self.file(source, target, path, name, &stat)?;
            }
        }
        Ok(Level {
            path: path.to_vec(),
            stat,
            held,
            below,
        })
    }

    /// Gives a directory its attributes, when nothing is put into it any more.
    fn finish(&self, source: &OwnedFd, target: &OwnedFd, left: &Level) -> Result<(), Errno> {
        let mut stat = left.stat;
        if let Some(mode) = left.held.mode {
            fchmod(source, mode)?;
            stat.st_mode = stat.st_mode & !0o7777 | mode.as_raw_mode();
        }
        self.attributes(source, target, &stat)
    }

    fn file(
        &mut self,
        source: &OwnedFd,
        target: &OwnedFd,
        path: &[CString],
        name: &CStr,
        stat: &Stat,
    ) -> Result<(), Errno> {
        if stat.st_nlink > 1 {
            let identity = (stat.st_dev, stat.st_ino);
            if let Some(first) = self.linked.get(&identity) {
                return self.link(first, target, name);
            }
            let own = [path, &[name.to_owned()]].concat();
            self.linked.insert(identity, own);
        }
        let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => self.regular(source, target, name, stat),
            FileType::Symlink => {
                let points_to = readlinkat(source, name, Vec::new())?;
                symlinkat(&*points_to, target, name)?;
                self.own(target, name, stat)?;
                utimensat(target, name, &times(stat), AtFlags::SYMLINK_NOFOLLOW)
            }
            // A whiteout is a device that anybody may make. Others a session has none of.
            kind @ (FileType::CharacterDevice | FileType::Fifo | FileType::Socket) => {
                if kind == FileType::CharacterDevice && stat.st_rdev != 0 {
                    return Ok(());
                }
                mknodat(target, name, kind, mode, 0)?;
                self.own(target, name, stat)?;
                chmod_at(target, name, mode)?;
                utimensat(target, name, &times(stat), AtFlags::SYMLINK_NOFOLLOW)
            }
            _ => Ok(()),
        }
    }

    /// Another name of what was copied already, however deep that lies.
    fn link(&self, first: &[CString], target: &OwnedFd, name: &CStr) -> Result<(), Errno> {
        let Some((last, directories)) = first.split_last() else {
            return Ok(());
        };
        let mut directory = openat(self.top, c".", DIRECTORY, Mode::empty())?;
        for part in directories {
            directory = openat(&directory, part, DIRECTORY, Mode::empty())?;
        }
        linkat(&directory, last, target, name, AtFlags::empty())
    }

    fn regular(
        &self,
        source: &OwnedFd,
        target: &OwnedFd,
        name: &CStr,
        stat: &Stat,
    ) -> Result<(), Errno> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
        let from = match openat(source, name, flags, Mode::empty()) {
            Err(Errno::ACCESS) => {
                // Even its owner may not read it. Nobody looks while everything stands still.
                chmod_at(source, name, mode | Mode::RUSR)?;
                let opened = openat(source, name, flags, Mode::empty());
                chmod_at(source, name, mode)?;
                opened?
            }
            opened => opened?,
        };
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let to = openat(target, name, flags, Mode::RUSR | Mode::WUSR)?;
        if ioctl_ficlone(&to, &from).is_err() {
            contents(&from, &to, stat.st_size.try_into().unwrap_or(0))?;
        }
        self.attributes(&from, &to, stat)
    }

    /// Owner, marks, mode and times, in an order in which none undoes another.
    fn attributes(&self, from: &OwnedFd, to: &OwnedFd, stat: &Stat) -> Result<(), Errno> {
        self.own(to, c"", stat)?;
        marks(from, to)?;
        fchmod(to, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
        futimens(to, &times(stat))
    }

    fn own(&self, directory: &OwnedFd, name: &CStr, stat: &Stat) -> Result<(), Errno> {
        if !self.is_root {
            return Ok(());
        }
        let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH;
        chownat(directory, name, Some(uid), Some(gid), flags)
    }
}

fn times(stat: &Stat) -> Timestamps {
    let time = |seconds, nanoseconds| Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds,
    };
    Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec as _),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec as _),
    }
}

/// Sets the mode of what is no link.
fn chmod_at(directory: &OwnedFd, name: &CStr, mode: Mode) -> Result<(), Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let found = openat(directory, name, flags, Mode::empty())?;
    chmod(format!("/proc/self/fd/{}", found.as_raw_fd()), mode)
}

fn enter(parent: &OwnedFd, name: &CStr) -> Result<(OwnedFd, Held), Errno> {
    match openat(parent, name, DIRECTORY, Mode::empty()) {
        Ok(opened) => {
            let mode = Mode::from_raw_mode(fstat(&opened)?.st_mode & 0o7777);
            if mode.contains(Mode::XUSR) || rustix::process::geteuid().is_root() {
                return Ok((opened, Held::default()));
            }
            fchmod(&opened, mode | Mode::RWXU)?;
            Ok((opened, Held { mode: Some(mode) }))
        }
        Err(Errno::ACCESS) => {
            let stat = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
            let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
            chmod_at(parent, name, mode | Mode::RWXU)?;
            let opened = openat(parent, name, DIRECTORY, Mode::empty())?;
            Ok((opened, Held { mode: Some(mode) }))
        }
        Err(error) => Err(error),
    }
}

/// Copies a file's bytes, and leaves holes where it has some.
fn contents(from: &OwnedFd, to: &OwnedFd, size: u64) -> Result<(), Errno> {
    ftruncate(to, size)?;
    let mut at = 0;
    while at < size {
        let start = match seek(from, SeekFrom::Data(at)) {
            Ok(start) => start,
            // Nothing but a hole is left.
            Err(Errno::NXIO) => return Ok(()),
            Err(error) => return Err(error),
        };
        let end = seek(from, SeekFrom::Hole(start))?;
        let (mut read, mut written) = (start, start);
        while read < end {
            let length = usize::try_from(end - read).unwrap_or(usize::MAX);
            match copy_file_range(from, Some(&mut read), to, Some(&mut written), length) {
                Ok(0) => return Err(Errno::IO),
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
        }
        at = end;
    }
    Ok(())
}

/// Copies extended attributes that a session can have: those of users, among them overlayfs's.
fn marks(from: &OwnedFd, to: &OwnedFd) -> Result<(), Errno> {
    let mut names = [MaybeUninit::<u8>::uninit(); 64 * 1024];
    let names = match flistxattr(from, &mut names) {
        Ok((names, _)) => &*names,
        Err(Errno::NOTSUP) => return Ok(()),
        Err(error) => return Err(error),
    };
    for name in names.split_inclusive(|byte| *byte == 0) {
        let Ok(name) = CStr::from_bytes_with_nul(name) else {
            continue;
        };
        if !name.to_bytes().starts_with(b"user.") {
            continue;
        }
        let mut value = [MaybeUninit::<u8>::uninit(); 64 * 1024];
        let (value, _) = fgetxattr(from, name, &mut value)?;
        fsetxattr(to, name, value, XattrFlags::empty())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, File, Permissions},
        os::fd::AsFd as _,
        os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, symlink},
        time::{Duration, SystemTime},
    };

    use super::*;

    fn copy(prepare: impl FnOnce(&std::path::Path)) -> (tempfile::TempDir, std::path::PathBuf) {
        let place = tempfile::tempdir().unwrap();
        let (from, to) = (place.path().join("from"), place.path().join("to"));
        fs::create_dir(&from).unwrap();
        fs::create_dir(&to).unwrap();
        prepare(&from);
        let opened = [&from, &to].map(|path| File::open(path).unwrap());
        copy_tree(opened[0].as_fd(), opened[1].as_fd()).unwrap();
        (place, to)
    }

    #[test]
    fn everything_is_as_it_was() {
        let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let (place, to) = copy(|from| {
            fs::create_dir_all(from.join("a/b")).unwrap();
            fs::write(from.join("a/b/file"), "content").unwrap();
            fs::set_permissions(from.join("a/b/file"), Permissions::from_mode(0o4751)).unwrap();
            fs::hard_link(from.join("a/b/file"), from.join("linked")).unwrap();
            symlink("/nowhere", from.join("link")).unwrap();
            let directory = File::open(from).unwrap();
            mknodat(
                &directory,
                "out",
                FileType::CharacterDevice,
                Mode::empty(),
                0,
            )
            .unwrap();
            mknodat(&directory, "fifo", FileType::Fifo, Mode::RUSR, 0).unwrap();
            let sparse = File::create(from.join("sparse")).unwrap();
            sparse.set_len(1 << 32).unwrap();
            std::os::unix::fs::FileExt::write_all_at(&sparse, b"end", (1 << 32) - 3).unwrap();
            sparse.set_modified(long_ago).unwrap();
            fsetxattr(&sparse, "user.overlay.mark", b"y", XattrFlags::empty()).unwrap();
            fs::write(from.join("secret"), "x").unwrap();
            fs::set_permissions(from.join("secret"), Permissions::from_mode(0o0)).unwrap();
            fs::create_dir(from.join("closed")).unwrap();
            fs::write(from.join("closed/file"), "y").unwrap();
            fs::set_permissions(from.join("closed"), Permissions::from_mode(0o0)).unwrap();
        });
        let meta = |name: &str| fs::symlink_metadata(to.join(name)).unwrap();
        assert_eq!(fs::read_to_string(to.join("linked")).unwrap(), "content");
        assert_eq!(meta("linked").mode() & 0o7777, 0o4751);
        assert_eq!(meta("linked").ino(), meta("a/b/file").ino());
        assert_eq!(
            fs::read_link(to.join("link")).unwrap().to_str(),
            Some("/nowhere")
        );
        assert!(meta("out").file_type().is_char_device() && meta("out").rdev() == 0);
        assert!(meta("fifo").file_type().is_fifo());
        let sparse = meta("sparse");
        assert_eq!(sparse.len(), 1 << 32);
        assert!(sparse.blocks() < 1000, "holes stay holes");
        assert_eq!(sparse.modified().unwrap(), long_ago);
        let mut mark = [0; 8];
        let opened = File::open(to.join("sparse")).unwrap();
        assert_eq!(
            fgetxattr(&opened, "user.overlay.mark", &mut mark).unwrap(),
            1
        );
        assert_eq!(meta("secret").mode() & 0o7777, 0);
        for at in [to.clone(), place.path().join("from")] {
            let closed = at.join("closed");
            assert_eq!(fs::metadata(&closed).unwrap().mode() & 0o7777, 0);
            fs::set_permissions(&closed, Permissions::from_mode(0o700)).unwrap();
        }
        assert_eq!(fs::read_to_string(to.join("closed/file")).unwrap(), "y");
    }

    #[test]
    fn a_tree_deeper_than_paths_is_copied_whole() {
        let (place, to) = copy(|from| {
            let mut directory = OwnedFd::from(File::open(from).unwrap());
            for _ in 0..1500 {
                mkdirat(&directory, "deeper", Mode::RWXU).unwrap();
                directory = openat(&directory, "deeper", DIRECTORY, Mode::empty()).unwrap();
            }
            mkdirat(&directory, "end", Mode::RWXU).unwrap();
        });
        let mut directory = OwnedFd::from(File::open(&to).unwrap());
        for _ in 0..1500 {
            directory = openat(&directory, "deeper", DIRECTORY, Mode::empty()).unwrap();
        }
        assert!(statat(&directory, "end", AtFlags::empty()).is_ok());
        let parent = File::open(place.path()).unwrap();
        for name in [c"from", c"to"] {
            crate::changes::remove_tree(parent.as_fd(), name).unwrap();
        }
    }
}
