//! Files are written whole or not at all.

use std::{
    ffi::OsString,
    fs, io,
    io::Write as _,
    path::{Path, PathBuf},
};

/// A file that could not be written; it is as it was before.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// There is one already.
    #[error("{} exists already", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// A step failed.
    #[error("cannot write {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Writes a file that does not exist yet. Of two that try at once, one succeeds.
pub fn write_new(path: &Path, content: &str) -> Result<(), WriteError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::AlreadyExists => WriteError::Exists {
            path: path.to_owned(),
        },
        _ => WriteError::Io {
            path: path.to_owned(),
            source,
        },
    };
    let place = |temporary: &Path| match fs::hard_link(temporary, path) {
        // FAT has no hard links, NFS no RENAME_NOREPLACE; neither way ever replaces a name, dangling symbolic links included.
        Err(e)
            if matches!(
                e.kind(),
                io::ErrorKind::PermissionDenied | io::ErrorKind::Unsupported
            ) =>
        {
            rename_without_replacing(temporary, path)
        }
        linked => linked,
    };
    through_temporary(path, content, place).map_err(failed)
}

fn rename_without_replacing(from: &Path, to: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    Ok(renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE)?)
}

/// Writes a file over what is there, with the permissions that it has. A symbolic link stays one: its target is written.
pub fn write_over(path: &Path, content: &str) -> Result<(), WriteError> {
    let write = || {
        let target = match fs::canonicalize(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => path.to_owned(),
            other => other?,
        };
        let permissions = fs::metadata(&target).ok().map(|meta| meta.permissions());
        through_temporary(&target, content, |temporary| {
            if let Some(permissions) = permissions {
                fs::set_permissions(temporary, permissions)?;
            }
            fs::rename(temporary, &target)
        })
    };
    write().map_err(|source| WriteError::Io {
        path: path.to_owned(),
        source,
    })
}

/// Writes `content` beside `path` under a name of our own, lets `place` put it there and removes what is left.
fn through_temporary(
    path: &Path,
    content: &str,
    place: impl FnOnce(&Path) -> io::Result<()>,
) -> io::Result<()> {
    let mut name = OsString::from(".");
    name.push(path.file_name().ok_or(io::ErrorKind::InvalidInput)?);
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = path.with_file_name(name);
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&temporary)?;
    let written = file
        .write_all(content.as_bytes())
        .and_then(|()| file.sync_all())
        .and_then(|()| place(&temporary));
    // Gone already if it was renamed into place.
    let _ = fs::remove_file(&temporary);
    written
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn names(directory: &Path) -> Vec<OsString> {
        let mut names: Vec<_> = fs::read_dir(directory)
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_new_file_never_replaces_one_nor_a_dangling_link() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("envd.toml");
        write_new(&file, "mine").unwrap();
        assert!(matches!(
            write_new(&file, "other"),
            Err(WriteError::Exists { .. })
        ));
        assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
        let link = directory.path().join("link");
        symlink("/nonexistent/elsewhere", &link).unwrap();
        assert!(matches!(
            write_new(&link, "x"),
            Err(WriteError::Exists { .. })
        ));
        assert_eq!(
            names(directory.path()),
            ["envd.toml", "link"],
            "no temporary file is left"
        );
    }

    #[test]
    fn writing_over_keeps_permissions_and_links() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("real.toml");
        let link = directory.path().join("envd.toml");
        fs::write(&file, "old").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        symlink("real.toml", &link).unwrap();
        write_over(&link, "new").unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "new");
        assert_eq!(
            fs::metadata(&file).unwrap().permissions().mode() & 0o777,
            0o640
        );
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(names(directory.path()), ["envd.toml", "real.toml"]);
    }

    #[test]
    fn a_directory_that_refuses_leaves_everything_as_it_was() {
        let error = write_over(Path::new("/proc/envd.toml"), "x").unwrap_err();
        assert!(error.to_string().contains("/proc/envd.toml"));
    }
}
