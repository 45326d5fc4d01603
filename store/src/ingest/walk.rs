//! Walking a directory that someone may be changing, without following any link out of it.

use std::{
    ffi::{CStr, CString},
    fs::File,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{
        AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, Stat, chmodat, fstat, openat, openat2,
        statat,
    },
    io::Errno,
};

use super::{ContentError, IngestError, content};
use crate::{
    Digest, Session, TreePath,
    store::{DIRECTORY, list},
};

/// The directory that is walked.
pub(super) struct Top {
    path: PathBuf,
    fd: OwnedFd,
    /// Whether closed files may be opened by giving ourselves the permission: only where the directory is scratch.
    pub(super) force: bool,
}

/// One entry, with its directory open.
pub(super) struct Found<'a> {
    pub(super) path: &'a TreePath,
    pub(super) directory: BorrowedFd<'a>,
    pub(super) name: &'a CStr,
    pub(super) stat: Stat,
}

impl Found<'_> {
    pub(super) fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }

    /// The permission bits with setuid, setgid and sticky.
    pub(super) fn mode(&self) -> u16 {
        (self.stat.st_mode & 0o7777) as u16
    }
}

impl Top {
    pub(super) fn open(path: &Path, force: bool) -> Result<Self, IngestError> {
        let flags = DIRECTORY.difference(OFlags::NOFOLLOW);
        let fd = openat(CWD, path, flags, Mode::empty()).map_err(IngestError::io("open", path))?;
        Ok(Self {
            path: path.to_owned(),
            fd,
            force,
        })
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    pub(super) fn at(&self, path: &TreePath) -> PathBuf {
        path.under(&self.path)
    }

    /// Visits everything; a directory is entered when `visit` says so. One directory is open at a time, however deep it gets.
    pub(super) fn walk(
        &self,
        visit: &mut dyn FnMut(&Found<'_>) -> Result<bool, IngestError>,
    ) -> Result<(), IngestError> {
        let mut waiting: Vec<Option<TreePath>> = vec![None];
        while let Some(directory) = waiting.pop() {
            let opened = match &directory {
                None => None,
                Some(path) => Some(self.open_directory(path)?),
            };
            let fd = opened.as_ref().map_or(self.fd(), AsFd::as_fd);
            let here = || {
                directory
                    .as_ref()
                    .map_or_else(|| self.path.clone(), |path| self.at(path))
            };
            let mut names = list(fd).map_err(IngestError::io("list", here()))?;
            names.sort_unstable_by(|a, b| a.0.cmp(&b.0));
            for (name, _) in names {
                let path = match &directory {
                    Some(directory) => directory.join(name.to_bytes())?,
                    None => TreePath::new(name.to_bytes())?,
                };
                let stat = match statat(fd, &*name, AtFlags::SYMLINK_NOFOLLOW) {
                    Err(Errno::NOENT) => continue,
                    stat => stat.map_err(IngestError::io("look at", self.at(&path)))?,
                };
                let found = Found {
                    path: &path,
                    directory: fd,
                    name: &name,
                    stat,
                };
                if visit(&found)? && found.kind() == FileType::Directory {
                    waiting.push(Some(path));
                }
            }
        }
        Ok(())
    }

    fn open_directory(&self, path: &TreePath) -> Result<OwnedFd, IngestError> {
        let flags = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        openat2(&self.fd, path.as_bytes(), DIRECTORY, Mode::empty(), flags)
            .map_err(IngestError::io("open the directory", self.at(path)))
    }

    /// Opens a regular file or a directory for reading.
    pub(super) fn open_found(&self, found: &Found<'_>) -> Result<OwnedFd, IngestError> {
        let at = || self.at(found.path);
        // Without O_NONBLOCK a FIFO put in the file's place would stop us for good.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let open = || openat(found.directory, found.name, flags, Mode::empty());
        match open() {
            Err(Errno::ACCESS) if self.force => {
                let more = Mode::from_raw_mode(u32::from(found.mode()) | 0o700);
                chmodat(found.directory, found.name, more, AtFlags::empty())
                    .map_err(IngestError::io("open", at()))?;
                open().map_err(IngestError::io("open", at()))
            }
            file => file.map_err(IngestError::io("open", at())),
        }
    }

    /// Takes a regular file's content in.
    pub(super) fn content(
        &self,
        session: &Session,
        found: &Found<'_>,
        file: OwnedFd,
        mode: u16,
        buffer: &mut Vec<u8>,
    ) -> Result<(Digest, u64), IngestError> {
        let at = || self.at(found.path);
        let stat = fstat(&file).map_err(IngestError::io("look at", at()))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(IngestError::Special {
                path: found.path.clone(),
                kind: "file that changed its kind",
            });
        }
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        content(session, &mut File::from(file), size, mode, buffer).map_err(|error| match error {
            ContentError::Store(error) => IngestError::Store(error),
            ContentError::Read(source) => IngestError::Io {
                step: "read",
                path: at(),
                source,
            },
            ContentError::Short => IngestError::Io {
                step: "read all of",
                path: at(),
                source: std::io::ErrorKind::UnexpectedEof.into(),
            },
        })
    }
}

/// The target of a symbolic link.
pub(super) fn read_link(found: &Found<'_>, at: PathBuf) -> Result<Box<[u8]>, IngestError> {
    let target: CString = rustix::fs::readlinkat(found.directory, found.name, Vec::new())
        .map_err(IngestError::io("read the link", at))?;
    Ok(target.into_bytes().into())
}

/// What a thing is that no tree can have.
pub(super) fn describe(kind: FileType) -> &'static str {
    match kind {
        FileType::Fifo => "FIFO",
        FileType::Socket => "socket",
        FileType::CharacterDevice => "character device",
        FileType::BlockDevice => "block device",
        _ => "thing of unknown kind",
    }
}
