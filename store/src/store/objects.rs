//! File contents, named by digest and permission bits.

use std::{
    ffi::{CStr, CString},
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::PathBuf,
    sync::OnceLock,
};

use rustix::{
    fs::{
        AtFlags, Mode, OFlags, RenameFlags, Timespec, Timestamps, mkdirat, openat, renameat_with,
        statat, unlinkat,
    },
    io::Errno,
};

use super::{Context, Result, Session, Store, write_all};
use crate::{Digest, Hasher, escape::digest_bytes, tree::file_mode_on_disk};

/// The time of everything in the store: 1 second after the epoch, since some tools take 0 for "unknown".
pub(crate) const TIMES: Timestamps = Timestamps {
    last_access: Timespec {
        tv_sec: 1,
        tv_nsec: 0,
    },
    last_modification: Timespec {
        tv_sec: 1,
        tv_nsec: 0,
    },
};

/// Which object: a content with permission bits as on disk.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct ObjectName {
    pub(crate) digest: Digest,
    pub(crate) mode: u16,
}

/// An object's path below `objects/`: `ab/cdef….644`.
pub(crate) struct ObjectPath([u8; 70]);

impl ObjectName {
    /// The object for a file of manifest mode `mode`.
    pub(crate) fn new(digest: Digest, mode: u16) -> Self {
        let mode = file_mode_on_disk(mode);
        Self { digest, mode }
    }

    pub(crate) fn path(&self) -> ObjectPath {
        let mut hexadecimal = [0; 64];
        // Cannot fail: the buffer is twice the input.
        let _ = hex::encode_to_slice(self.digest.as_bytes(), &mut hexadecimal);
        let mut path = [0; 70];
        path[..2].copy_from_slice(&hexadecimal[..2]);
        path[2] = b'/';
        path[3..65].copy_from_slice(&hexadecimal[2..]);
        path[65] = b'.';
        for (index, shift) in [6, 3, 0].into_iter().enumerate() {
            path[66 + index] = b'0' + (self.mode >> shift & 7) as u8;
        }
        ObjectPath(path)
    }

    /// The name behind the two components of a path below `objects/`, or `None` when no object is called so.
    pub(crate) fn parse(fan: &CStr, rest: &CStr) -> Option<Self> {
        let (fan, rest) = (fan.to_bytes(), rest.to_bytes());
        let octal = rest.get(62..)?.strip_prefix(b".")?;
        let valid =
            fan.len() == 2 && octal.len() == 3 && octal.iter().all(|b| (b'0'..=b'7').contains(b));
        if !valid {
            return None;
        }
        let mut text = [0; 64];
        text[..2].copy_from_slice(fan);
        text[2..].copy_from_slice(&rest[..62]);
        let digest = Digest::from_bytes(digest_bytes(&text)?);
        let mode = octal.iter().fold(0, |mode, b| mode << 3 | u16::from(b & 7));
        Some(Self { digest, mode })
    }
}

impl ObjectPath {
    pub(crate) fn as_c_str(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.0).unwrap_or(c"")
    }

    fn fan(&self) -> [u8; 3] {
        [self.0[0], self.0[1], 0]
    }
}

/// The process's file mode creation mask, read once: only where it takes bits away is a `chmod` needed.
#[derive(Default)]
pub(super) struct Umask(OnceLock<u16>);

impl Umask {
    fn get(&self) -> u16 {
        *self.0.get_or_init(|| {
            // Reading it by umask(2) would change it for other threads.
            let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
            let line = status.lines().find_map(|line| line.strip_prefix("Umask:"));
            line.and_then(|mask| u16::from_str_radix(mask.trim(), 8).ok())
                .unwrap_or(0o777)
        })
    }

    /// Whether a file or directory made with `mode` has other bits in the end.
    pub(super) fn cuts(&self, mode: u16) -> bool {
        mode & self.get() != 0
    }
}

impl Store {
    /// Where the content of a file of this digest and manifest mode is, whether or not it exists.
    pub fn object_path(&self, digest: &Digest, mode: u16) -> PathBuf {
        let path = ObjectName::new(*digest, mode).path();
        self.path("objects")
            .join(path.as_c_str().to_string_lossy().as_ref())
    }

    /// Opens the content of a file of this digest and manifest mode for reading.
    pub fn object(&self, digest: &Digest, mode: u16) -> Result<std::fs::File> {
        let path = ObjectName::new(*digest, mode).path();
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(self.objects()?, path.as_c_str(), flags, Mode::empty())
            .context("open the object", || self.object_path(digest, mode))?;
        Ok(file.into())
    }

    pub(super) fn has_object(&self, name: &ObjectName) -> Result<bool> {
        let path = name.path();
        match statat(self.objects()?, path.as_c_str(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(error).context("look for the object", || {
                self.object_path(&name.digest, name.mode)
            }),
        }
    }
}

impl Session {
    /// Stores a content that is in memory; `mode` is the manifest mode of the file that has it. Nothing is written when it is there.
    pub fn put(&self, bytes: &[u8], mode: u16) -> Result<(Digest, u64)> {
        let digest = Digest::of(bytes);
        let name = ObjectName::new(digest, mode);
        if !self.has_object(&name)? {
            let file = NewFile::create(self, name.mode)?;
            file.write(bytes)?;
            file.publish(&name)?;
        }
        Ok((digest, bytes.len() as u64))
    }

    /// Stores a content that arrives piece by piece; `mode` is the manifest mode of the file that has it.
    pub fn object_writer(&self, mode: u16) -> Result<ObjectWriter<'_>> {
        Ok(ObjectWriter {
            file: NewFile::create(self, file_mode_on_disk(mode))?,
            hasher: Hasher::default(),
        })
    }

    /// Whether an object is there; it stays while this session lives.
    pub(super) fn has_object(&self, name: &ObjectName) -> Result<bool> {
        if self.known(name).contains(name) {
            return Ok(true);
        }
        let found = self.store().has_object(name)?;
        if found {
            self.known(name).insert(*name);
        }
        Ok(found)
    }

    /// Stores the content of an existing object under further permission bits.
    pub fn twin(&self, digest: &Digest, from: u16, to: u16) -> Result<()> {
        let name = ObjectName::new(*digest, to);
        if self.has_object(&name)? {
            return Ok(());
        }
        let mut source = self.store().object(digest, from)?;
        let mut writer = self.object_writer(to)?;
        io::copy(&mut source, &mut writer)
            .context("copy the object", || self.store().object_path(digest, from))?;
        let (found, _) = writer.finish()?;
        if found == *digest {
            Ok(())
        } else {
            Err(super::StoreError::ObjectDamaged {
                path: self.store().object_path(digest, from),
            })
        }
    }
}

/// Takes the bytes of one content. Dropped before [`finish`](Self::finish), it leaves nothing.
pub struct ObjectWriter<'a> {
    file: NewFile<'a>,
    hasher: Hasher,
}

impl ObjectWriter<'_> {
    /// Publishes the object and returns its digest and length.
    pub fn finish(self) -> Result<(Digest, u64)> {
        let (digest, size) = self.hasher.finish();
        let mode = self.file.mode;
        let name = ObjectName { digest, mode };
        if !self.file.session.has_object(&name)? {
            self.file.publish(&name)?;
        }
        Ok((digest, size))
    }
}

impl io::Write for ObjectWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = rustix::io::write(&self.file.file, bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A file in a directory of the session that is to become an object.
struct NewFile<'a> {
    session: &'a Session,
    lane: BorrowedFd<'a>,
    file: OwnedFd,
    name: CString,
    mode: u16,
    published: bool,
}

impl<'a> NewFile<'a> {
    fn create(session: &'a Session, mode: u16) -> Result<Self> {
        let lane = session.lane()?;
        let name = session.fresh("o");
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = openat(lane, &*name, flags, Mode::from_raw_mode(mode.into()))
            .context("create a file in", || session.path())?;
        let new = Self {
            session,
            lane,
            file,
            name,
            mode,
            published: false,
        };
        if session.umask.cuts(mode) {
            rustix::fs::fchmod(&new.file, Mode::from_raw_mode(mode.into()))
                .context("set the permissions of a file in", || session.path())?;
        }
        Ok(new)
    }

    fn write(&self, bytes: &[u8]) -> Result<()> {
        write_all(self.file.as_fd(), bytes).context("write a file in", || self.session.path())
    }

    fn publish(mut self, name: &ObjectName) -> Result<()> {
        let session = self.session;
        let store = session.store();
        let to = || store.object_path(&name.digest, name.mode);
        rustix::fs::futimens(&self.file, &TIMES).context("set the time of", to)?;
        let objects = store.objects()?;
        let path = name.path();
        let guard = session.publishing()?;
        let move_it = || match renameat_with(
            self.lane,
            &*self.name,
            objects,
            path.as_c_str(),
            RenameFlags::NOREPLACE,
        ) {
            // A file system without the flag: replacing a file by an equal one is harmless.
            Err(Errno::INVAL) => {
                rustix::fs::renameat(self.lane, &*self.name, objects, path.as_c_str())
            }
            other => other,
        };
        let moved = match move_it() {
            Err(Errno::NOENT) => {
                let fan = path.fan();
                let fan = CStr::from_bytes_until_nul(&fan).unwrap_or(c"");
                match mkdirat(objects, fan, Mode::RWXU) {
                    Ok(()) | Err(Errno::EXIST) => move_it(),
                    Err(error) => Err(error),
                }
            }
            other => other,
        };
        drop(guard);
        match moved {
            Ok(()) => self.published = true,
            // Someone else made it meanwhile.
            Err(Errno::EXIST) => {}
            Err(error) => return Err(error).context("publish the object", to),
        }
        session.known(name).insert(*name);
        Ok(())
    }
}

impl Drop for NewFile<'_> {
    fn drop(&mut self) {
        if !self.published {
            let _ = unlinkat(self.lane, &*self.name, AtFlags::empty());
        }
    }
}
