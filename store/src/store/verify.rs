//! Whether everything in the store is what its name says.

use std::{
    collections::{HashMap, HashSet},
    ffi::{CStr, CString},
    fmt, io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use rustix::{
    fs::{AtFlags, FileType, FlockOperation, Mode, OFlags, Stat, openat, readlinkat, statat},
    io::Errno,
};

use super::{
    Context, DIRECTORY, Result, Store, StoreError, directory, gc, objects::ObjectName, views::Leaf,
};
use crate::{
    Digest, Tree, TreeId,
    tree::{directory_mode_on_disk, manifest_files},
};

/// How many threads hash.
const THREADS: usize = 2;

/// One thing that is not as it should be.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Problem {
    /// Where.
    pub path: PathBuf,
    /// What is wrong.
    pub problem: String,
    /// Whether the repair removed it, so that it can be made again.
    pub repaired: bool,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.problem)
    }
}

/// What a look at everything found.
#[derive(Clone, Default, Debug)]
pub struct VerifyReport {
    /// Objects hashed.
    pub objects: u64,
    /// Bytes hashed.
    pub bytes: u64,
    /// Manifests read.
    pub trees: u64,
    /// Views compared with their manifest.
    pub views: u64,
    /// All that is wrong, by path.
    pub problems: Vec<Problem>,
    /// Trees that a repair removed: to be made again by whoever needs them.
    pub refetch: Vec<TreeId>,
}

impl Store {
    /// Hashes all objects, manifests and downloads again and compares every view with its manifest. With `repair`, what is bad is
    /// removed together with what depends on it; that needs the store alone and fails after a second while sessions live.
    pub fn verify(&self, repair: bool) -> Result<VerifyReport> {
        let _lock = if repair {
            self.lock_alone()?
        } else {
            self.lock(FlockOperation::LockShared)?
        };
        let mut report = VerifyReport::default();
        let mut bad = self.verify_objects(&mut report)?;
        self.verify_trees(&mut bad, &mut report)?;
        if repair {
            report.refetch = self.discard(&bad)?;
            report.refetch.sort_unstable();
            for problem in &mut report.problems {
                problem.repaired = true;
            }
        }
        self.verify_views(repair, &mut report)?;
        self.verify_fetch(repair, &mut report)?;
        report.problems.sort();
        Ok(report)
    }

    fn verify_objects(&self, report: &mut VerifyReport) -> Result<HashSet<ObjectName>> {
        let mut names = Vec::new();
        self.each_object(|name, _, _| {
            names.push(name);
            Ok(())
        })?;
        // Neighbours in a directory are neighbours on the disk more often than not.
        names.sort_unstable();
        let next = AtomicUsize::new(0);
        let bytes = AtomicU64::new(0);
        let bad = Mutex::new(Vec::new());
        let objects = self.objects()?;
        let work = || -> Result<()> {
            while let Some(name) = names.get(next.fetch_add(1, Ordering::Relaxed)) {
                let path = name.path();
                if let Ok(stat) = statat(objects, path.as_c_str(), AtFlags::SYMLINK_NOFOLLOW) {
                    bytes.fetch_add(u64::try_from(stat.st_size).unwrap_or(0), Ordering::Relaxed);
                }
                if !self.object_is_good(name, objects, path.as_c_str())? {
                    bad.lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push(*name);
                }
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
            threads
                .into_iter()
                .try_for_each(|thread| match thread.join() {
                    Ok(result) => result,
                    Err(panic) => std::panic::resume_unwind(panic),
                })
        })?;
        report.objects = names.len() as u64;
        report.bytes = bytes.into_inner();
        let bad = bad.into_inner().unwrap_or_else(PoisonError::into_inner);
        for name in &bad {
            report.add(
                self.object_path(&name.digest, name.mode),
                "the object's content or permissions are not those in its name",
            );
        }
        Ok(bad.into_iter().collect())
    }

    /// Whether an object has the content and the permissions that its name says.
    pub(super) fn object_is_good(
        &self,
        name: &ObjectName,
        directory: BorrowedFd<'_>,
        file: &CStr,
    ) -> Result<bool> {
        let path = || self.object_path(&name.digest, name.mode);
        let stat = match statat(directory, file, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(true),
            stat => stat.context("look at", path)?,
        };
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile
            || stat.st_mode & 0o7777 != u32::from(name.mode)
        {
            return Ok(false);
        }
        Ok(hash(directory, file).context("read", path)? == name.digest)
    }

    fn verify_trees(&self, bad: &mut HashSet<ObjectName>, report: &mut VerifyReport) -> Result<()> {
        let trees = self.directory(c"trees")?;
        for (name, _) in directory::list(&trees).context("list", || self.path("trees"))? {
            let Some(id) = gc::tree_id(&name) else {
                continue;
            };
            report.trees += 1;
            let problem = match self.tree(&id) {
                Ok(tree) => self.missing_content(&tree, bad)?,
                Err(error @ (StoreError::TreeDamaged { .. } | StoreError::Manifest { .. })) => {
                    Some(error.to_string())
                }
                Err(error) => return Err(error),
            };
            if let Some(problem) = problem {
                report.add(self.tree_path(&id), problem);
            }
        }
        Ok(())
    }

    /// The first content of a tree that is not in the store; all that are missing are put among the bad.
    fn missing_content(
        &self,
        tree: &Tree,
        bad: &mut HashSet<ObjectName>,
    ) -> Result<Option<String>> {
        let mut problem = None;
        for (digest, mode, _) in manifest_files(&tree.to_manifest()) {
            let name = ObjectName::new(digest, mode);
            if !bad.contains(&name) && !self.has_object(&name)? {
                bad.insert(name);
                problem.get_or_insert_with(|| format!("the tree needs {digest}, which is missing"));
            }
        }
        Ok(problem)
    }

    fn verify_views(&self, repair: bool, report: &mut VerifyReport) -> Result<()> {
        let views = self.directory(c"views")?;
        let mut inodes = HashMap::new();
        for (name, _) in directory::list(&views).context("list", || self.path("views"))? {
            let Some(id) = gc::tree_id(&name) else {
                continue;
            };
            // A half-removed view counts as absent; gc finishes it.
            let Some(path) = self.view_path(&id) else {
                continue;
            };
            report.views += 1;
            let problem = match self.tree(&id) {
                Ok(tree) => self.check_view(&id, &tree, &mut inodes)?,
                Err(StoreError::TreeMissing { .. }) => {
                    Some((path.clone(), "the view's manifest is missing"))
                }
                Err(StoreError::TreeDamaged { .. } | StoreError::Manifest { .. }) => {
                    Some((path.clone(), "the view's manifest is damaged"))
                }
                Err(error) => return Err(error),
            };
            if let Some((path, problem)) = problem {
                let repaired = repair && self.discard_view(&id)?;
                let problem = problem.to_owned();
                report.problems.push(Problem {
                    path,
                    problem,
                    repaired,
                });
            }
        }
        Ok(())
    }

    /// The first difference between a view and its tree.
    pub(super) fn check_view(
        &self,
        id: &TreeId,
        tree: &Tree,
        inodes: &mut HashMap<ObjectName, (u64, u64)>,
    ) -> Result<Option<(PathBuf, &'static str)>> {
        let top_path = self.path("views").join(id.to_string());
        let name = CString::new(format!("views/{id}")).unwrap_or_default();
        let top =
            directory::open(self.fd(), &name).context("open the view", || top_path.clone())?;
        let mut here: Option<(Option<crate::TreePath>, OwnedFd)> = None;
        let mut count = 0;
        for (path, entry) in tree {
            let at = || top_path.join(path.as_path());
            let parent = path.parent();
            if here.as_ref().is_none_or(|(open, _)| *open != parent) {
                let below = parent
                    .as_ref()
                    .map_or(&b"."[..], |parent| parent.as_bytes());
                match openat(&top, below, DIRECTORY, Mode::empty()) {
                    Ok(opened) => here = Some((parent, opened)),
                    Err(_) => return Ok(Some((at(), "the view lacks this entry's directory"))),
                }
            }
            let Some((_, directory)) = &here else {
                continue;
            };
            let stat = match statat(directory, path.name(), AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => return Ok(Some((at(), "the view lacks this entry"))),
                stat => stat.context("look at", at)?,
            };
            let fine = match Leaf::of(tree, entry) {
                None => is(
                    &stat,
                    FileType::Directory,
                    directory_mode_on_disk(entry.meta.mode),
                ),
                Some(Leaf::Symlink(target)) => {
                    FileType::from_raw_mode(stat.st_mode) == FileType::Symlink
                        && readlinkat(directory, path.name(), Vec::new())
                            .is_ok_and(|found| found.as_bytes() == target)
                }
                Some(Leaf::Object(object)) => {
                    is(&stat, FileType::RegularFile, object.mode)
                        && self.is_object(&object, &stat, directory, path.name(), inodes)?
                }
            };
            if !fine {
                return Ok(Some((at(), "the view has something else here")));
            }
            count += 1;
        }
        let extra = count_entries(top.as_fd()).context("list", || top_path.clone())? != count;
        Ok(extra.then_some((top_path, "the view has entries that its manifest has not")))
    }

    /// Whether a view's file is the object itself or, when that had too many links, a copy of it.
    fn is_object(
        &self,
        object: &ObjectName,
        stat: &Stat,
        directory: &OwnedFd,
        name: &[u8],
        inodes: &mut HashMap<ObjectName, (u64, u64)>,
    ) -> Result<bool> {
        let inode = match inodes.get(object) {
            Some(inode) => *inode,
            None => {
                let found = statat(
                    self.objects()?,
                    object.path().as_c_str(),
                    AtFlags::SYMLINK_NOFOLLOW,
                );
                let inode = found.map_or((0, 0), |stat| (stat.st_dev, stat.st_ino));
                inodes.insert(*object, inode);
                inode
            }
        };
        if inode == (stat.st_dev, stat.st_ino) {
            return Ok(true);
        }
        let name = CString::new(name).unwrap_or_default();
        Ok(hash(directory.as_fd(), &name).is_ok_and(|digest| digest == object.digest))
    }

    fn verify_fetch(&self, repair: bool, report: &mut VerifyReport) -> Result<()> {
        let fetch = self.directory(c"fetch")?;
        for (name, _) in directory::list(&fetch).context("list", || self.path("fetch"))? {
            if self.download_is_good(fetch.as_fd(), &name)? == Some(false) {
                let path = self.path("fetch").join(name.to_string_lossy().as_ref());
                if repair {
                    directory::remove(&fetch, &name).context("remove", || path.clone())?;
                }
                let problem = "the download does not have the digest in its name".to_owned();
                let repaired = repair;
                report.problems.push(Problem {
                    path,
                    problem,
                    repaired,
                });
            }
        }
        Ok(())
    }

    /// Whether a finished download is what its name says; `None` for anything else in `fetch/`.
    pub(super) fn download_is_good(
        &self,
        fetch: BorrowedFd<'_>,
        name: &CStr,
    ) -> Result<Option<bool>> {
        let Some(digest) = gc::download(name).filter(|_| name.count_bytes() == 64) else {
            return Ok(None);
        };
        let found =
            hash(fetch, name).context("read", || self.path("fetch").join(digest.to_string()))?;
        Ok(Some(found == digest))
    }
}

impl VerifyReport {
    fn add(&mut self, path: PathBuf, problem: impl Into<String>) {
        self.problems.push(Problem {
            path,
            problem: problem.into(),
            repaired: false,
        });
    }

    /// Whether nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.problems.is_empty()
    }

    /// The problem at a path, if there is one.
    pub fn problem_at(&self, path: &Path) -> Option<&Problem> {
        self.problems.iter().find(|problem| problem.path == path)
    }
}

fn is(stat: &Stat, kind: FileType, mode: u16) -> bool {
    // Of a directory, a set-group-id bit that it inherited says nothing.
    FileType::from_raw_mode(stat.st_mode) == kind && stat.st_mode & 0o1777 == u32::from(mode)
}

fn hash(directory: BorrowedFd<'_>, name: &CStr) -> io::Result<Digest> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat(directory, name, flags, Mode::empty())?;
    Ok(Digest::of_reader(&mut std::fs::File::from(file))?.0)
}

fn count_entries(directory: BorrowedFd<'_>) -> io::Result<usize> {
    let mut count = 0;
    for (name, kind) in directory::list(directory)? {
        count += 1;
        if kind == FileType::Directory {
            count += count_entries(directory::open(directory, &name)?.as_fd())?;
        }
    }
    Ok(count)
}
