//! The end of a store.

use std::{ffi::CStr, os::fd::AsFd, path::PathBuf};

use rustix::{
    fs::{AtFlags, FlockOperation, flock, unlinkat},
    io::Errno,
};

use super::{
    Context, DIRECTORIES, FILES, Result, Store, StoreError, directory, gc, objects::ObjectName,
    session,
};

/// What the removal of a store left.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct RemoveReport {
    /// Things that the store did not make. Where there are any, the directories around them stay, too.
    pub foreign: Vec<PathBuf>,
}

impl Store {
    /// Removes all that the store made, itself included. Fails, and removes nothing, while sessions live or views are
    /// held.
    pub fn remove_all(self) -> Result<RemoveReport> {
        let _alone = self.lock_alone()?;
        let views = self.directory(c"views")?;
        let mut locked = Vec::new();
        for (name, _) in directory::list(&views).context("list", || self.path("views"))? {
            if let Some(id) = gc::tree_id(&name)
                && let Ok(view) = directory::open(&views, &name)
            {
                if flock(&view, FlockOperation::NonBlockingLockExclusive).is_err() {
                    return Err(StoreError::ViewInUse { id });
                }
                // Descriptors are few; the rest is checked, if not kept.
                if locked.len() < 256 {
                    locked.push(view);
                }
            }
        }
        let mut report = RemoveReport::default();
        // First of all, so that nobody takes what is left for a store.
        self.remove_file(c"version")?;
        for name in DIRECTORIES {
            self.remove_directory(name, &mut report)?;
        }
        let _ = directory::remove(self.fd(), c"unsynced");
        let _ = directory::remove(self.fd(), c"state");
        let _ = directory::remove(self.fd(), c"audit");
        self.drop_starts();
        for name in FILES {
            self.remove_file(name)?;
        }
        for (name, _) in directory::list(self.fd()).context("list", || self.path(""))? {
            let ours = DIRECTORIES.contains(&name.as_c_str()) && !report.foreign.is_empty();
            if !ours {
                report.foreign.push(self.path(&name.to_string_lossy()));
            }
        }
        if report.foreign.is_empty() {
            std::fs::remove_dir(self.path("")).context("remove", || self.path(""))?;
        }
        Ok(report)
    }

    fn remove_file(&self, name: &CStr) -> Result<()> {
        match unlinkat(self.fd(), name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error).context("remove", || self.path(&name.to_string_lossy())),
        }
    }

    fn remove_directory(&self, name: &CStr, report: &mut RemoveReport) -> Result<()> {
        let top = match directory::open(self.fd(), name) {
            Err(Errno::NOENT) => return Ok(()),
            top => top.context("open", || self.path(&name.to_string_lossy()))?,
        };
        let path = || self.path(&name.to_string_lossy());
        for (entry, _) in directory::list(&top).context("list", path)? {
            let at = || path().join(entry.to_string_lossy().as_ref());
            let ours = match name.to_bytes() {
                b"objects" => {
                    let fan = directory::open(&top, &entry);
                    let fan = fan.ok().filter(|_| entry.count_bytes() == 2);
                    match &fan {
                        Some(fan) => {
                            for (file, _) in directory::list(fan).context("list", at)? {
                                if ObjectName::parse(&entry, &file).is_some() {
                                    unlinkat(fan.as_fd(), &*file, AtFlags::empty())
                                        .context("remove", at)?;
                                } else {
                                    report
                                        .foreign
                                        .push(at().join(file.to_string_lossy().as_ref()));
                                }
                            }
                            match unlinkat(&top, &*entry, AtFlags::REMOVEDIR) {
                                Ok(()) | Err(Errno::NOTEMPTY | Errno::EXIST) => {}
                                Err(error) => return Err(error).context("remove", at),
                            }
                            continue;
                        }
                        None => false,
                    }
                }
                b"trees" | b"views" => gc::tree_id(&entry).is_some(),
                b"fetch" => gc::download(&entry).is_some(),
                b"tmp" => session::session_owner(&entry).is_some(),
                _ => true,
            };
            if ours {
                directory::remove(&top, &entry).context("remove", at)?;
            } else {
                report.foreign.push(at());
            }
        }
        match unlinkat(self.fd(), name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(()),
            Err(error) => Err(error).context("remove", path),
        }
    }
}
