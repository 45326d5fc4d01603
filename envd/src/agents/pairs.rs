//! Directories of a server's own: one that goes when nobody has it any more, and the pairs that overlays write to, which are used
//! again.

use std::{
    ffi::{CStr, CString},
    fs::{DirBuilder, File},
    io,
    os::{
        fd::AsFd as _,
        unix::{ffi::OsStrExt as _, fs::DirBuilderExt as _},
    },
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use envd_agents::changes::{self, Names};
use rustix::fs::{
    Dir, IFlags, Mode, OFlags, flistxattr, fremovexattr, fstat, ioctl_getflags, ioctl_setflags,
    openat,
};

/// The names of the two directories that an overlay writes to.
pub(super) const NAMES: Names<'static> = Names {
    upper: c"upper",
    work: c"work",
};

/// A directory that goes when nobody has it any more.
#[derive(Debug)]
pub(super) struct Owned(PathBuf);

impl Owned {
    /// Makes it.
    pub(super) fn make(path: PathBuf) -> io::Result<Self> {
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }

    /// One that is there.
    pub(super) fn found(path: PathBuf) -> Self {
        Self(path)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Owned {
    /// What is left where this fails goes with the whole place.
    fn drop(&mut self) {
        let (Some(parent), Some(name)) = (self.0.parent(), self.0.file_name()) else {
            return;
        };
        let removed = File::open(parent).and_then(|parent| {
            let name = CString::new(name.as_bytes())?;
            Ok(changes::remove_tree(parent.as_fd(), &name)?)
        });
        if let Err(error) = removed {
            tracing::warn!(directory = ?self.0, %error, "left until the server ends");
        }
    }
}

/// Has what is made in a directory lie apart from each other, where the file system has a word for that (chattr(1), `T`).
///
/// Ext4 without a journal gives no number of a file out again for up to five minutes, and looks at each that it may not give out
/// whenever it makes a file in the same part of the disk (`recently_deleted` in fs/ext4/ialloc.c). The kernel makes and removes a
/// dozen for each overlay, all in one part unless told otherwise: sessions took twice the time after a thousand of them.
pub(super) fn spread(directory: &Path) {
    let set = File::open(directory).and_then(|opened| {
        let flags = ioctl_getflags(&opened)? | IFlags::TOPDIR;
        Ok(ioctl_setflags(&opened, flags)?)
    });
    if let Err(error) = set {
        tracing::debug!(%error, ?directory, "it is not spread");
    }
}

/// Pairs of directories that nothing was written to, for the next overlays: to make and to remove them is a good part of what a
/// session costs, the more on a file system that takes its time with numbers that were just given back.
#[derive(Debug, Default)]
pub(super) struct Shelf(Mutex<Shelved>);

#[derive(Debug, Default)]
struct Shelved {
    pairs: Vec<Owned>,
    /// How often one was put here or taken.
    uses: u64,
    /// Somebody waits for the time to let them go.
    watched: bool,
}

/// How long they are kept when none comes or goes.
const SHELF_TIME: Duration = Duration::from_millis(500);

/// So many are kept: what environments that end at the same time leave.
const MOST_SHELVED: usize = 32;

impl Shelf {
    fn shelved(&self) -> MutexGuard<'_, Shelved> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One from here, or a new one at the path that `new` gives.
    pub(super) fn take(self: &Arc<Self>, new: impl FnOnce() -> PathBuf) -> io::Result<Pair> {
        let kept = {
            let mut shelved = self.shelved();
            shelved.uses += 1;
            shelved.pairs.pop()
        };
        let made = match kept {
            Some(kept) => kept,
            None => {
                let made = Owned::make(new())?;
                for name in ["upper", "work"] {
                    let path = made.path().join(name);
                    DirBuilder::new().mode(0o700).create(path)?;
                }
                made
            }
        };
        Ok(Pair {
            made: Some(made),
            shelf: self.clone(),
        })
    }

    /// Keeps one for a moment, if there is somebody to let it go again.
    fn keep(self: &Arc<Self>, pair: Owned) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        let mut shelved = self.shelved();
        shelved.pairs.push(pair);
        shelved.uses += 1;
        if std::mem::replace(&mut shelved.watched, true) {
            return;
        }
        let (weak, mut uses) = (Arc::downgrade(self), shelved.uses);
        runtime.spawn(async move {
            loop {
                tokio::time::sleep(SHELF_TIME).await;
                let Some(shelf) = weak.upgrade() else { return };
                let mut shelved = shelf.shelved();
                if std::mem::replace(&mut uses, shelved.uses) == shelved.uses {
                    shelved.watched = false;
                    let pairs = std::mem::take(&mut shelved.pairs);
                    drop(shelved);
                    tokio::task::spawn_blocking(move || drop(pairs));
                    return;
                }
            }
        });
    }

    /// Lets go of all.
    pub(super) fn clear(&self) {
        let pairs = std::mem::take(&mut self.shelved().pairs);
        drop(pairs);
    }
}

/// The two directories that an overlay writes to, in one of their own.
#[derive(Debug)]
pub(super) struct Pair {
    /// Until it is dropped.
    made: Option<Owned>,
    shelf: Arc<Shelf>,
}

impl Pair {
    pub(super) fn path(&self) -> &Path {
        self.made.as_ref().map_or(Path::new(""), Owned::path)
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        let Some(made) = self.made.take() else { return };
        let has_room = self.shelf.shelved().pairs.len() < MOST_SHELVED;
        if has_room && clean(made.path()).unwrap_or(false) {
            self.shelf.keep(made);
        }
    }
}

/// Makes a pair what it was when it was made, where there is nothing in it of whoever had it; whether it is.
fn clean(own: &Path) -> io::Result<bool> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let own = File::open(own)?;
    let upper = openat(&own, NAMES.upper, flags, Mode::empty())?;
    let mut entries = Dir::read_from(&upper)?;
    if entries
        .any(|entry| entry.is_ok_and(|entry| !matches!(entry.file_name().to_bytes(), b"." | b"..")))
    {
        return Ok(false);
    }
    let work = openat(&own, NAMES.work, flags, Mode::empty())?;
    changes::remove_tree(work.as_fd(), NAMES.work)?;
    // The other one was never seen inside: it has the attributes, and the size of one that never held much.
    let is_like_new = fstat(&upper)?.st_size == fstat(&work)?.st_size
        && ioctl_getflags(&upper) == ioctl_getflags(&work);
    if !is_like_new {
        return Ok(false);
    }
    let mut names = [0; 256];
    let length = flistxattr(&upper, &mut names[..])?;
    for name in names[..length].split_inclusive(|byte| *byte == 0) {
        // Overlayfs's own: what somebody inside calls so has a longer name here, and goes, too.
        if !name.starts_with(b"user.overlay.") {
            return Ok(false);
        }
        // The kernel's name of an overlay, which the next may have.
        if name == b"user.overlay.uuid\0" {
            continue;
        }
        let name = CStr::from_bytes_with_nul(name).map_err(io::Error::other)?;
        fremovexattr(&upper, name)?;
    }
    Ok(true)
}
