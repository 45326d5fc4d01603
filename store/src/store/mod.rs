//! The store on disk: objects, trees, views, roots, and the sessions that write them.

mod directory;
mod error;
mod gc;
mod hold;
mod memo;
mod objects;
mod recover;
mod remove;
mod roots;
mod session;
mod starts;
mod sync;
mod transform;
mod trees;
mod usage;
mod verify;
mod views;

use std::{
    ffi::CStr,
    fmt, io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use rustix::{
    fs::{AtFlags, CWD, FlockOperation, Mode, OFlags, mkdirat, openat, unlinkat},
    io::Errno,
};

pub(crate) use directory::{DIRECTORY, list};
pub(crate) use error::Context;
pub use error::{Result, StoreError};
pub use gc::{GcOptions, GcReport, RootUsage};
pub use hold::Hold;
pub use objects::ObjectWriter;
pub use remove::RemoveReport;
pub use roots::{Root, RootKind, RootState};
pub use session::{Place, Session};
pub use usage::{Kind, Usage};
pub use verify::{Problem, VerifyReport};

/// The version of the layout and of all formats in it.
const VERSION: &str = "envd-store 1";

/// The directories that make up a store, in the order in which they are made.
const DIRECTORIES: [&CStr; 9] = [
    c"objects", c"trees", c"views", c"memo", c"fetch", c"indexes", c"roots", c"tmp", c"caches",
];

/// Files of the store's top beside [`DIRECTORIES`], and `unsynced/`, `starts/`, `state/` and `audit/`, which come and go.
const FILES: [&CStr; 3] = [c"version", c"version.new", c"lock"];

/// A store. Cheap to clone; all clones share the same open directories.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    path: PathBuf,
    root: OwnedFd,
    objects: OnceLock<OwnedFd>,
}

impl Store {
    /// Opens the store at `root`, or makes one there: nothing yet, or an empty directory. After a power cut, what had not reached the
    /// disk is found and dropped first. In the ordinary case this takes five system calls.
    pub fn open(root: &Path) -> Result<Self> {
        let store = match openat(
            CWD,
            root,
            DIRECTORY.difference(OFlags::NOFOLLOW),
            Mode::empty(),
        ) {
            Ok(directory) => Self::at(root, directory),
            Err(Errno::NOENT) => Self::create(root)?,
            Err(error) => return Err(error).context("open the store", || root.to_owned()),
        };
        match store.version()? {
            Some(version) if version == VERSION => {}
            Some(found) => {
                return Err(StoreError::Version {
                    path: root.to_owned(),
                    found,
                    known: VERSION,
                });
            }
            None => store.fill()?,
        }
        store.recover()?;
        Ok(store)
    }

    fn at(path: &Path, root: OwnedFd) -> Self {
        Self {
            inner: Arc::new(Inner {
                path: path.to_owned(),
                root,
                objects: OnceLock::new(),
            }),
        }
    }

    fn create(root: &Path) -> Result<Self> {
        if let Some(parent) = root.parent() {
            std::fs::create_dir_all(parent)
                .context("create the directory", || parent.to_owned())?;
        }
        match mkdirat(CWD, root, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error).context("create the store", || root.to_owned()),
        }
        let directory = openat(CWD, root, DIRECTORY, Mode::empty())
            .context("open the store", || root.to_owned())?;
        Ok(Self::at(root, directory))
    }

    fn version(&self) -> Result<Option<String>> {
        let file = match openat(
            self.fd(),
            c"version",
            OFlags::RDONLY | OFlags::CLOEXEC,
            Mode::empty(),
        ) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(error).context("open", || self.path("version")),
        };
        let mut buffer = [0; 64];
        let length =
            rustix::io::read(&file, &mut buffer).context("read", || self.path("version"))?;
        Ok(Some(
            String::from_utf8_lossy(&buffer[..length])
                .trim_end()
                .to_owned(),
        ))
    }

    /// Makes the directories and, last, the version file that says that they are complete.
    fn fill(&self) -> Result<()> {
        let root = || self.path("");
        for (name, _) in
            list(openat(self.fd(), c".", DIRECTORY, Mode::empty()).context("open", root)?)
                .context("list", root)?
        {
            if !DIRECTORIES.contains(&name.as_c_str()) && !FILES.contains(&name.as_c_str()) {
                return Err(StoreError::Foreign {
                    path: self.path(""),
                    name: name.to_string_lossy().into_owned(),
                });
            }
        }
        // Also drops a set-group-id bit, which every directory below would inherit and show in views.
        rustix::fs::fchmod(self.fd(), Mode::RWXU).context("set the permissions of", root)?;
        for name in DIRECTORIES {
            match mkdirat(self.fd(), name, Mode::RWXU) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => {
                    return Err(error).context("create", || self.path(&name.to_string_lossy()));
                }
            }
        }
        // Made now, since gc needs it on a full disk.
        drop(self.lock(FlockOperation::NonBlockingLockShared));
        let new = || self.path("version.new");
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
        let file = openat(self.fd(), c"version.new", flags, Mode::RUSR | Mode::WUSR)
            .context("create", new)?;
        // Several may make the same store, and what one writes has been renamed by another: only who holds it writes, and only
        // while there is no version.
        rustix::fs::flock(&file, FlockOperation::LockExclusive).context("lock", new)?;
        if self.version()?.is_some() {
            return match unlinkat(self.fd(), c"version.new", AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => Ok(()),
                Err(error) => Err(error).context("remove", new),
            };
        }
        rustix::fs::ftruncate(&file, 0).context("write", new)?;
        write_all(file.as_fd(), format!("{VERSION}\n").as_bytes()).context("write", new)?;
        rustix::fs::fdatasync(&file).context("write", new)?;
        rustix::fs::renameat(self.fd(), c"version.new", self.fd(), c"version")
            .context("rename", new)
    }

    /// A path below the store's root; `""` is the root itself.
    pub fn path(&self, below: &str) -> PathBuf {
        if below.is_empty() {
            self.inner.path.clone()
        } else {
            self.inner.path.join(below)
        }
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.inner.root.as_fd()
    }

    /// One of the store's directories, opened for reading.
    fn directory(&self, name: &CStr) -> Result<OwnedFd> {
        directory::open(self.fd(), name).context("open", || self.path(&name.to_string_lossy()))
    }

    /// `objects/`, opened once for all.
    fn objects(&self) -> Result<BorrowedFd<'_>> {
        if let Some(directory) = self.inner.objects.get() {
            return Ok(directory.as_fd());
        }
        let directory = self.directory(c"objects")?;
        Ok(self.inner.objects.get_or_init(|| directory).as_fd())
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Store").field(&self.inner.path).finish()
    }
}

/// Writes all of `bytes`.
pub(crate) fn write_all(file: BorrowedFd<'_>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(file, bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Reads a whole file below `directory`.
pub(crate) fn read_file(directory: impl AsFd, name: &CStr) -> io::Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat(directory, name, flags, Mode::empty())?;
    let mut bytes = Vec::new();
    io::Read::read_to_end(&mut std::fs::File::from(file), &mut bytes)?;
    Ok(bytes)
}
