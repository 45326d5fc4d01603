//! The one file that all shims of a directory are names of, and how to tell it from other people's files.

use std::{
    collections::{BTreeMap, HashMap},
    ffi::{OsStr, OsString},
    fs,
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use envd_trampoline::SHIM;
use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::{
    error::{ShimError, Step as _},
    plan::{Found, Plan},
};

/// What every version of the shim says when it is lost, and nothing else in the world does.
const MARK: &[u8] = b"nothing says which project this shim is of";
/// Bytes of a shim at most: larger files are not even read.
const LARGEST: u64 = 1 << 20;

/// What a file is.
pub(super) fn kind(path: &Path) -> io::Result<Found> {
    let meta = fs::symlink_metadata(path)?;
    if !meta.is_file() || meta.len() > LARGEST {
        return Ok(Found::Foreign);
    }
    let bytes = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(Found::Foreign),
        read => read?,
    };
    Ok(if bytes == SHIM && meta.mode() & 0o111 != 0 {
        Found::Current
    } else if bytes.starts_with(b"\x7fELF") && bytes.windows(MARK.len()).any(|part| part == MARK) {
        Found::Old
    } else {
        Found::Foreign
    })
}

/// What a directory holds, by name. Each inode is read once.
pub(super) fn scan(directory: &Path) -> Result<BTreeMap<OsString, Found>, ShimError> {
    let mut known = HashMap::new();
    let mut all = BTreeMap::new();
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(all),
        entries => entries.step("list", directory)?,
    };
    for entry in entries {
        let entry = entry.step("list", directory)?;
        let path = entry.path();
        let looked = || -> io::Result<Found> {
            let meta = fs::symlink_metadata(&path)?;
            let inode = (meta.dev(), meta.ino());
            if let Some(found) = known.get(&inode) {
                return Ok(*found);
            }
            let found = kind(&path)?;
            known.insert(inode, found);
            Ok(found)
        }();
        match looked {
            // Somebody removed it meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            looked => all.insert(entry.file_name(), looked.step("look at", &path)?),
        };
    }
    Ok(all)
}

/// Writes the file, in the place of an older one.
pub(super) fn write(path: &Path) -> Result<(), ShimError> {
    match kind(path) {
        Ok(Found::Current) => return Ok(()),
        Ok(Found::Foreign) => {
            return Err(ShimError::Foreign {
                path: path.to_owned(),
            });
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).step("look at", path);
        }
        _ => {}
    }
    let temporary = temporary(path);
    let written = copy(&temporary).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // The first error is the one to tell.
        let _ = fs::remove_file(&temporary);
    }
    written.step("write", path)
}

/// Does what the plan says in a directory. `file` is the shim that names are made of.
pub(super) fn apply(plan: &Plan, directory: &Path, file: &Path) -> Result<(), ShimError> {
    let mut source = file.to_owned();
    for name in &plan.make {
        let path = directory.join(name);
        let made = match fs::hard_link(&source, &path) {
            // Another envd is at the same work.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => match kind(&path) {
                Ok(Found::Current | Found::Old) => Ok(()),
                _ => Err(error),
            },
            Err(error) if must_be_copied(&error) => {
                let copied = copied(&path, &NOT_OVER);
                // Of this one there can be names in this directory.
                source.clone_from(&path);
                copied
            }
            linked => linked,
        };
        made.step("make the shim", &path)?;
    }
    for name in &plan.replace {
        let path = directory.join(name);
        let temporary = temporary(&path);
        let replaced = match fs::hard_link(&source, &temporary) {
            Err(error) if must_be_copied(&error) => {
                let copied = copied(&path, &OVER);
                source.clone_from(&path);
                copied
            }
            linked => linked.and_then(|()| fs::rename(&temporary, &path)),
        };
        if replaced.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        replaced.step("replace the shim", &path)?;
    }
    for name in &plan.remove {
        let path = directory.join(name);
        absent_is_fine(fs::remove_file(&path)).step("remove the shim", &path)?;
    }
    Ok(())
}

/// Whether there can be no link, but a file of its own: another file system, one without links, too many.
fn must_be_copied(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::CrossesDevices
            | io::ErrorKind::TooManyLinks
            | io::ErrorKind::PermissionDenied
            | io::ErrorKind::Unsupported
    )
}

const OVER: RenameFlags = RenameFlags::empty();
const NOT_OVER: RenameFlags = RenameFlags::NOREPLACE;

fn copied(path: &Path, flags: &RenameFlags) -> io::Result<()> {
    let temporary = temporary(path);
    let placed =
        copy(&temporary).and_then(|()| Ok(renameat_with(CWD, &temporary, CWD, path, *flags)?));
    if placed.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    placed
}

/// A new file with the shim in it.
fn copy(path: &Path) -> io::Result<()> {
    // Of a process that had this one's number.
    absent_is_fine(fs::remove_file(path))?;
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o755)
        .open(path)?;
    file.write_all(SHIM)?;
    // Whatever the umask was.
    file.set_permissions(fs::Permissions::from_mode(0o755))
}

/// A name of our own beside `path`.
pub(super) fn temporary(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or(OsStr::new("shim")));
    name.push(format!(".{}.tmp", std::process::id()));
    path.with_file_name(name)
}

/// Whether it is a name that [`temporary`] makes, for a file of this name.
pub(super) fn is_temporary(name: &OsStr, of: &str) -> bool {
    let number = name.to_str().and_then(|name| {
        name.strip_prefix('.')?
            .strip_prefix(of)?
            .strip_prefix('.')?
            .strip_suffix(".tmp")
    });
    number.is_some_and(|number| number.parse::<u32>().is_ok())
}

/// What is to be removed may be gone.
pub(super) fn absent_is_fine(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Were it not in there, envd would take its own shims for somebody else's after an update of itself.
    #[test]
    fn the_shim_has_the_mark() {
        assert!(SHIM.windows(MARK.len()).any(|part| part == MARK));
        assert!((SHIM.len() as u64) < LARGEST);
    }

    #[test]
    fn ours_old_ones_and_other_peoples_are_told_apart() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        write(&at("shim")).unwrap();
        fs::hard_link(at("shim"), at("link")).unwrap();
        let mut old = SHIM.to_vec();
        old.push(0);
        fs::write(at("old"), &old).unwrap();
        fs::write(at("text"), MARK).unwrap();
        fs::write(at("program"), b"\x7fELF and more").unwrap();
        std::os::unix::fs::symlink("shim", at("symbolic")).unwrap();
        fs::create_dir(at("directory")).unwrap();
        let found = scan(directory.path()).unwrap();
        let of = |wanted| -> Vec<&str> {
            let names = found.iter().filter(|(_, found)| **found == wanted);
            names.map(|(name, _)| name.to_str().unwrap()).collect()
        };
        assert_eq!(of(Found::Current), ["link", "shim"]);
        assert_eq!(of(Found::Old), ["old"]);
        assert_eq!(
            of(Found::Foreign),
            ["directory", "program", "symbolic", "text"]
        );
        assert!(scan(&at("absent")).unwrap().is_empty());
    }

    #[test]
    fn what_a_killed_envd_left_is_known_by_its_name() {
        let path = temporary(Path::new("/p/.envd/shim"));
        assert!(is_temporary(path.file_name().unwrap(), "shim"));
        for other in ["shim", ".shim.tmp", ".shim.x.tmp", ".envd.12.tmp"] {
            assert!(!is_temporary(OsStr::new(other), "shim"), "{other}");
        }
    }

    #[test]
    fn a_file_of_somebody_else_is_never_written_over() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("shim");
        fs::write(&path, "mine").unwrap();
        assert!(matches!(write(&path), Err(ShimError::Foreign { .. })));
        assert_eq!(fs::read(&path).unwrap(), b"mine");
    }
}
