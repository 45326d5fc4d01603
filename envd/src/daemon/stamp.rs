//! Whether what an environment was made from is still what is there: a few stat(2) instead of reading anything.

use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, statat};

/// What is compared of a file: another one in its place, or other bytes in it, show.
type Mark = (u64, u64, u64, i64, u64, i64, u64);

/// What a set of files was like.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stamp(Vec<Option<Mark>>);

/// The files that an environment of a project depends on.
#[derive(Debug)]
pub struct Watched {
    files: Vec<PathBuf>,
    /// Only that they are the same ones: what is in them changes all the time.
    places: Vec<PathBuf>,
}

impl Watched {
    /// What the environments of the project at `root` depend on.
    ///
    /// Environments that wait to be used have bound what was there when they were made: name servers of another network
    /// or a project that was moved away must not be found in them.
    pub fn of(root: &Path) -> Self {
        let files = ["envd.toml", "envd.lock", ".git"].map(|name| root.join(name));
        let machine = [
            "/etc/hosts",
            "/etc/resolv.conf",
            "/etc/localtime",
            "/etc/passwd",
            "/etc/group",
        ];
        Self {
            files: files
                .into_iter()
                .chain(machine.map(PathBuf::from))
                .collect(),
            places: vec![root.to_owned()],
        }
    }

    /// How they are now.
    pub fn stamp(&self) -> Stamp {
        let files = self.files.iter().map(|path| mark(path));
        let places = self.places.iter().map(|path| identity(path));
        Stamp(files.chain(places).collect())
    }
}

/// Whether directories that were bound are still the ones with their names.
#[derive(PartialEq, Eq, Debug)]
pub struct Identities(Vec<Option<Mark>>);

impl Identities {
    /// Of these.
    pub fn of<'p>(paths: impl Iterator<Item = &'p Path>) -> Self {
        Self(paths.map(identity).collect())
    }
}

fn mark(path: &Path) -> Option<Mark> {
    let stat = statat(CWD, path, AtFlags::empty()).ok()?;
    Some((
        stat.st_dev,
        stat.st_ino,
        stat.st_size as u64,
        stat.st_mtime,
        stat.st_mtime_nsec,
        stat.st_ctime,
        stat.st_ctime_nsec,
    ))
}

fn identity(path: &Path) -> Option<Mark> {
    let stat = statat(CWD, path, AtFlags::empty()).ok()?;
    Some((stat.st_dev, stat.st_ino, 0, 0, 0, 0, 0))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn whatever_happens_to_the_lock_or_the_manifest_shows() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        let watched = Watched::of(root);
        let mut stamps = vec![watched.stamp()];
        assert_eq!(stamps[0], watched.stamp());
        let mut step = |change: &dyn Fn()| {
            change();
            let now = watched.stamp();
            assert!(!stamps.contains(&now));
            stamps.push(now);
        };
        step(&|| fs::write(root.join("envd.toml"), "[env]").unwrap());
        step(&|| fs::write(root.join("envd.lock"), "a").unwrap());
        step(&|| fs::write(root.join("envd.lock"), "bb").unwrap());
        step(&|| {
            fs::write(root.join("new"), "cc").unwrap();
            fs::rename(root.join("new"), root.join("envd.lock")).unwrap();
        });
        step(&|| fs::remove_file(root.join("envd.toml")).unwrap());
    }

    #[test]
    fn what_is_written_beside_them_does_not_show() {
        let directory = tempfile::tempdir().unwrap();
        let watched = Watched::of(directory.path());
        let before = watched.stamp();
        fs::write(directory.path().join("main.c"), "int x;").unwrap();
        assert_eq!(watched.stamp(), before);
    }
}
