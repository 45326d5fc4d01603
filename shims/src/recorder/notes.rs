//! What has been noted, by inode.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStringExt,
    },
    path::PathBuf,
};

use rustix::fs::{AtFlags, FileType, Mode, StatxFlags};

/// What root would have made of one file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OwnershipNote {
    /// `st_dev` of the file, seen through the overlay.
    pub device: u64,
    /// `st_ino` of the file, seen through the overlay.
    pub inode: u64,
    /// A name of it, from the environment's root: where it was renamed to last. Of a file with several names it may be one
    /// that is gone; the inode decides.
    pub path: PathBuf,
    /// The user it was given to, if it was.
    pub uid: Option<u32>,
    /// The group it was given to, if it was.
    pub gid: Option<u32>,
    /// Its `security.capability`.
    pub capability: Option<Vec<u8>>,
    /// The device node that this empty file stands for.
    pub node: Option<DeviceNode>,
}

/// A device node (mknod(2)).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DeviceNode {
    /// Of which kind.
    pub kind: DeviceKind,
    /// The driver's number.
    pub major: u32,
    /// The device's number.
    pub minor: u32,
}

/// The two kinds of device nodes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DeviceKind {
    /// Of characters.
    Character,
    /// Of blocks.
    Block,
}

/// What one system call asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Wish {
    Owner { uid: Option<u32>, gid: Option<u32> },
    Capability(Vec<u8>),
    Node(DeviceNode),
}

/// Notes in the making. Each file is held open: its inode can then not be given to another file once it is deleted,
/// and where it went when it was renamed shows at the end.
pub(super) struct Notes {
    mount: u64,
    files: BTreeMap<(u64, u64), Noted>,
}

struct Noted {
    file: OwnedFd,
    uid: Option<u32>,
    gid: Option<u32>,
    capability: Option<Vec<u8>>,
    node: Option<DeviceNode>,
}

impl Notes {
    /// Of files on the same mount as `root`. What is mounted over it is not captured, and so of no interest.
    pub(super) fn new(root: BorrowedFd<'_>) -> io::Result<Self> {
        Ok(Notes {
            mount: mount_of(root)?,
            files: BTreeMap::new(),
        })
    }

    /// Notes a wish about a file.
    pub(super) fn add(&mut self, file: OwnedFd, wish: Wish) -> io::Result<()> {
        if mount_of(file.as_fd())? != self.mount {
            return Ok(());
        }
        copy_up(&file)?;
        let found = rustix::fs::statat(&file, "", AtFlags::EMPTY_PATH)?;
        let noted = self
            .files
            .entry((found.st_dev, found.st_ino))
            .or_insert(Noted {
                file,
                uid: None,
                gid: None,
                capability: None,
                node: None,
            });
        match wish {
            Wish::Owner { uid, gid } => {
                noted.uid = uid.or(noted.uid);
                noted.gid = gid.or(noted.gid);
                // A change of owner takes capabilities away (chown(2)).
                noted.capability = None;
            }
            Wish::Capability(value) => noted.capability = Some(value),
            Wish::Node(node) => noted.node = Some(node),
        }
        Ok(())
    }

    /// What was noted about files that still have a name, ordered by it.
    pub(super) fn finish(self) -> io::Result<Vec<OwnershipNote>> {
        let mut notes = Vec::with_capacity(self.files.len());
        for ((device, inode), noted) in self.files {
            let found = rustix::fs::statat(&noted.file, "", AtFlags::EMPTY_PATH)?;
            if found.st_nlink == 0 {
                continue;
            }
            let link = format!("/proc/self/fd/{}", noted.file.as_raw_fd());
            let mut path = rustix::fs::readlink(link, Vec::new())?.into_bytes();
            // Said of the name that it was opened by; by another name it is still there.
            if path.ends_with(b" (deleted)") {
                path.truncate(path.len() - b" (deleted)".len());
            }
            notes.push(OwnershipNote {
                device,
                inode,
                path: PathBuf::from(OsString::from_vec(path)),
                uid: noted.uid,
                gid: noted.gid,
                capability: noted.capability,
                node: noted.node,
            });
        }
        notes.sort_by(|one, other| one.path.cmp(&other.path));
        Ok(notes)
    }
}

fn mount_of(file: BorrowedFd<'_>) -> io::Result<u64> {
    let found = rustix::fs::statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)?;
    Ok(found.stx_mnt_id)
}

/// Makes sure that a file lies in the overlay's upper layer, by a change that changes nothing: its inode number stays
/// what it is from then on.
fn copy_up(file: &OwnedFd) -> io::Result<()> {
    let found = rustix::fs::statat(file, "", AtFlags::EMPTY_PATH)?;
    let changed = if FileType::from_raw_mode(found.st_mode) == FileType::Symlink {
        // A link has no mode to set. Changing its owner to no other takes no privilege and, on a link, no bits away.
        rustix::fs::chownat(file, "", None, None, AtFlags::EMPTY_PATH)
    } else {
        let name = format!("/proc/self/fd/{}", file.as_raw_fd());
        rustix::fs::chmod(name, Mode::from_raw_mode(found.st_mode & 0o7777))
    };
    match changed {
        // Not the caller's own file, so not one the environment can change either: it stays where it is.
        Err(rustix::io::Errno::PERM) => Ok(()),
        other => Ok(other?),
    }
}
