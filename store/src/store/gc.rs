//! Garbage collection: mark from roots, held views and nothing else, then sweep.
//!
//! It has the store's lock alone, so no session is alive. It never waits for a running environment, whose view is locked shared. It may
//! be killed at any point, because things go in the order views, trees, objects: what is left always has all that it refers to.
//! And it writes nothing, so it works on a full disk: a view is taken out of use by a change of its top directory's permissions.

use std::{
    collections::{HashMap, HashSet},
    ffi::CStr,
    io::ErrorKind,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::{Duration, Instant},
};

use rustix::{
    fs::{AtFlags, FlockOperation, Mode, fchmod, flock, statat, unlinkat},
    io::Errno,
};

use super::{
    Context, Result, Root, RootKind, RootState, Store, StoreError, directory, hold,
    objects::ObjectName,
};
use crate::{Digest, TreeId, tree::manifest_files};

/// How long to wait for sessions to end.
const PATIENCE: Duration = Duration::from_secs(1);

/// What to collect.
#[derive(Clone, Copy, Default, Debug)]
pub struct GcOptions<'o> {
    /// Only say what would go.
    pub dry_run: bool,
    /// Downloads that no root keeps, too.
    pub fetch: bool,
    /// All tool caches, too.
    pub caches: bool,
    /// Names of roots that are given up, and removed first.
    pub forget: &'o [String],
}

/// What a collection removed (or would, when it only looks) and what keeps the rest.
#[derive(Clone, Default, Debug)]
pub struct GcReport {
    /// Objects removed.
    pub objects: u64,
    /// Their length in bytes.
    pub object_bytes: u64,
    /// Manifests removed.
    pub trees: u64,
    /// Views removed.
    pub views: u64,
    /// Downloads removed.
    pub fetch: u64,
    /// Their length in bytes.
    pub fetch_bytes: u64,
    /// The length of the tool caches removed, in bytes.
    pub cache_bytes: u64,
    /// Directories of dead sessions removed.
    pub sessions: u64,
    /// Objects that stay.
    pub kept_objects: u64,
    /// What each root keeps.
    pub roots: Vec<RootUsage>,
    /// Trees that no root keeps but a running environment does.
    pub held: Vec<TreeId>,
}

/// What a root keeps.
#[derive(Clone, Debug)]
pub struct RootUsage {
    /// The root.
    pub state: RootState,
    /// The content of its trees, in bytes; equal content counts once.
    pub bytes: u64,
    /// The part of it that is counted to this root alone: nobody else keeps it. What several roots of one project keep is counted to
    /// its present environment, else to its latest generation.
    pub only: u64,
}

/// An object that stays.
struct Mark {
    size: u64,
    /// The root that it is counted to so far, or `None` when several keep it, or a held view does.
    root: Option<usize>,
}

impl Store {
    /// Removes what no root and no running environment keeps. While sessions live it fails after a second and names them.
    pub fn gc(&self, options: GcOptions<'_>) -> Result<GcReport> {
        let _alone = if options.dry_run {
            self.lock(FlockOperation::LockShared)?
        } else {
            self.lock_alone()?
        };
        let mut report = GcReport::default();
        let (forgotten, roots): (Vec<_>, Vec<_>) = self
            .roots()?
            .into_iter()
            .partition(|state| options.forget.contains(&state.root.name));
        if !options.dry_run {
            for state in &forgotten {
                self.unlink_root(&state.root.name)?;
            }
        }
        let mut marks = HashMap::new();
        let mut kept = HashSet::new();
        for state in roots {
            let usage = self.mark_root(state, &report.roots, &mut kept, &mut marks)?;
            report.roots.push(usage);
        }
        for mark in marks.values() {
            if let Some(usage) = mark.root.and_then(|root| report.roots.get_mut(root)) {
                usage.only += mark.size;
            }
        }
        let act = !options.dry_run;
        self.sweep_views(&kept, act, &mut report)?;
        for id in &report.held {
            kept.insert(*id);
            // A held tree without manifest needs no object: its view has them all.
            if let Ok(manifest) = self.manifest(id) {
                for (digest, mode, size) in manifest_files(&manifest) {
                    marks.insert(ObjectName::new(digest, mode), Mark { size, root: None });
                }
            }
        }
        self.sweep_trees(&kept, act, &mut report)?;
        if act {
            self.sweep_memos()?;
            self.drop_starts();
        }
        self.sweep_objects(&marks, act, &mut report)?;
        if options.fetch {
            let keep = report
                .roots
                .iter()
                .flat_map(|usage| usage.state.root.fetch.iter().copied())
                .collect();
            self.sweep_fetch(&keep, act, &mut report)?;
        }
        if options.caches {
            report.cache_bytes = self.usage_of(c"caches")?.bytes;
            if act {
                let caches = self.directory(c"caches")?;
                directory::empty(caches.as_fd()).context("empty", || self.path("caches"))?;
            }
        }
        if act {
            report.sessions = self.sweep(self.directory(c"tmp")?.as_fd(), None)?;
            self.sync_markers(|_| false)?;
        }
        Ok(report)
    }

    /// The store's lock with nobody beside us, or an error that names who is. Short sessions are waited for; and a process that another
    /// thread is just starting has our descriptors, and so our locks, until it executes its program.
    pub(super) fn lock_alone(&self) -> Result<OwnedFd> {
        let begin = Instant::now();
        loop {
            match self.lock(FlockOperation::NonBlockingLockExclusive) {
                Err(StoreError::Io { source, .. }) if source.kind() == ErrorKind::WouldBlock => {}
                locked => return locked,
            }
            if begin.elapsed() > PATIENCE {
                return Err(StoreError::Busy {
                    pids: self.session_owners(),
                });
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn mark_root(
        &self,
        state: RootState,
        earlier: &[RootUsage],
        kept: &mut HashSet<TreeId>,
        marks: &mut HashMap<ObjectName, Mark>,
    ) -> Result<RootUsage> {
        let mut seen = HashSet::new();
        let mut bytes = 0;
        for id in &state.root.trees {
            kept.insert(*id);
            let manifest = match self.manifest(id) {
                // Not realised here, or repaired away: nothing to keep.
                Err(StoreError::TreeMissing { .. }) => continue,
                manifest => manifest?,
            };
            for (digest, mode, size) in manifest_files(&manifest) {
                let name = ObjectName::new(digest, mode);
                if !seen.insert(name) {
                    continue;
                }
                bytes += size;
                let root = Some(earlier.len());
                marks
                    .entry(name)
                    .and_modify(|mark| {
                        let before = mark.root.and_then(|at| Some((at, earlier.get(at)?)));
                        mark.root = before.and_then(|(at, usage)| {
                            match counted(&usage.state.root, &state.root)? {
                                Counted::Before => Some(at),
                                Counted::Now => root,
                            }
                        });
                    })
                    .or_insert(Mark { size, root });
            }
        }
        Ok(RootUsage {
            state,
            bytes,
            only: 0,
        })
    }

    /// Removes views that nothing keeps, each locked so that nobody can begin to hold it. Held ones are noted.
    fn sweep_views(&self, kept: &HashSet<TreeId>, act: bool, report: &mut GcReport) -> Result<()> {
        let views = self.directory(c"views")?;
        for (name, _) in directory::list(&views).context("list", || self.path("views"))? {
            let Some(id) = tree_id(&name) else { continue };
            if kept.contains(&id) && self.view_path(&id).is_some() {
                continue;
            }
            let view = match directory::open(&views, &name) {
                Err(Errno::NOTDIR | Errno::LOOP) => continue,
                view => {
                    view.context("open the view", || self.path("views").join(id.to_string()))?
                }
            };
            if flock(&view, FlockOperation::NonBlockingLockExclusive).is_err() {
                report.held.push(id);
                continue;
            }
            if act {
                self.dismantle(&id, view.as_fd())?;
            }
            report.views += 1;
        }
        Ok(())
    }

    /// Removes a view that the caller has locked alone.
    pub(super) fn dismantle(&self, id: &TreeId, view: BorrowedFd<'_>) -> Result<()> {
        let name = format!("views/{id}");
        fchmod(view, Mode::from_raw_mode(hold::DISMANTLED))
            .and_then(|()| directory::empty(view))
            .and_then(|()| unlinkat(self.fd(), &*name, AtFlags::REMOVEDIR))
            .context("remove the view", || self.path(&name))
    }

    fn sweep_trees(&self, kept: &HashSet<TreeId>, act: bool, report: &mut GcReport) -> Result<()> {
        let trees = self.directory(c"trees")?;
        for (name, _) in directory::list(&trees).context("list", || self.path("trees"))? {
            if tree_id(&name).is_some_and(|id| !kept.contains(&id)) {
                if act {
                    unlinkat(&trees, &*name, AtFlags::empty()).context("remove", || {
                        self.path("trees").join(name.to_string_lossy().as_ref())
                    })?;
                }
                report.trees += 1;
            }
        }
        Ok(())
    }

    fn sweep_objects(
        &self,
        marks: &HashMap<ObjectName, Mark>,
        act: bool,
        report: &mut GcReport,
    ) -> Result<()> {
        self.each_object(|name, fan, file| {
            if marks.contains_key(&name) {
                report.kept_objects += 1;
                return Ok(());
            }
            let path = || self.object_path(&name.digest, name.mode);
            let stat = statat(fan, file, AtFlags::SYMLINK_NOFOLLOW).context("look at", path)?;
            if act {
                unlinkat(fan, file, AtFlags::empty()).context("remove", path)?;
            }
            report.objects += 1;
            report.object_bytes += u64::try_from(stat.st_size).unwrap_or(0);
            Ok(())
        })
    }

    /// Calls `each` with every object's name, its directory and its name there.
    pub(super) fn each_object(
        &self,
        mut each: impl FnMut(ObjectName, BorrowedFd<'_>, &CStr) -> Result<()>,
    ) -> Result<()> {
        let objects = self.directory(c"objects")?;
        let at = || self.path("objects");
        for (fan, _) in directory::list(&objects).context("list", at)? {
            let Ok(opened) = directory::open(&objects, &fan) else {
                continue;
            };
            for (file, _) in directory::list(&opened).context("list", at)? {
                if let Some(name) = ObjectName::parse(&fan, &file) {
                    each(name, opened.as_fd(), &file)?;
                }
            }
        }
        Ok(())
    }

    fn sweep_fetch(&self, keep: &HashSet<Digest>, act: bool, report: &mut GcReport) -> Result<()> {
        let fetch = self.directory(c"fetch")?;
        for (name, _) in directory::list(&fetch).context("list", || self.path("fetch"))? {
            let Some(digest) = download(&name) else {
                continue;
            };
            if keep.contains(&digest) {
                continue;
            }
            let path = || self.path("fetch").join(name.to_string_lossy().as_ref());
            let stat =
                statat(&fetch, &*name, AtFlags::SYMLINK_NOFOLLOW).context("look at", path)?;
            if act {
                directory::remove(&fetch, &name).context("remove", path)?;
            }
            report.fetch += 1;
            report.fetch_bytes += u64::try_from(stat.st_size).unwrap_or(0);
        }
        Ok(())
    }
}

enum Counted {
    Before,
    Now,
}

/// To which of two roots a content is counted that both keep; to neither if they are not of one project. Roots come in the order of their
/// names, in which a project's present environment is before its generations, and these are in their own.
fn counted(before: &Root, now: &Root) -> Option<Counted> {
    let of_one_project = before.path.is_some() && before.path == now.path;
    match (before.kind, now.kind) {
        _ if !of_one_project => None,
        (RootKind::Project, RootKind::Generation) => Some(Counted::Before),
        (RootKind::Generation, RootKind::Generation) => Some(Counted::Now),
        _ => None,
    }
}

/// The tree that a name in `trees/` or `views/` stands for.
pub(super) fn tree_id(name: &CStr) -> Option<TreeId> {
    name.to_str().ok()?.parse().ok()
}

/// The download that a name in `fetch/` belongs to: a digest, and anything after a dot while it is unfinished.
pub(super) fn download(name: &CStr) -> Option<Digest> {
    let name = name.to_str().ok()?;
    name.split('.').next()?.parse().ok()
}
