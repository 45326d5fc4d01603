//! A download on disk: `<digest>.part`, locked by whoever writes it, renamed to `<digest>` once it is whole.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use envd_store::{Digest, Hasher};

use super::{Download, FetchError};

/// How often a lock that another process holds is tried again.
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// What came of asking for the part file.
pub(super) enum Claim {
    /// Someone finished it in the meantime.
    Done,
    /// It is ours, with what an earlier attempt left in it.
    Ours(Box<Part>),
}

/// The locked part file. Dropping it releases the lock and leaves the bytes for a later attempt.
pub(super) struct Part {
    file: File,
    path: PathBuf,
    directory: PathBuf,
    target: PathBuf,
    what: String,
    size: u64,
    length: u64,
    hasher: Hasher,
    /// Whether what is in it came by more than one answer, so that a wrong digest may be the fault of the seam.
    stitched: bool,
}

/// Whether the finished file is there. Its bytes were verified before it got its name, and reached the disk before.
pub(super) fn is_done(target: &Path, size: u64) -> Result<bool, FetchError> {
    match fs::symlink_metadata(target) {
        Ok(found) if found.is_file() && found.len() == size => Ok(true),
        // Only something else than a download can have another size; it is replaced.
        Ok(_) => Ok(false),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(FetchError::Disk {
            step: "look at",
            path: target.to_owned(),
            source,
        }),
    }
}

impl Part {
    /// Waits for the part file's lock.
    pub(super) async fn claim(wanted: &Download, directory: &Path) -> Result<Claim, FetchError> {
        let target = directory.join(wanted.sha256.to_string());
        let path = directory.join(format!("{}.part", wanted.sha256));
        let failed = |step| {
            let path = path.clone();
            move |source| FetchError::Disk { step, path, source }
        };
        fs::create_dir_all(directory).map_err(|source| FetchError::Disk {
            step: "make the directory",
            path: directory.to_owned(),
            source,
        })?;
        let file = loop {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)
                .map_err(failed("open"))?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    tokio::time::sleep(LOCK_PAUSE).await;
                    continue;
                }
                Err(TryLockError::Error(e)) => return Err(failed("lock")(e)),
            }
            // The last owner may have renamed or removed what was opened here: then the lock is on no name at all.
            let ours = file.metadata().map_err(failed("look at"))?.ino();
            let named = fs::symlink_metadata(&path).is_ok_and(|named| named.ino() == ours);
            if is_done(&target, wanted.size)? {
                if named {
                    remove(&path);
                }
                return Ok(Claim::Done);
            }
            if named {
                break file;
            }
        };
        let mut part = Self {
            file,
            path,
            directory: directory.to_owned(),
            target,
            what: wanted.what.clone(),
            size: wanted.size,
            length: 0,
            hasher: Hasher::default(),
            stitched: false,
        };
        // Re-reading what is there runs at 1.7 GB/s, but may still be a large file.
        let part = tokio::task::spawn_blocking(move || part.take_over().map(|()| part))
            .await
            .map_err(|e| FetchError::Disk {
                step: "read what is left of a download in",
                path: directory.to_owned(),
                source: io::Error::other(e),
            })??;
        Ok(Claim::Ours(Box::new(part)))
    }

    /// Takes in what an earlier attempt left.
    fn take_over(&mut self) -> Result<(), FetchError> {
        let mut buffer = vec![0; 128 << 10];
        loop {
            match self.file.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => {
                    self.hasher.update(&buffer[..read]);
                    self.length += read as u64;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(self.failed("read", source)),
            }
            if self.length > self.size {
                return self.restart();
            }
        }
        self.stitched = self.length > 0;
        Ok(())
    }

    pub(super) fn length(&self) -> u64 {
        self.length
    }

    pub(super) fn missing(&self) -> u64 {
        self.size - self.length
    }

    pub(super) fn is_stitched(&self) -> bool {
        self.stitched
    }

    /// Notes that what comes next is from another answer than what is there.
    pub(super) fn continue_with_another_answer(&mut self) {
        self.stitched |= self.length > 0;
    }

    /// Writes what arrived, which is no more than what is missing.
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), FetchError> {
        if let Err(e) = self.file.write_all(bytes) {
            return Err(self.write_failed(e));
        }
        self.hasher.update(bytes);
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Throws away what is there.
    pub(super) fn restart(&mut self) -> Result<(), FetchError> {
        let emptied = self
            .file
            .set_len(0)
            .and_then(|()| self.file.seek(SeekFrom::Start(0)));
        emptied.map_err(|e| self.failed("empty", e))?;
        self.length = 0;
        self.hasher = Hasher::default();
        self.stitched = false;
        Ok(())
    }

    /// The digest of what is there.
    pub(super) fn digest(&self) -> Digest {
        self.hasher.clone().finish().0
    }

    /// Gives the whole, verified file its name.
    pub(super) async fn finish(self) -> Result<PathBuf, FetchError> {
        let directory = self.directory.clone();
        // Without this a power cut could leave the name with other bytes, and nobody would look again.
        tokio::task::spawn_blocking(move || match self.file.sync_data() {
            Err(e) => Err(self.write_failed(e)),
            Ok(()) => match fs::rename(&self.path, &self.target) {
                Err(e) => Err(self.failed("name the finished download", e)),
                Ok(()) => Ok(self.target),
            },
        })
        .await
        .map_err(|e| FetchError::Disk {
            step: "finish a download in",
            path: directory,
            source: io::Error::other(e),
        })?
    }

    /// Removes what is there, as nothing good can come of it.
    pub(super) fn discard(&self) {
        remove(&self.path);
    }

    fn write_failed(&self, source: io::Error) -> FetchError {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                // Half a download is of less use than the room it takes.
                self.discard();
                FetchError::DiskFull {
                    what: self.what.clone(),
                    directory: self.directory.clone(),
                    needed: self.missing(),
                }
            }
            _ => self.failed("write", source),
        }
    }

    fn failed(&self, step: &'static str, source: io::Error) -> FetchError {
        FetchError::Disk {
            step,
            path: self.path.clone(),
            source,
        }
    }
}

/// A leftover that cannot be removed does no harm: the next attempt finds it, and gc sweeps it.
fn remove(path: &Path) {
    let _ = fs::remove_file(path);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_says_so_and_gives_back_its_room() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.part");
        fs::write(&path, "what came so far").unwrap();
        let mut part = Part {
            // The kernel's own full disk: every write fails with ENOSPC.
            file: OpenOptions::new().write(true).open("/dev/full").unwrap(),
            target: directory.path().join("x"),
            directory: directory.path().to_owned(),
            path,
            what: "thing 1.0".to_owned(),
            size: 1000,
            length: 0,
            hasher: Hasher::default(),
            stitched: false,
        };
        let error = part.append(&[0; 900]).unwrap_err();
        assert!(matches!(error, FetchError::DiskFull { needed: 1000, .. }));
        let message = error.to_string();
        for word in ["full", "thing 1.0", "1000", "envd gc"] {
            assert!(message.contains(word), "{message}");
        }
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
