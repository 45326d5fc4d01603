//! What a session has written among a repository's objects, copied: files whose names are those of objects and packs, nothing
//! else. Whether they are what their names say is git's to find out.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use envd_store::TreePath;

use super::{super::beneath::Directory, CommitsError, Written, failed, is_hexadecimal};

/// Files that are copied.
const MOST_OBJECTS: usize = 500_000;
/// Bytes of all of them.
pub(super) const MOST_BYTES: u64 = 4 << 30;

/// Copies them from all layers into the directory of objects `to`.
pub(super) fn copy(written: &[Written<'_>], to: &Path) -> Result<(), CommitsError> {
    let mut copying = Copying {
        to,
        files: 0,
        bytes: 0,
    };
    let mut written = written.iter();
    written.try_for_each(|written| copying.all(written))
}

/// A path of letters, digits and points, of which there is always one.
fn path(bytes: &[u8]) -> Result<TreePath, CommitsError> {
    TreePath::new(bytes).map_err(|error| failed("name a directory")(io::Error::other(error)))
}

struct Copying<'a> {
    to: &'a Path,
    files: usize,
    bytes: u64,
}

impl Copying<'_> {
    fn all(&mut self, written: &Written<'_>) -> Result<(), CommitsError> {
        let Written { layers, objects } = written;
        let mut is_there = false;
        for upper in &layers.uppers {
            // A link or a file leads nowhere; a layer may have none.
            let Ok(directory) = upper.below(Some(objects)) else {
                continue;
            };
            is_there = true;
            let mut below = Vec::new();
            directory
                .names(|name| -> Result<(), rustix::io::Errno> {
                    let name = name.to_bytes();
                    if name == b"pack" || (name.len() == 2 && is_hexadecimal(name)) {
                        below.push(name.to_vec());
                    }
                    Ok(())
                })
                .map_err(|error| failed("list the environment's objects")(error.into()))?;
            for name in below {
                if let Ok(inner) = directory.below(Some(&path(&name)?)) {
                    self.directory(&name, &inner)?;
                }
            }
        }
        // A session that has written no object may still have put something else in their place.
        let whole = layers.uppers.iter().all(|upper| {
            let found = upper.look(objects.as_bytes());
            let kind = found.ok().flatten().map(|found| found.kind());
            kind.is_none_or(|kind| kind.is_dir())
        });
        match is_there || whole {
            true => Ok(()),
            false => Err(CommitsError::NoObjects),
        }
    }

    fn directory(&mut self, name: &[u8], from: &Directory) -> Result<(), CommitsError> {
        let step = "copy the environment's objects";
        let is_pack = name == b"pack";
        let name = String::from_utf8_lossy(name).into_owned();
        let to = self.to.join(&name);
        fs::create_dir_all(&to).map_err(failed(step))?;
        let mut files = Vec::new();
        from.names(|name| -> Result<(), rustix::io::Errno> {
            let bytes = name.to_bytes();
            let named_so = match is_pack {
                true => bytes
                    .strip_prefix(b"pack-")
                    .and_then(|rest| rest.strip_suffix(b".pack"))
                    .is_some_and(|digits| {
                        is_hexadecimal(digits) && matches!(digits.len(), 40 | 64)
                    }),
                false => matches!(bytes.len(), 38 | 62) && is_hexadecimal(bytes),
            };
            if named_so {
                files.push(String::from_utf8_lossy(bytes).into_owned());
            }
            Ok(())
        })
        .map_err(|error| failed(step)(error.into()))?;
        for file in files {
            let found = from.look(file.as_bytes());
            let found = found.map_err(|error| failed(step)(error.into()))?;
            // Gone meanwhile, or no file: then it is no object.
            let Some(Ok(source)) = found.map(|found| found.read()) else {
                continue;
            };
            self.file(source, &to.join(file))?;
        }
        Ok(())
    }

    fn file(&mut self, source: File, to: &Path) -> Result<(), CommitsError> {
        let step = "copy an object of the environment";
        self.files += 1;
        if self.files > MOST_OBJECTS {
            return Err(CommitsError::TooMany {
                what: "new objects",
                limit: MOST_OBJECTS as u64,
            });
        }
        let made = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(to);
        let mut target = match made {
            Ok(target) => target,
            // A layer above has it.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
            Err(error) => return Err(failed(step)(error)),
        };
        let room = MOST_BYTES - self.bytes;
        let copied = io::copy(&mut source.take(room + 1), &mut target).map_err(failed(step))?;
        if copied > room {
            return Err(CommitsError::TooMany {
                what: "bytes of new objects",
                limit: MOST_BYTES,
            });
        }
        self.bytes += copied;
        target.flush().map_err(failed(step))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::{super::super::Layers, *};

    fn copy(layers: &Layers, to: &Path) -> Result<(), CommitsError> {
        let objects = path(b".git/objects").unwrap();
        super::copy(&[Written { layers, objects }], to)
    }

    /// An attacker would have us read the owner's files, wait for ever, or hand git a file of their choice.
    #[test]
    fn only_files_that_are_named_as_objects_are_copied() {
        let place = tempfile::tempdir().unwrap();
        let (upper, project) = (place.path().join("upper"), place.path().join("project"));
        let (objects, outside) = (upper.join(".git/objects"), place.path().join("outside"));
        for directory in ["ab", "pack", "info", "0123", "AB"] {
            fs::create_dir_all(objects.join(directory)).unwrap();
        }
        fs::create_dir_all(&outside).unwrap();
        fs::create_dir(&project).unwrap();
        let (one, two, three) = ("1".repeat(38), "2".repeat(38), "3".repeat(38));
        let pack = format!("pack-{}", "4".repeat(40));
        fs::write(outside.join(&one), "secret").unwrap();
        fs::write(objects.join("ab").join(&one), "object").unwrap();
        symlink(outside.join(&one), objects.join("ab").join(&two)).unwrap();
        let fifo = objects.join("ab").join(&three);
        mknodat(CWD, &fifo, FileType::Fifo, Mode::RWXU, 0).unwrap();
        symlink(&outside, objects.join("cd")).unwrap();
        for name in [
            "ab/tmp_obj_x",
            "info/alternates",
            "info/packs",
            "pack/pack-x.pack",
        ] {
            fs::write(objects.join(name), "x").unwrap();
        }
        for ending in ["pack", "idx", "keep", "promisor"] {
            fs::write(objects.join(format!("pack/{pack}.{ending}")), ending).unwrap();
        }
        for name in ["0123", "AB"] {
            fs::write(objects.join(name).join(&one), "x").unwrap();
        }
        let layers = Layers::open([&upper], &project).unwrap();
        let to = place.path().join("to");
        copy(&layers, &to).unwrap();
        let mut copied = Vec::new();
        for directory in fs::read_dir(&to).unwrap() {
            for file in fs::read_dir(directory.unwrap().path()).unwrap() {
                let path = file.unwrap().path();
                let text = fs::read_to_string(&path).unwrap();
                copied.push((path.strip_prefix(&to).unwrap().to_owned(), text));
            }
        }
        copied.sort();
        let expected = [
            (format!("ab/{one}").into(), "object".to_owned()),
            (format!("pack/{pack}.pack").into(), "pack".to_owned()),
        ];
        assert_eq!(copied, expected);

        fs::rename(&objects, upper.join("elsewhere")).unwrap();
        symlink(upper.join("elsewhere"), &objects).unwrap();
        let layers = Layers::open([&upper], &project).unwrap();
        let error = copy(&layers, &place.path().join("more")).unwrap_err();
        assert!(matches!(error, CommitsError::NoObjects), "{error}");
    }
}
