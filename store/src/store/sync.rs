//! Durability without waiting: which sessions wrote objects that may not have reached the disk yet.
//!
//! Writing an object never waits for the disk. Instead, before a session publishes its first object, it leaves a marker
//! `unsynced/<boot id>.<session>.<number>`, which it makes durable at once. [`Session::sync`] flushes the file system and removes the
//! marker. A marker of an earlier boot therefore says: the machine went down before what was written after the marker's time was safe,
//! and [`Store::open`] looks at all of that again. Measured on ext4 over a virtual disk with 1.5 GB in 40,000 fresh files: `syncfs` at
//! the end 0.95 s, one `fsync` a file 35 s.

use std::{
    ffi::{CStr, CString},
    sync::{
        Mutex, PoisonError, RwLock, RwLockReadGuard,
        atomic::{AtomicU64, Ordering},
    },
};

use rustix::{
    fs::{AtFlags, Mode, OFlags, mkdirat, openat, statat, unlinkat},
    io::Errno,
};

use super::{Context, Result, Session, Store, directory};

/// The state of a session's marker.
pub(super) struct Unsynced {
    session: String,
    number: AtomicU64,
    /// The marker's name while there is one. Held for reading around each publication, so that a marker cannot go between the look at
    /// it and the publication.
    marker: RwLock<Option<CString>>,
    /// One marker is made at a time.
    making: Mutex<()>,
}

impl Unsynced {
    pub(super) fn new(session: &CStr) -> Self {
        Self {
            session: session.to_string_lossy().into_owned(),
            number: AtomicU64::new(0),
            marker: RwLock::new(None),
            making: Mutex::new(()),
        }
    }
}

impl Session {
    /// Makes sure that there is a marker for as long as the guard lives. Take it before anything is published.
    pub(super) fn publishing(&self) -> Result<RwLockReadGuard<'_, Option<CString>>> {
        loop {
            let guard = self
                .unsynced
                .marker
                .read()
                .unwrap_or_else(PoisonError::into_inner);
            if guard.is_some() {
                return Ok(guard);
            }
            drop(guard);
            let _one = self
                .unsynced
                .making
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let mut guard = self
                .unsynced
                .marker
                .write()
                .unwrap_or_else(PoisonError::into_inner);
            if guard.is_none() {
                *guard = Some(self.mark()?);
            }
        }
    }

    fn mark(&self) -> Result<CString> {
        let store = self.store();
        let path = || store.path("unsynced");
        loop {
            match mkdirat(store.fd(), c"unsynced", Mode::RWXU) {
                Ok(()) => rustix::fs::fsync(store.fd()).context("write", || store.path(""))?,
                Err(Errno::EXIST) => {}
                Err(error) => return Err(error).context("create", path),
            }
            let number = self.unsynced.number.fetch_add(1, Ordering::Relaxed);
            let name = format!("{}.{}.{number}", boot_id()?, self.unsynced.session);
            let name = CString::new(name).unwrap_or_default();
            // Whoever removes the last marker removes the directory.
            let directory = match directory::open(store.fd(), c"unsynced") {
                Err(Errno::NOENT) => continue,
                directory => directory.context("open", path)?,
            };
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
            let marker = match openat(&directory, &*name, flags, Mode::RUSR | Mode::WUSR) {
                Ok(marker) => marker,
                Err(Errno::NOENT) => continue,
                Err(error) => return Err(error).context("write into", path),
            };
            rustix::fs::fsync(&marker)
                .and_then(|()| rustix::fs::fsync(&directory))
                .context("write into", path)?;
            return Ok(name);
        }
    }

    /// Waits until all that this session published is on the disk, so that a later power cut costs no second look. Other threads may go
    /// on publishing meanwhile: best called beside the next step, not before it. Without it nothing is lost but time: whatever did not survive is found by the next [`Store::open`].
    pub fn sync(&self) -> Result<()> {
        // From here on new publications make a new marker.
        let own = self
            .unsynced
            .marker
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        match own {
            Some(own) => self.store().sync_markers(|name| name == own.as_c_str()),
            None => Ok(()),
        }
    }
}

impl Store {
    /// Waits until all that ended sessions published is on the disk, so that a later power cut costs no second look. This flushes
    /// the whole file system, whoever wrote to it, and may take long on a busy machine: for commands that nobody waits for.
    pub fn sync(&self) -> Result<()> {
        self.sync_markers(|_| false)
    }

    /// Flushes the file system and then removes the markers of this boot whose session has ended, and those that `also` names.
    pub(super) fn sync_markers(&self, also: impl Fn(&CStr) -> bool) -> Result<()> {
        let path = || self.path("unsynced");
        let directory = match directory::open(self.fd(), c"unsynced") {
            Err(Errno::NOENT) => return Ok(()),
            directory => directory.context("open", path)?,
        };
        let tmp = self.directory(c"tmp")?;
        let boot = boot_id()?;
        let mut settled = Vec::new();
        for (name, _) in directory::list(&directory).context("list", path)? {
            let text = name.to_string_lossy().into_owned();
            let mut parts = text.split('.');
            let ended = parts.next() == Some(boot.as_str())
                && parts.next().is_some_and(|session| {
                    matches!(
                        statat(&tmp, session, AtFlags::SYMLINK_NOFOLLOW),
                        Err(Errno::NOENT)
                    )
                });
            if ended || also(&name) {
                settled.push(name);
            }
        }
        if !settled.is_empty() {
            rustix::fs::syncfs(self.fd()).context("flush", || self.path(""))?;
        }
        for name in settled {
            match unlinkat(&directory, &*name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(error) => return Err(error).context("remove a marker in", path),
            }
        }
        // So that opening a settled store costs one failed open. Still in use is fine.
        let _ = unlinkat(self.fd(), c"unsynced", AtFlags::REMOVEDIR);
        Ok(())
    }
}

/// The kernel's name of this boot.
pub(super) fn boot_id() -> Result<String> {
    const PATH: &str = "/proc/sys/kernel/random/boot_id";
    let text = std::fs::read_to_string(PATH).context("read", || PATH.into())?;
    Ok(text.trim_end().to_owned())
}
