//! Results that are kept by their inputs: `memo/<key>` names the tree that came of them.
//!
//! The key is a digest that the caller makes of everything the result depends on. A memo keeps nothing alive: when its tree goes, it is
//! as if it had never been, and gc removes its file. A memo that a power cut left empty or half written is no memo.

use std::{ffi::CString, os::fd::AsFd};

use rustix::fs::{AtFlags, Mode, OFlags, openat, renameat, unlinkat};

use super::{Context, Result, Session, Store, directory, read_file, write_all};
use crate::{Digest, TreeId};

impl Store {
    /// The tree that came of the inputs with this key, if the store still has it.
    pub fn memo(&self, key: &Digest) -> Option<TreeId> {
        let name = CString::new(format!("memo/{key}")).ok()?;
        let text = read_file(self.fd(), &name).ok()?;
        let id: TreeId = std::str::from_utf8(&text)
            .ok()?
            .strip_suffix('\n')?
            .parse()
            .ok()?;
        self.has_tree(&id).then_some(id)
    }

    /// Removes the memos whose trees are gone.
    pub(super) fn sweep_memos(&self) -> Result<()> {
        let memos = self.directory(c"memo")?;
        for (name, _) in directory::list(&memos).context("list", || self.path("memo"))? {
            let key = name
                .to_str()
                .ok()
                .and_then(|name| name.parse::<Digest>().ok());
            if key.is_none_or(|key| self.memo(&key).is_none()) {
                // Gone already is as good.
                let _ = unlinkat(&memos, &*name, AtFlags::empty());
            }
        }
        Ok(())
    }
}

impl Session {
    /// Keeps `tree`, which the store must have, as what came of the inputs with this key.
    pub fn set_memo(&self, key: &Digest, tree: &TreeId) -> Result<()> {
        let to = || self.store().path("memo").join(key.to_string());
        let new = self.fresh("memo");
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file =
            openat(self.fd(), &*new, flags, Mode::RUSR | Mode::WUSR).context("create", to)?;
        write_all(file.as_fd(), format!("{tree}\n").as_bytes()).context("write", to)?;
        renameat(self.fd(), &*new, self.store().fd(), format!("memo/{key}")).context("publish", to)
    }
}
