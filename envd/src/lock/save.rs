//! Writing a lock so that there is never half of one.

use std::{
    ffi::{OsStr, OsString},
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use rustix::fs::{FlockOperation, flock};

use super::Lock;

/// The lock could not be written. What was there before still is.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    /// A step of the writing failed.
    #[error("cannot {step} {path}")]
    Step {
        /// What was being done.
        step: &'static str,
        /// To what.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The lock is a symbolic link to somewhere else: a project must not make envd write outside of it.
    #[error(
        "{path} is a symbolic link that leads out of its directory, to {target}, so it is not written. Replace the link \
         by the file"
    )]
    Leaves {
        /// The link.
        path: PathBuf,
        /// Where it leads.
        target: PathBuf,
    },
}

impl Lock {
    /// Writes the lock to `path`: whoever reads it sees the old text or the new one, also after a power cut. Keeps the
    /// mode of a file that is replaced. Does nothing if the text is there already.
    pub fn save(&self, path: &Path) -> Result<(), SaveError> {
        let text = self.to_text();
        let failed = |step, path: &Path| {
            let path = path.to_owned();
            move |source| SaveError::Step { step, path, source }
        };
        let path = &real_path(path)?;
        if fs::read(path).is_ok_and(|old| old == text.as_bytes()) {
            return Ok(());
        }
        let directory = parent(path);
        let name = path.file_name().unwrap_or(OsStr::new("envd.lock"));
        sweep(directory, name);
        let mode = fs::metadata(path).map(|old| old.mode() & 0o7777).ok();
        let (temporary, mut file) =
            create(directory, name).map_err(failed("create a file in", directory))?;
        let written = (|| {
            if let Some(mode) = mode {
                file.set_permissions(fs::Permissions::from_mode(mode))?;
            }
            file.write_all(text.as_bytes())?;
            file.sync_all()
        })()
        .map_err(failed("write", &temporary))
        .and_then(|()| fs::rename(&temporary, path).map_err(failed("replace", path)));
        if written.is_err() {
            // The first error is the one to tell.
            let _ = fs::remove_file(&temporary);
        }
        written?;
        File::open(directory)
            .and_then(|directory| directory.sync_all())
            .map_err(failed("make durable the directory", directory))
    }
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Where a symbolic link leads, if it stays below its own directory.
fn real_path(path: &Path) -> Result<PathBuf, SaveError> {
    let is_link = fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_symlink());
    if !is_link {
        return Ok(path.to_owned());
    }
    let failed = |source| SaveError::Step {
        step: "follow the symbolic link",
        path: path.to_owned(),
        source,
    };
    let home = fs::canonicalize(parent(path)).map_err(failed)?;
    let target = fs::canonicalize(path).map_err(failed)?;
    if target.starts_with(&home) {
        Ok(target)
    } else {
        Err(SaveError::Leaves {
            path: path.to_owned(),
            target,
        })
    }
}

fn prefix(name: &OsStr) -> OsString {
    let mut prefix = OsString::from(".");
    prefix.push(name);
    prefix.push(".new-");
    prefix
}

/// A file of our own beside the lock, held by flock for as long as it is open.
fn create(directory: &Path, name: &OsStr) -> io::Result<(PathBuf, File)> {
    // No name is used twice, so that a sweep that looked at an earlier file never removes a later one.
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    loop {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let mut own = prefix(name);
        own.push(format!("{}-{number}", std::process::id()));
        let path = directory.join(own);
        match OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o666)
            .open(&path)
        {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
            Ok(file) => {
                let held = flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok();
                // Someone's sweep may have come between the two calls: then the file has no name, or is about to lose it.
                if held && file.metadata()?.nlink() == 1 {
                    return Ok((path, file));
                }
            }
        }
    }
}

/// Removes what killed writers left. A living one holds its file by flock.
fn sweep(directory: &Path, name: &OsStr) {
    let prefix = prefix(name);
    let Ok(entries) = fs::read_dir(directory) else {
        return;
    };
    for entry in entries.flatten() {
        let ours = entry
            .file_name()
            .as_encoded_bytes()
            .starts_with(prefix.as_encoded_bytes());
        let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
        if !ours || !is_file {
            continue;
        }
        let Ok(file) = File::open(entry.path()) else {
            continue;
        };
        // Held until it is removed: its writer may be between making and locking it, and takes another name if it cannot.
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
            // Someone else's sweep may be faster; what cannot be removed does no harm.
            let _ = fs::remove_file(entry.path());
        }
        drop(file);
    }
}
