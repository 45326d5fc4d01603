//! After a power cut: what was written shortly before is looked at again, and dropped when it did not reach the disk.

use std::{
    collections::{HashMap, HashSet},
    ffi::CStr,
    os::fd::{AsFd, BorrowedFd},
};

use rustix::{
    fs::{AtFlags, FlockOperation, StatxFlags, flock, statat, statx, unlinkat},
    io::Errno,
};

use super::{Context, Result, Store, directory, gc, objects::ObjectName, sync::boot_id};
use crate::{TreeId, tree::manifest_files};

/// How far the clock may have been set back between the marker and what was written after it, in seconds.
const SLACK: i64 = 24 * 60 * 60;

impl Store {
    /// Looks for markers of an earlier boot. Without any marker this is one failed system call.
    pub(super) fn recover(&self) -> Result<()> {
        let path = || self.path("unsynced");
        let markers = match directory::open(self.fd(), c"unsynced") {
            Err(Errno::NOENT) => return Ok(()),
            markers => markers.context("open", path)?,
        };
        let boot = boot_id()?;
        let stale = || -> Result<Vec<_>> {
            let names = directory::list(&markers).context("list", path)?;
            let old =
                |name: &CStr| name.to_bytes().split(|&b| b == b'.').next() != Some(boot.as_bytes());
            Ok(names
                .into_iter()
                .map(|(name, _)| name)
                .filter(|name| old(name))
                .collect())
        };
        if stale()?.is_empty() {
            return Ok(());
        }
        let _alone = self.lock(FlockOperation::LockExclusive)?;
        let stale = stale()?;
        let mut since = i64::MAX;
        for marker in &stale {
            match statat(&markers, &**marker, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => since = since.min(stat.st_mtime.saturating_sub(SLACK)),
                Err(Errno::NOENT) => {}
                Err(error) => return Err(error).context("look at a marker in", path),
            }
        }
        if !stale.is_empty() {
            tracing::warn!(
                "the machine went down while the store was written: looking at what was new"
            );
            self.drop_unwritten(since)?;
        }
        for marker in &stale {
            match unlinkat(&markers, &**marker, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(error) => return Err(error).context("remove a marker in", path),
            }
        }
        let _ = unlinkat(self.fd(), c"unsynced", AtFlags::REMOVEDIR);
        Ok(())
    }

    /// Drops objects and downloads born at `since` or later that are not what their name says, and all that needs them.
    fn drop_unwritten(&self, since: i64) -> Result<()> {
        let mut bad = HashSet::new();
        self.each_object(|name, fan, file| {
            if born(fan, file) >= since && !self.object_is_good(&name, fan, file)? {
                bad.insert(name);
            }
            Ok(())
        })?;
        let dropped = self.discard(&bad)?;
        if !bad.is_empty() || !dropped.is_empty() {
            tracing::warn!(
                objects = bad.len(),
                trees = dropped.len(),
                "dropped what had not reached the disk"
            );
        }
        self.drop_torn_views(since)?;
        let fetch = self.directory(c"fetch")?;
        for (name, _) in directory::list(&fetch).context("list", || self.path("fetch"))? {
            if born(fetch.as_fd(), &name) >= since
                && self.download_is_good(fetch.as_fd(), &name)? == Some(false)
            {
                directory::remove(&fetch, &name).context("remove", || {
                    self.path("fetch").join(name.to_string_lossy().as_ref())
                })?;
            }
        }
        Ok(())
    }

    /// Drops new views that are not what their manifest says: a file system without a journal keeps no order among links and renames.
    fn drop_torn_views(&self, since: i64) -> Result<()> {
        let views = self.directory(c"views")?;
        let mut inodes = HashMap::new();
        for (name, _) in directory::list(&views).context("list", || self.path("views"))? {
            let Some(id) = gc::tree_id(&name) else {
                continue;
            };
            if born(views.as_fd(), &name) < since {
                continue;
            }
            let torn = match self.tree(&id) {
                Ok(tree) => self.check_view(&id, &tree, &mut inodes)?.is_some(),
                Err(_) => true,
            };
            if torn {
                tracing::warn!(view = %id, "dropped a view that had not reached the disk");
                self.discard_view(&id)?;
            }
        }
        Ok(())
    }

    /// Removes objects, and before them the manifests and views that need them, and manifests that are damaged themselves. Views in use
    /// stay. Returns the trees removed. The caller has the store's lock alone.
    pub(super) fn discard(&self, bad: &HashSet<ObjectName>) -> Result<Vec<TreeId>> {
        let trees = self.directory(c"trees")?;
        let mut removed = Vec::new();
        for (name, _) in directory::list(&trees).context("list", || self.path("trees"))? {
            let Some(id) = gc::tree_id(&name) else {
                continue;
            };
            let good = self.manifest(&id).is_ok_and(|manifest| {
                let mut files = manifest_files(&manifest);
                bad.is_empty()
                    || !files.any(|(digest, mode, _)| bad.contains(&ObjectName::new(digest, mode)))
            });
            if !good {
                self.discard_view(&id)?;
                unlinkat(&trees, &*name, AtFlags::empty())
                    .context("remove", || self.tree_path(&id))?;
                removed.push(id);
            }
        }
        // A view whose manifest is gone already cannot be checked any more.
        let views = self.directory(c"views")?;
        for (name, _) in directory::list(&views).context("list", || self.path("views"))? {
            if let Some(id) = gc::tree_id(&name)
                && !self.has_tree(&id)
            {
                self.discard_view(&id)?;
            }
        }
        for name in bad {
            match unlinkat(self.objects()?, name.path().as_c_str(), AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(error) => {
                    return Err(error)
                        .context("remove", || self.object_path(&name.digest, name.mode));
                }
            }
        }
        Ok(removed)
    }

    /// Removes a view unless it is in use; says whether it is gone.
    pub(super) fn discard_view(&self, id: &TreeId) -> Result<bool> {
        let views = self.directory(c"views")?;
        let name = std::ffi::CString::new(id.to_string()).unwrap_or_default();
        let view = match directory::open(&views, &name) {
            Err(Errno::NOENT) => return Ok(true),
            view => view.context("open the view", || self.path("views").join(id.to_string()))?,
        };
        if flock(&view, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Ok(false);
        }
        self.dismantle(id, view.as_fd())?;
        Ok(true)
    }
}

/// When a file was made, in seconds after the epoch; never changed by links. A file system that does not know says "just now".
fn born(directory: BorrowedFd<'_>, name: &CStr) -> i64 {
    match statx(
        directory,
        name,
        AtFlags::SYMLINK_NOFOLLOW,
        StatxFlags::BTIME,
    ) {
        Ok(found) if found.stx_mask & StatxFlags::BTIME.bits() != 0 => found.stx_btime.tv_sec,
        _ => i64::MAX,
    }
}
