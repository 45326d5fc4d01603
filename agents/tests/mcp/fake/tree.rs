//! Directories that play an environment's files.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

/// Copies everything below `from` to `to`, which is made.
pub fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            copy(&from, &to)?;
        } else {
            fs::copy(&from, &to)?;
        }
    }
    Ok(())
}

/// Every file below a directory by its path, with its content.
pub fn files(root: &Path) -> io::Result<BTreeMap<PathBuf, Vec<u8>>> {
    fn walk(root: &Path, below: &Path, found: &mut BTreeMap<PathBuf, Vec<u8>>) -> io::Result<()> {
        for entry in fs::read_dir(root.join(below))? {
            let entry = entry?;
            let path = below.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                walk(root, &path, found)?;
            } else {
                found.insert(path.clone(), fs::read(root.join(&path))?);
            }
        }
        Ok(())
    }
    let mut found = BTreeMap::new();
    walk(root, Path::new(""), &mut found)?;
    Ok(found)
}

/// What differs, by path: content before and after.
pub type Differences = BTreeMap<PathBuf, (Option<Vec<u8>>, Option<Vec<u8>>)>;

/// What differs between two directories.
pub fn differences(before: &Path, after: &Path) -> io::Result<Differences> {
    let (before, after) = (files(before)?, files(after)?);
    let mut found = Differences::new();
    for path in before.keys().chain(after.keys()) {
        let (old, new) = (before.get(path), after.get(path));
        if old != new {
            found.insert(path.clone(), (old.cloned(), new.cloned()));
        }
    }
    Ok(found)
}

/// A unified diff with whole files as hunks.
pub fn unified(differences: &Differences) -> String {
    let mut text = String::new();
    for (path, (old, new)) in differences {
        let path = path.display();
        text += &format!("--- a/{path}\n+++ b/{path}\n@@ @@\n");
        for (sign, content) in [('-', old), ('+', new)] {
            for line in String::from_utf8_lossy(content.as_deref().unwrap_or_default()).lines() {
                text += &format!("{sign}{line}\n");
            }
        }
    }
    text
}
