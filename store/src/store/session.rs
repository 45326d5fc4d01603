//! A session: the right to write into the store, and a private directory that goes with its owner.

use std::{
    collections::HashSet,
    ffi::{CStr, CString},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::PathBuf,
    sync::{
        Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use rustix::{
    fs::{AtFlags, FlockOperation, Mode, OFlags, Stat, flock, fstat, mkdirat, openat, statat},
    io::Errno,
};

use super::{
    Context, Result, Store, StoreError, directory,
    objects::{ObjectName, Umask},
    sync::Unsynced,
};

/// How many parts the set of known objects has, so that threads seldom wait for each other.
const SHARDS: usize = 16;
/// In how many directories a session writes its objects, so that threads that make files seldom wait for each other: the kernel lets
/// one at a time change a directory.
const LANES: usize = 8;

/// The right to write into the store. While a session lives, gc does not run; environments that merely run need none, they
/// [hold](Store::hold) their view. Any number of threads may use one session. What is not published when it ends, is removed.
pub struct Session {
    store: Store,
    name: CString,
    directory: OwnedFd,
    counter: AtomicU64,
    /// Directories in its own, made when first used; each thread has one of them.
    lanes: [OnceLock<OwnedFd>; LANES],
    /// Objects that this session has seen or made: gc cannot take them while it lives.
    known: [Mutex<HashSet<ObjectName>>; SHARDS],
    pub(super) umask: Umask,
    pub(super) unsynced: Unsynced,
    /// Shared lock on the store's `lock` file, last to go.
    _writers: OwnedFd,
}

/// A private directory that goes with its owner.
pub struct Place {
    store: Store,
    name: CString,
    /// Locked as long as it is open.
    _directory: OwnedFd,
}

impl Store {
    /// Begins a session, waiting for a running gc to end. Directories of dead sessions are swept.
    pub fn session(&self) -> Result<Session> {
        let writers = self.lock(FlockOperation::LockShared)?;
        let tmp = self.directory(c"tmp")?;
        let (name, directory) = self.private(&tmp)?;
        self.sweep(tmp.as_fd(), Some(&name))?;
        Ok(Session {
            store: self.clone(),
            unsynced: Unsynced::new(&name),
            name,
            directory,
            counter: AtomicU64::new(0),
            lanes: Default::default(),
            known: Default::default(),
            umask: Umask::default(),
            _writers: writers,
        })
    }

    /// A private directory for what is not to get into the store: it goes with its owner as a session's does, and gc need not
    /// wait for it. Directories of dead sessions are swept.
    pub fn place(&self) -> Result<Place> {
        let tmp = self.directory(c"tmp")?;
        let (name, directory) = self.private(&tmp)?;
        self.sweep(tmp.as_fd(), Some(&name))?;
        Ok(Place {
            store: self.clone(),
            name,
            _directory: directory,
        })
    }

    /// Makes a directory in `tmp` that stays as long as its descriptor is open.
    fn private(&self, tmp: &OwnedFd) -> Result<(CString, OwnedFd)> {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        loop {
            let number = COUNTER.fetch_add(1, Ordering::Relaxed);
            let name = format!("{}-{}-{number}", std::process::id(), start_time());
            let path = || self.path("tmp").join(&name);
            let name = CString::new(name.as_str()).unwrap_or_default();
            match mkdirat(tmp, &*name, Mode::RWXU) {
                Ok(()) => {}
                // Another process has our id: it lives in another container.
                Err(Errno::EXIST) => continue,
                Err(error) => return Err(error).context("create", path),
            }
            // Until it is locked, someone's sweep may take it.
            let directory = match directory::open(tmp, &name) {
                Err(Errno::NOENT) => continue,
                directory => directory.context("open", path)?,
            };
            let locked = flock(&directory, FlockOperation::NonBlockingLockExclusive).is_ok();
            let stat = fstat(&directory).context("look at", path)?;
            if locked && stat.st_nlink > 0 && is_at(tmp, &name, &stat) {
                return Ok((name, directory));
            }
        }
    }

    /// Opens and locks the file that sessions share and gc has alone.
    pub(super) fn lock(&self, operation: FlockOperation) -> Result<OwnedFd> {
        let path = || self.path("lock");
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
        let file =
            openat(self.fd(), c"lock", flags, Mode::RUSR | Mode::WUSR).context("open", path)?;
        rustix::io::retry_on_intr(|| flock(&file, operation)).context("lock", path)?;
        Ok(file)
    }

    /// Removes what dead sessions left. Their lock is free: the kernel lets go of it whatever ends a process.
    pub(super) fn sweep(&self, tmp: BorrowedFd<'_>, own: Option<&CStr>) -> Result<u64> {
        let mut swept = 0;
        for (name, _) in directory::list(tmp).context("list", || self.path("tmp"))? {
            if Some(name.as_c_str()) == own || session_owner(&name).is_none() {
                continue;
            }
            let Ok(dead) = directory::open(tmp, &name) else {
                continue;
            };
            if flock(&dead, FlockOperation::NonBlockingLockExclusive).is_err() {
                continue;
            }
            match directory::remove(tmp, &name) {
                Ok(()) => swept += 1,
                // Files of another user, that a sandbox with several ids left: no reason to fail whoever comes next.
                Err(error) => {
                    tracing::warn!(session = ?name, %error, "cannot remove what an ended command left")
                }
            }
        }
        Ok(swept)
    }

    /// The processes that own live sessions, as far as their names tell.
    pub(super) fn session_owners(&self) -> Vec<u32> {
        let names = self.directory(c"tmp").ok().and_then(|tmp| {
            let names = directory::list(&tmp).ok()?;
            let live = names.into_iter().filter(|(name, _)| {
                let directory = directory::open(&tmp, name);
                directory.is_ok_and(|session| {
                    flock(&session, FlockOperation::NonBlockingLockShared).is_err()
                })
            });
            Some(live.filter_map(|(name, _)| session_owner(&name)).collect())
        });
        names.unwrap_or_default()
    }
}

impl Session {
    /// The store it writes into.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Its private directory, on the file system of the store: for scratch that ends with the session.
    pub fn path(&self) -> PathBuf {
        self.store
            .path("tmp")
            .join(self.name.to_string_lossy().as_ref())
    }

    /// A new empty directory inside [`path`](Self::path).
    pub fn scratch(&self) -> Result<PathBuf> {
        let name = self.fresh("scratch");
        let path = self.path().join(name.to_string_lossy().as_ref());
        mkdirat(self.fd(), &*name, Mode::RWXU).context("create", || path.clone())?;
        Ok(path)
    }

    /// A failed write to a file of this session, for those who write through [`std::io::Write`].
    pub fn write_error(&self, source: std::io::Error) -> StoreError {
        StoreError::io("write a file in", self.path(), source)
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    /// The directory in which this thread writes what is to become an object.
    pub(super) fn lane(&self) -> Result<BorrowedFd<'_>> {
        static THREADS: AtomicUsize = AtomicUsize::new(0);
        thread_local! {
            static OWN: usize = THREADS.fetch_add(1, Ordering::Relaxed) % LANES;
        }
        let number = OWN.with(|number| *number);
        let lane = &self.lanes[number];
        if lane.get().is_none() {
            let name = CString::new(format!("lane-{number}")).unwrap_or_default();
            let path = || self.path().join(name.to_string_lossy().as_ref());
            match mkdirat(self.fd(), &*name, Mode::RWXU) {
                // Another thread has the same lane.
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error).context("create", path),
            }
            let opened = directory::open(self.fd(), &name).context("open", path)?;
            let _ = lane.set(opened);
        }
        Ok(lane.get().map_or(self.fd(), AsFd::as_fd))
    }

    /// A name in the private directory that was not given out before.
    pub(super) fn fresh(&self, kind: &str) -> CString {
        let number = self.counter.fetch_add(1, Ordering::Relaxed);
        CString::new(format!("{kind}-{number}")).unwrap_or_default()
    }

    /// The part of the set of known objects that `name` belongs to.
    pub(super) fn known(&self, name: &ObjectName) -> MutexGuard<'_, HashSet<ObjectName>> {
        let shard = usize::from(name.digest.as_bytes()[0]) % SHARDS;
        self.known[shard]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let removed = self
            .store
            .directory(c"tmp")
            .map(|tmp| directory::remove(&tmp, &self.name).is_ok());
        if !matches!(removed, Ok(true)) {
            tracing::warn!(session = ?self.name, "left for the next command to sweep");
        }
    }
}

impl Place {
    /// Removes it with all that is in it, where its owner cannot be waited for. What is not gone yet goes as after a crash.
    pub fn remove(&self) {
        let removed = self
            .store
            .directory(c"tmp")
            .map(|tmp| directory::remove(&tmp, &self.name));
        if !matches!(removed, Ok(Ok(()) | Err(Errno::NOENT))) {
            tracing::warn!(place = ?self.name, "left for the next command to sweep");
        }
    }

    /// The store it is in.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Where it is, on the file system of the store.
    pub fn path(&self) -> PathBuf {
        self.store
            .path("tmp")
            .join(self.name.to_string_lossy().as_ref())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.remove();
    }
}

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Place").field(&self.path()).finish()
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Session").field(&self.path()).finish()
    }
}

/// Whether the directory called `name` is still the one that was opened.
fn is_at(tmp: &OwnedFd, name: &CStr, stat: &Stat) -> bool {
    statat(tmp, name, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|there| (there.st_dev, there.st_ino) == (stat.st_dev, stat.st_ino))
}

/// The process in a session's name, or `None` for a name that no session gave.
pub(super) fn session_owner(name: &CStr) -> Option<u32> {
    let mut numbers = name.to_str().ok()?.split('-').map(str::parse::<u64>);
    let owner = numbers.next()?.ok()?;
    (numbers.next()?.is_ok() && numbers.next()?.is_ok() && numbers.next().is_none())
        .then_some(())?;
    u32::try_from(owner).ok()
}

/// When this process began, in clock ticks after boot: with its id, a name that no other process of this boot has. See proc(5),
/// field 22 of /proc/self/stat; 0 where /proc is missing.
fn start_time() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The second field may contain anything, so count from the last closing parenthesis.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    fields
        .split_ascii_whitespace()
        .nth(19)
        .and_then(|field| field.parse().ok())
        .unwrap_or(0)
}
