//! Why things are kept.

use std::{
    ffi::{CString, OsString},
    os::{
        fd::AsFd,
        unix::ffi::{OsStrExt, OsStringExt},
    },
    path::PathBuf,
};

use rustix::{
    fs::{AtFlags, FlockOperation, Mode, OFlags, fdatasync, openat, renameat, unlinkat},
    io::Errno,
};
use serde::{Deserialize, Serialize};

use super::{Context, Result, Session, Store, StoreError, directory, read_file, write_all};
use crate::{
    Digest, TreeId,
    escape::{escape, unescape},
};

/// What a root stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RootKind {
    /// The environment of a project.
    Project,
    /// What a project's environment, or a machine, was at some time.
    Generation,
    /// Something lent for a time.
    Lease,
    /// A tool run from no project.
    Tool,
}

/// A reason to keep trees and downloads.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Root {
    /// Its file name in `roots/`.
    #[serde(skip)]
    pub name: String,
    /// What it stands for.
    pub kind: RootKind,
    /// The project's directory. When it is missing, the root is kept and reported as unreachable.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "path_text")]
    pub path: Option<PathBuf>,
    /// The digest of the lock file it was realised from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock: Option<Digest>,
    /// Trees to keep, with their content and their views.
    #[serde(default)]
    pub trees: Vec<TreeId>,
    /// Downloads to keep.
    #[serde(default)]
    pub fetch: Vec<Digest>,
    /// When it was made, in seconds after the epoch.
    pub created: u64,
}

/// A root and whether what it stands for is still there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RootState {
    /// The root.
    pub root: Root,
    /// Its path cannot be seen just now: deleted, renamed, unmounted, or not ours to read.
    pub unreachable: bool,
}

impl Session {
    /// Writes a root, atomically and durably, in place of any of the same name.
    pub fn set_root(&self, root: &Root) -> Result<()> {
        let to = format!("roots/{}", file_name(&root.name)?);
        let path = || self.store().path(&to);
        let mut text = serde_json::to_vec_pretty(root)
            .map_err(std::io::Error::from)
            .context("write", path)?;
        text.push(b'\n');
        let name = CString::new(to.as_str()).unwrap_or_default();
        if read_file(self.store().fd(), &name).is_ok_and(|before| before == text) {
            return Ok(());
        }
        let new = self.fresh("root");
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file =
            openat(self.fd(), &*new, flags, Mode::RUSR | Mode::WUSR).context("create", path)?;
        write_all(file.as_fd(), &text).context("write", path)?;
        fdatasync(&file).context("write", path)?;
        renameat(self.fd(), &*new, self.store().fd(), &*name).context("write", path)
    }
}

impl Store {
    /// The root of this name.
    pub fn root(&self, name: &str) -> Result<Option<Root>> {
        let below = format!("roots/{}", file_name(name)?);
        let path = || self.path(&below);
        let text = match read_file(self.fd(), &CString::new(below.as_str()).unwrap_or_default()) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            text => text.context("read the root", path)?,
        };
        let mut root: Root =
            serde_json::from_slice(&text).map_err(|source| StoreError::RootDamaged {
                path: path(),
                source,
            })?;
        name.clone_into(&mut root.name);
        Ok(Some(root))
    }

    /// All roots, by name. One that cannot be read is an error, since what it keeps is unknown.
    pub fn roots(&self) -> Result<Vec<RootState>> {
        let directory = self.directory(c"roots")?;
        let mut names: Vec<String> = directory::list(&directory)
            .context("list", || self.path("roots"))?
            .into_iter()
            .map(|(name, _)| name.to_string_lossy().into_owned())
            .filter(|name| file_name(name).is_ok())
            .collect();
        names.sort_unstable();
        let roots = names.iter().filter_map(|name| self.root(name).transpose());
        let state = |root: Root| RootState {
            unreachable: root.path.as_ref().is_some_and(|path| !path.exists()),
            root,
        };
        roots.map(|root| root.map(state)).collect()
    }

    /// Removes a root; `false` when there was none. What only it kept goes with the next gc.
    pub fn remove_root(&self, name: &str) -> Result<bool> {
        let _writers = self.lock(FlockOperation::LockShared)?;
        self.unlink_root(name)
    }

    /// The same for whoever has the store's lock.
    pub(super) fn unlink_root(&self, name: &str) -> Result<bool> {
        let below = format!("roots/{}", file_name(name)?);
        match unlinkat(self.fd(), &*below, AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(error).context("remove the root", || self.path(&below)),
        }
    }
}

fn file_name(name: &str) -> Result<&str> {
    let fine = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    if (1..=128).contains(&name.len()) && !name.starts_with('.') && name.bytes().all(fine) {
        Ok(name)
    } else {
        Err(StoreError::RootName {
            name: name.to_owned(),
        })
    }
}

/// Paths as JSON strings: UTF-8 as it is but for `%`, anything else percent-escaped.
mod path_text {
    use serde::{Deserializer, Serializer, de::Error as _};

    use super::*;

    pub(super) fn serialize<S: Serializer>(
        path: &Option<PathBuf>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let bytes = path
            .as_deref()
            .map_or(&b""[..], |path| path.as_os_str().as_bytes());
        match std::str::from_utf8(bytes) {
            Ok(text) => serializer.serialize_str(&text.replace('%', "%25")),
            Err(_) => {
                let mut text = Vec::new();
                escape(bytes, b"", &mut text);
                serializer.serialize_str(&String::from_utf8_lossy(&text))
            }
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<PathBuf>, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes =
            unescape(text.as_bytes()).ok_or_else(|| D::Error::custom("broken escape in a path"))?;
        Ok(Some(OsString::from_vec(bytes).into()))
    }
}
