//! A project: the directory that holds an `envd.toml`, found by walking up from where the user is.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use crate::config::NAME;

/// The name of the file that `envd lock` writes.
pub const LOCK_NAME: &str = "envd.lock";

/// A directory with an `envd.toml`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Project {
    /// Absolute, without symbolic links: the path at which the project is seen inside, too.
    pub root: PathBuf,
}

/// A project that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ProjectError {
    /// There is none here or above.
    #[error("there is no {NAME} in {} or any directory above it", start.display())]
    NotFound {
        /// Where the search began.
        start: PathBuf,
    },
    /// The directory that was named holds none.
    #[error("there is no {NAME} in {}", directory.display())]
    NotHere {
        /// The directory.
        directory: PathBuf,
    },
    /// The directory cannot be looked at.
    #[error("cannot look for {NAME} in {}", directory.display())]
    Io {
        /// The directory.
        directory: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file found lies where everybody may write, and somebody else wrote it.
    #[error("{} was put into a directory that everybody may write to by another user (uid {owner}); use --project {} if you trust it", path.display(), path.parent().unwrap_or(path).display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
    },
}

impl Project {
    /// The nearest project at or above `start`, an absolute path. `uid` is that of the caller.
    pub fn find(start: &Path, uid: u32) -> Result<Self, ProjectError> {
        for directory in start.ancestors() {
            let path = directory.join(NAME);
            match fs::metadata(&path) {
                Ok(meta) if meta.is_file() => {
                    refuse_planted(&path, directory, &meta, uid)?;
                    return Self::of(directory);
                }
                // A directory of that name is not meant.
                Ok(_) => {}
                Err(e) if is_absent(&e) => {}
                // Not ours to look at: nothing of the user's is above.
                Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {}
                Err(source) => {
                    return Err(ProjectError::Io {
                        directory: directory.to_owned(),
                        source,
                    });
                }
            }
        }
        Err(ProjectError::NotFound {
            start: start.to_owned(),
        })
    }

    /// The project in `directory` itself, as `--project` names it.
    pub fn at(directory: &Path) -> Result<Self, ProjectError> {
        match fs::metadata(directory.join(NAME)) {
            Ok(meta) if meta.is_file() => Self::of(directory),
            Ok(_) => Err(ProjectError::NotHere {
                directory: directory.to_owned(),
            }),
            Err(e) if is_absent(&e) => Err(ProjectError::NotHere {
                directory: directory.to_owned(),
            }),
            Err(source) => Err(ProjectError::Io {
                directory: directory.to_owned(),
                source,
            }),
        }
    }

    fn of(directory: &Path) -> Result<Self, ProjectError> {
        match fs::canonicalize(directory) {
            Ok(root) => Ok(Self { root }),
            Err(source) => Err(ProjectError::Io {
                directory: directory.to_owned(),
                source,
            }),
        }
    }

    /// Its `envd.toml`.
    pub fn manifest(&self) -> PathBuf {
        self.root.join(NAME)
    }

    /// Its `envd.lock`.
    pub fn lock(&self) -> PathBuf {
        self.root.join(LOCK_NAME)
    }

    /// What to call it in a prompt: the directory's name.
    pub fn name(&self) -> String {
        name(&self.root)
    }
}

/// What to call the project in a directory in a prompt.
pub fn name(root: &Path) -> String {
    match root.file_name() {
        Some(name) => name.to_string_lossy().into_owned(),
        None => "root".to_owned(),
    }
}

/// A file in /tmp that somebody left there must not decide what runs below it.
fn refuse_planted(
    path: &Path,
    directory: &Path,
    file: &fs::Metadata,
    uid: u32,
) -> Result<(), ProjectError> {
    let trusted = |owner: u32| owner == uid || owner == 0;
    let open_to_all = fs::metadata(directory).is_ok_and(|meta| meta.mode() & 0o002 != 0);
    if open_to_all && !trusted(file.uid()) {
        return Err(ProjectError::Foreign {
            path: path.to_owned(),
            owner: file.uid(),
        });
    }
    Ok(())
}

fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn uid() -> u32 {
        rustix::process::getuid().as_raw()
    }

    #[test]
    fn the_nearest_file_above_is_found_and_links_are_resolved() {
        let directory = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(directory.path()).unwrap();
        fs::create_dir_all(root.join("a/b/c")).unwrap();
        fs::write(root.join("a/envd.toml"), "").unwrap();
        symlink(root.join("a/b"), root.join("link")).unwrap();
        assert_eq!(
            Project::find(&root.join("a/b/c"), uid()).unwrap().root,
            root.join("a")
        );
        assert_eq!(
            Project::find(&root.join("a"), uid()).unwrap().lock(),
            root.join("a/envd.lock")
        );
        fs::create_dir(root.join("a/b/envd.toml")).unwrap();
        assert_eq!(
            Project::find(&root.join("a/b"), uid()).unwrap().root,
            root.join("a"),
            "a directory is no file"
        );
    }

    #[test]
    fn none_at_all_names_where_the_search_began() {
        let directory = tempfile::tempdir().unwrap();
        let error = Project::at(directory.path()).unwrap_err();
        assert!(matches!(error, ProjectError::NotHere { .. }));
        let error = Project::find(Path::new("/proc/self"), uid()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "there is no envd.toml in /proc/self or any directory above it"
        );
    }

    #[test]
    fn a_file_that_another_user_left_in_an_open_directory_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o1777)).unwrap();
        fs::write(directory.path().join("envd.toml"), "").unwrap();
        assert!(
            Project::find(directory.path(), uid()).is_ok(),
            "one's own is trusted"
        );
        // An ordinary user cannot give a file away, but can look at its own with other eyes.
        let looking = match uid() {
            0 => {
                let path = directory.path().join("envd.toml");
                std::os::unix::fs::chown(path, Some(4242), None).unwrap();
                0
            }
            own => own + 1,
        };
        let found = Project::find(directory.path(), looking);
        assert!(
            matches!(found, Err(ProjectError::Foreign { .. })),
            "{found:?}"
        );
    }
}
