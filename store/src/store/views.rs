//! A tree as a directory of hard links to objects.

use std::{
    ffi::{CStr, CString},
    fs::File,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::PathBuf,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use rustix::{
    fs::{
        AtFlags, FlockOperation, Mode, OFlags, RenameFlags, fchmod, fdatasync, flock, futimens,
        linkat, mkdirat, openat, renameat, renameat_with, symlinkat, utimensat,
    },
    io::Errno,
};

use super::{
    Context, DIRECTORY, Result, Session, Store, StoreError, directory, hold,
    objects::{ObjectName, TIMES},
};
use crate::{
    Entry, Node, Tree, TreeId, TreePath,
    tree::{directory_mode_on_disk, file_mode_on_disk},
};

/// From how many entries on a view is filled by two threads. Links in different directories do not wait for each other.
const PARALLEL: usize = 200;

impl Session {
    /// The view of a tree of the store: made if it is missing. Complete or absent; when several make it at once, all succeed.
    pub fn view(&self, id: &TreeId) -> Result<PathBuf> {
        if let Some(path) = self.store().view_path(id) {
            return Ok(path);
        }
        let tree = self.store().tree(id)?;
        let (name, _) = self.build(&tree)?;
        self.publish_view(&name, id)
    }

    /// A view of any tree whose content is in the store, in the session's directory: nobody else sees it, and it ends with the session.
    /// Its regular files are hard links to objects, so nothing may write through it either.
    pub fn private_view(&self, tree: &Tree) -> Result<PathBuf> {
        let (name, _) = self.build(tree)?;
        Ok(self.path().join(name.to_string_lossy().as_ref()))
    }

    fn build(&self, tree: &Tree) -> Result<(CString, OwnedFd)> {
        if tree.is_layer() {
            return Err(StoreError::Layer);
        }
        let name = self.fresh("view");
        let path = || self.path().join(name.to_string_lossy().as_ref());
        mkdirat(self.fd(), &*name, Mode::RWXU).context("create the view", path)?;
        let top = directory::open(self.fd(), &name).context("open the view", path)?;
        Filler {
            session: self,
            top: top.as_fd(),
        }
        .fill(tree, &|_, _| false)?;
        seal(top.as_fd(), hold::COMPLETE as u16).context("finish the view", path)?;
        Ok((name, top))
    }

    /// Moves a complete view from the session's directory to its place.
    pub(super) fn publish_view(&self, name: &CStr, id: &TreeId) -> Result<PathBuf> {
        let store = self.store();
        let path = store.path("views").join(id.to_string());
        let views = store.directory(c"views")?;
        let to = id.to_string();
        let publish = || match renameat_with(self.fd(), name, &views, &to, RenameFlags::NOREPLACE) {
            // A file system without the flag: a directory never replaces one that is not empty.
            Err(Errno::INVAL) => renameat(self.fd(), name, &views, &to),
            other => other,
        };
        let taken =
            |result: &rustix::io::Result<()>| matches!(result, Err(Errno::EXIST | Errno::NOTEMPTY));
        let mut published = publish();
        if taken(&published) {
            // Either someone was faster, or a removal was killed half-way. One process at a time clears the latter away.
            rustix::io::retry_on_intr(|| flock(&views, FlockOperation::LockExclusive))
                .context("lock", || store.path("views"))?;
            if store.view_path(id).is_none() {
                let gone = self.fresh("gone");
                match renameat(&views, &to, self.fd(), &*gone) {
                    Ok(()) | Err(Errno::NOENT) => published = publish(),
                    Err(error) => {
                        return Err(error)
                            .context("clear away the half-removed view", || path.clone());
                    }
                }
            }
        }
        if !taken(&published) {
            published.context("publish the view", || path.clone())?;
        }
        Ok(path)
    }
}

/// Sets the final permissions and time of an open directory that is complete.
pub(super) fn seal(directory: BorrowedFd<'_>, mode: u16) -> rustix::io::Result<()> {
    fchmod(directory, Mode::from_raw_mode(mode.into()))?;
    futimens(directory, &TIMES)
}

/// What is put into a directory, other than directories.
pub(super) enum Leaf<'a> {
    Object(ObjectName),
    Symlink(&'a [u8]),
}

impl<'a> Leaf<'a> {
    /// What an entry other than a directory becomes.
    pub(super) fn of(tree: &Tree, entry: &'a Entry) -> Option<Self> {
        match &entry.node {
            Node::Symlink { target } => Some(Self::Symlink(target)),
            Node::File { .. } | Node::HardLink { .. } => {
                let (digest, _) = tree.content_of(entry)?;
                Some(Self::Object(ObjectName::new(digest, entry.meta.mode)))
            }
            Node::Directory | Node::Whiteout => None,
        }
    }
}

/// One directory of a view and what it directly contains.
struct Directory<'a> {
    path: Option<&'a TreePath>,
    mode: u16,
    /// Whether it is there already.
    exists: bool,
    /// Whether a directory is made in it.
    grows: bool,
    leaves: Vec<(&'a TreePath, Leaf<'a>)>,
    /// The index of the last directory directly in it, or its own: once that one is made, this one's time can be set.
    ready: usize,
}

/// What the threads that fill a view have in common.
#[derive(Default)]
struct Shared {
    /// How many directories are there.
    made: AtomicUsize,
    /// The next one to fill.
    next: AtomicUsize,
    failed: AtomicBool,
    problem: Mutex<Option<StoreError>>,
}

impl Shared {
    /// Keeps the first error and ends all threads.
    fn fail(&self, error: StoreError) {
        self.problem
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert(error);
        self.failed.store(true, Ordering::Relaxed);
    }
}

/// Puts entries into a view that is being made.
pub(super) struct Filler<'a> {
    pub(super) session: &'a Session,
    pub(super) top: BorrowedFd<'a>,
}

impl Filler<'_> {
    /// Puts in all of a tree but what is `there` already. One thread makes the directories, in order, and then helps the other,
    /// which fills those that are ready from the start.
    pub(super) fn fill(
        &self,
        tree: &Tree,
        there: &dyn Fn(&TreePath, &Entry) -> bool,
    ) -> Result<()> {
        let directories = plan(tree, there);
        let mut order: Vec<usize> = (0..directories.len()).collect();
        order.sort_unstable_by_key(|&index| directories[index].ready);
        let shared = Shared::default();
        let make = || {
            for (index, directory) in directories.iter().enumerate() {
                let made = match directory.path {
                    Some(path) if !directory.exists => self.make_directory(path, directory.mode),
                    _ => Ok(()),
                };
                if let Err(error) = made {
                    return shared.fail(error);
                }
                shared.made.store(index + 1, Ordering::Release);
            }
        };
        let fill = || {
            while let Some(&index) = order.get(shared.next.fetch_add(1, Ordering::Relaxed)) {
                let directory = &directories[index];
                while shared.made.load(Ordering::Acquire) <= directory.ready {
                    if shared.failed.load(Ordering::Relaxed) {
                        return;
                    }
                    std::thread::yield_now();
                }
                if shared.failed.load(Ordering::Relaxed) {
                    return;
                }
                if let Err(error) = self.fill_directory(directory) {
                    return shared.fail(error);
                }
            }
        };
        if tree.len() < PARALLEL {
            make();
            fill();
        } else {
            std::thread::scope(|scope| {
                scope.spawn(fill);
                make();
                fill();
            });
        }
        match shared
            .problem
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
        {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    fn make_directory(&self, path: &TreePath, mode: u16) -> Result<()> {
        mkdirat(self.top, path.as_bytes(), Mode::from_raw_mode(mode.into()))
            .context("create the directory", || path.as_path().to_owned())
    }

    pub(super) fn open(&self, path: &TreePath) -> Result<OwnedFd> {
        openat(self.top, path.as_bytes(), DIRECTORY, Mode::empty())
            .context("open the directory", || path.as_path().to_owned())
    }

    fn fill_directory(&self, directory: &Directory<'_>) -> Result<()> {
        if directory.exists && !directory.grows && directory.leaves.is_empty() {
            return Ok(());
        }
        let opened = directory.path.map(|path| self.open(path)).transpose()?;
        let fd = opened.as_ref().map_or(self.top, AsFd::as_fd);
        for (path, leaf) in &directory.leaves {
            self.place(fd, path, leaf)?;
        }
        let Some(path) = directory.path else {
            return Ok(());
        };
        let sealed = if self.session.umask.cuts(directory.mode) {
            seal(fd, directory.mode)
        } else {
            futimens(fd, &TIMES)
        };
        sealed.context("set the time of the directory", || {
            path.as_path().to_owned()
        })
    }

    /// Puts a file or a symbolic link into the open directory that is its parent.
    fn place(&self, parent: BorrowedFd<'_>, path: &TreePath, leaf: &Leaf<'_>) -> Result<()> {
        let at = || path.as_path().to_owned();
        match leaf {
            Leaf::Symlink(target) => symlinkat(*target, parent, path.name())
                .and_then(|()| utimensat(parent, path.name(), &TIMES, AtFlags::SYMLINK_NOFOLLOW))
                .context("create the symbolic link", at),
            Leaf::Object(object) => {
                let objects = self.session.store().objects()?;
                match linkat(
                    objects,
                    object.path().as_c_str(),
                    parent,
                    path.name(),
                    AtFlags::empty(),
                ) {
                    Ok(()) => Ok(()),
                    Err(Errno::MLINK) => self.copy(parent, path, object),
                    Err(Errno::NOENT) => Err(StoreError::ObjectMissing {
                        path: path.clone(),
                        digest: object.digest,
                    }),
                    Err(error) => Err(error).context("link the file", at),
                }
            }
        }
    }

    /// A private copy, for an object that has as many links as the file system allows (65,000 on ext4).
    fn copy(&self, parent: BorrowedFd<'_>, path: &TreePath, object: &ObjectName) -> Result<()> {
        let mut source = self.session.store().object(&object.digest, object.mode)?;
        let mode = Mode::from_raw_mode(object.mode.into());
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let copied = || -> io::Result<()> {
            let mut copy: File = openat(parent, path.name(), flags, mode)?.into();
            io::copy(&mut source, &mut copy)?;
            fchmod(&copy, mode)?;
            futimens(&copy, &TIMES)?;
            // No object stands for this copy when a power cut is cleaned up after.
            Ok(fdatasync(&copy)?)
        };
        let mut copied = copied;
        copied().context("copy the file", || path.as_path().to_owned())
    }
}

/// Sorts a tree's entries by the directory they are in; parents come before what they contain, the root is first. What is
/// `there` is left out, save for directories, whose time changes with what is put into them.
fn plan<'a>(tree: &'a Tree, there: &dyn Fn(&TreePath, &Entry) -> bool) -> Vec<Directory<'a>> {
    let mut directories = vec![Directory {
        path: None,
        mode: hold::COMPLETE as u16,
        exists: true,
        grows: true,
        leaves: Vec::new(),
        ready: 0,
    }];
    let mut open = vec![0];
    for (path, entry) in tree {
        while let Some(&innermost) = open.last()
            && directories[innermost]
                .path
                .is_some_and(|directory| !path.starts_with(directory))
        {
            open.pop();
        }
        if entry.is_directory() {
            let index = directories.len();
            let exists = there(path, entry);
            if let Some(&parent) = open.last() {
                directories[parent].ready = index;
                directories[parent].grows |= !exists;
            }
            open.push(index);
            directories.push(Directory {
                path: Some(path),
                mode: directory_mode_on_disk(entry.meta.mode),
                exists,
                grows: false,
                leaves: Vec::new(),
                ready: index,
            });
        } else if there(path, entry) {
            continue;
        } else if let Some(leaf) = Leaf::of(tree, entry) {
            let parent = open.last().copied().unwrap_or(0);
            directories[parent].leaves.push((path, leaf));
        }
    }
    directories
}

impl Store {
    /// Whether an entry looks the same in views: owners and attributes are not on disk.
    pub(super) fn looks_same(old: (&Tree, &Entry), new: (&Tree, &Entry)) -> bool {
        let ((old_tree, old), (new_tree, new)) = (old, new);
        match (&old.node, &new.node) {
            (Node::Directory, Node::Directory) => true,
            (Node::Symlink { target: old }, Node::Symlink { target: new }) => old == new,
            _ => {
                let mode = file_mode_on_disk(old.meta.mode) == file_mode_on_disk(new.meta.mode);
                let content = old_tree.content_of(old);
                mode && content.is_some() && content == new_tree.content_of(new)
            }
        }
    }
}
