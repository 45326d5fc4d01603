//! The directory of the machine that an environment may write to, at its own path inside; and which never become it.

use std::path::{Path, PathBuf};

/// Never bound, nor anything below them: the environment's own files and the kernel's.
const CLOSED: [&str; 16] = [
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/lib",
    "/lib32",
    "/lib64",
    "/proc",
    "/sbin",
    "/sys",
    "/usr/bin",
    "/usr/include",
    "/usr/lib",
    "/usr/libexec",
    "/usr/sbin",
    "/usr/share",
];
/// Never bound themselves, though projects may lie below them.
const WIDE: [&str; 17] = [
    "/",
    "/home",
    "/media",
    "/opt",
    "/root",
    "/run",
    "/tmp",
    "/usr",
    "/usr/local",
    "/usr/local/bin",
    "/usr/local/lib",
    "/usr/local/sbin",
    "/usr/src",
    "/var",
    "/var/cache",
    "/var/lib",
    "/var/tmp",
];

/// What an environment may write to on the machine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Workplace {
    /// This directory, at its own path.
    Bound(PathBuf),
    /// Nothing. The process starts in its home directory inside.
    Nothing,
}

/// A directory that is not put into an environment.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Shadow {
    /// It is the caller's home, or holds it.
    #[error("{} holds your home directory: all of it would be open to whatever runs inside", directory.display())]
    Home {
        /// The directory.
        directory: PathBuf,
    },
    /// It would hide or mix with the environment's own files.
    #[error("{} cannot be put into an environment: it would take the place of the environment's own files", directory.display())]
    System {
        /// The directory.
        directory: PathBuf,
    },
}

impl Workplace {
    /// A project's root, which has to be bound. Absolute and without symbolic links.
    pub fn project(root: &Path, home: &Path) -> Result<Self, Shadow> {
        refuse_shadow(root, home)?;
        Ok(Self::Bound(root.to_owned()))
    }

    /// The current directory, where that is a place to work in: `envd x` in `/`, in the home directory or among the system's
    /// files sees none of them.
    pub fn current(directory: &Path, home: &Path) -> Self {
        match refuse_shadow(directory, home) {
            Ok(()) => Self::Bound(directory.to_owned()),
            Err(_) => Self::Nothing,
        }
    }

    /// Whether `path` is seen inside through it.
    pub fn shows(&self, path: &Path) -> bool {
        matches!(self, Self::Bound(directory) if path.starts_with(directory))
    }
}

/// Why a directory of the machine must not be bound at its own path.
pub(super) fn refuse_shadow(directory: &Path, home: &Path) -> Result<(), Shadow> {
    if is_system(directory) {
        return Err(Shadow::System {
            directory: directory.to_owned(),
        });
    }
    if home.starts_with(directory) {
        return Err(Shadow::Home {
            directory: directory.to_owned(),
        });
    }
    Ok(())
}

/// Whether something at this path would take the place of the environment's own files.
pub(super) fn is_system(path: &Path) -> bool {
    CLOSED.iter().any(|closed| path.starts_with(closed))
        || WIDE.iter().any(|wide| path == Path::new(wide))
}

/// Where a process starts: the current directory if it lies in the project, else the project's root.
pub fn working_directory(current: &Path, project: &Path) -> PathBuf {
    match current.starts_with(project) {
        true => current.to_owned(),
        false => project.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: &str = "/home/ada";

    fn bound(directory: &str) -> bool {
        Workplace::project(Path::new(directory), Path::new(HOME)).is_ok()
    }

    #[test]
    fn projects_lie_where_people_put_them() {
        for good in [
            "/home/ada/src/app",
            "/srv",
            "/work",
            "/app",
            "/usr/src/app",
            "/opt/app",
            "/tmp/x",
            "/var/www/app",
            "/mnt/c/x",
        ] {
            assert!(bound(good), "{good}");
        }
    }

    #[test]
    fn neither_the_home_nor_the_system_becomes_writable_by_accident() {
        for bad in [
            "/",
            "/home",
            "/home/ada",
            "/usr",
            "/usr/lib/python3",
            "/etc",
            "/etc/nginx",
            "/dev/shm",
            "/proc/1",
            "/tmp",
            "/var",
            "/root",
        ] {
            assert!(!bound(bad), "{bad}");
            assert_eq!(
                Workplace::current(Path::new(bad), Path::new(HOME)),
                Workplace::Nothing
            );
        }
    }

    #[test]
    fn names_that_only_begin_alike_are_others() {
        for good in ["/home/adam/x", "/usr/library", "/bins", "/home/ada2"] {
            assert!(bound(good), "{good}");
        }
    }

    #[test]
    fn a_process_starts_where_its_caller_is_if_that_is_inside() {
        let start = |current| working_directory(Path::new(current), Path::new("/p"));
        assert_eq!(start("/p/src"), Path::new("/p/src"));
        assert_eq!(start("/elsewhere"), Path::new("/p"));
        assert_eq!(start("/p2"), Path::new("/p"));
    }
}
