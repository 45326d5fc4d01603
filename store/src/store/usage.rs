//! How much disk the store takes.

use std::{
    ffi::CStr,
    os::fd::{AsFd, BorrowedFd},
};

use rustix::fs::{AtFlags, FileType, Stat, statat};

use super::{Context, Result, Store, directory};

/// Part of the store.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Kind {
    /// How many there are.
    pub count: u64,
    /// What they take on the disk, in bytes. Of views only the directories: their files are the objects.
    pub bytes: u64,
}

/// What the store takes on the disk.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Usage {
    /// File contents.
    pub objects: Kind,
    /// Manifests.
    pub trees: Kind,
    /// Views.
    pub views: Kind,
    /// Results kept by their inputs.
    pub memos: Kind,
    /// Downloads.
    pub fetch: Kind,
    /// The package indexes of channels.
    pub indexes: Kind,
    /// Tool caches.
    pub caches: Kind,
    /// Work in flight.
    pub tmp: Kind,
}

impl Usage {
    /// All of it, in bytes.
    pub fn bytes(&self) -> u64 {
        let kinds = [
            self.objects,
            self.trees,
            self.views,
            self.memos,
            self.fetch,
            self.indexes,
            self.caches,
            self.tmp,
        ];
        kinds.iter().map(|kind| kind.bytes).sum()
    }
}

impl Store {
    /// What each part takes.
    pub fn usage(&self) -> Result<Usage> {
        let mut usage = Usage {
            trees: self.usage_of(c"trees")?,
            views: self.usage_of(c"views")?,
            memos: self.usage_of(c"memo")?,
            fetch: self.usage_of(c"fetch")?,
            indexes: self.usage_of(c"indexes")?,
            caches: self.usage_of(c"caches")?,
            tmp: self.usage_of(c"tmp")?,
            objects: self.usage_of(c"objects")?,
        };
        usage.objects.count = 0;
        self.each_object(|_, _, _| {
            usage.objects.count += 1;
            Ok(())
        })?;
        Ok(usage)
    }

    pub(super) fn usage_of(&self, name: &CStr) -> Result<Kind> {
        let top = self.directory(name)?;
        let path = || self.path(&name.to_string_lossy());
        let names = directory::list(&top).context("list", path)?;
        let mut kind = Kind {
            count: names.len() as u64,
            bytes: 0,
        };
        add(top.as_fd(), name == c"views", &mut kind.bytes).context("list", path)?;
        Ok(kind)
    }
}

/// Adds what is below. Things that vanish meanwhile, or are closed to us, count nothing.
fn add(
    directory: BorrowedFd<'_>,
    only_directories: bool,
    bytes: &mut u64,
) -> rustix::io::Result<()> {
    for (name, kind) in directory::list(directory)? {
        if only_directories && kind != FileType::Directory {
            continue;
        }
        let Ok(stat) = statat(directory, &*name, AtFlags::SYMLINK_NOFOLLOW) else {
            continue;
        };
        *bytes += on_disk(&stat);
        if kind == FileType::Directory
            && let Ok(below) = directory::open(directory, &name)
        {
            add(below.as_fd(), only_directories, bytes)?;
        }
    }
    Ok(())
}

fn on_disk(stat: &Stat) -> u64 {
    // st_blocks counts 512 bytes whatever the file system's blocks are (stat(2)).
    u64::try_from(stat.st_blocks).unwrap_or(0) * 512
}
