//! What a change is, as a value.

use envd_store::{Digest, TreePath};
use rustix::fs::{FileType, Stat};
use schemars::JsonSchema;
use serde::Serialize;

/// All that differs between a project and what a session made of it.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Changes {
    /// Sorted by path, a directory before what is in it.
    pub entries: Vec<Change>,
    /// What could not be judged. It is never applied.
    pub skipped: Vec<Skipped>,
    /// Git's own directories and files that were met and not looked into.
    pub left_out: Vec<TreePath>,
}

impl Changes {
    /// Whether nothing differs. What was skipped counts as a difference.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.skipped.is_empty()
    }

    /// The change at exactly this path.
    pub fn get(&self, path: &TreePath) -> Option<&Change> {
        let at = self
            .entries
            .binary_search_by(|change| change.path.cmp(path))
            .ok()?;
        self.entries.get(at)
    }

    /// The changes at `directory` and below it.
    pub fn at_and_below<'a>(&'a self, directory: &TreePath) -> &'a [Change] {
        let start = self
            .entries
            .partition_point(|change| change.path < *directory);
        let below = &self.entries[start..];
        let end = below.partition_point(|change| change.path.starts_with(directory));
        &below[..end]
    }
}

/// One path that differs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    /// Relative to the project.
    pub path: TreePath,
    /// In which way.
    pub kind: ChangeKind,
    /// What the project has.
    pub old: Option<State>,
    /// What the session has.
    pub new: Option<State>,
    /// Which of the upper directories has it, the topmost being 0.
    pub(super) layer: Option<usize>,
    /// Whether what the session has began as a copy of something in the project: the kernel says so, and nobody inside can.
    pub(super) copied_up: bool,
}

/// In which way a path differs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// The project has nothing there.
    Added,
    /// Another content or link target, and perhaps another mode.
    Modified,
    /// The session has nothing there.
    Deleted,
    /// Another mode and nothing else.
    ModeChanged,
    /// A file became a directory, a directory a link, and so on.
    TypeChanged,
}

/// What is at a path.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct State {
    /// Its type.
    pub kind: Kind,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u16,
    /// Bytes of a file; 0 for everything else.
    pub size: u64,
    /// Where a symbolic link points.
    pub target: Option<Box<[u8]>>,
    /// Whether a file is no text: it has a NUL byte near its beginning.
    pub binary: bool,
    /// Identity of the content. Of the session's files only.
    pub digest: Option<Digest>,
    /// By which the same file is known again.
    pub stamp: Stamp,
}

/// The types of files.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Regular file.
    File,
    /// Directory.
    Directory,
    /// Symbolic link.
    Symlink,
    /// Named pipe.
    Fifo,
    /// Unix socket.
    Socket,
    /// Character device.
    CharacterDevice,
    /// Block device.
    BlockDevice,
}

impl Kind {
    pub(super) fn of(kind: FileType) -> Self {
        match kind {
            FileType::Directory => Kind::Directory,
            FileType::Symlink => Kind::Symlink,
            FileType::Fifo => Kind::Fifo,
            FileType::Socket => Kind::Socket,
            FileType::CharacterDevice => Kind::CharacterDevice,
            FileType::BlockDevice => Kind::BlockDevice,
            _ => Kind::File,
        }
    }

    /// In words.
    pub fn describe(self) -> &'static str {
        match self {
            Kind::File => "file",
            Kind::Directory => "directory",
            Kind::Symlink => "symbolic link",
            Kind::Fifo => "FIFO",
            Kind::Socket => "socket",
            Kind::CharacterDevice => "character device",
            Kind::BlockDevice => "block device",
        }
    }

    /// The type bits of a mode, as in the numbers git writes.
    pub fn bits(self) -> u32 {
        match self {
            Kind::File => 0o100_000,
            Kind::Directory => 0o040_000,
            Kind::Symlink => 0o120_000,
            Kind::Fifo => 0o010_000,
            Kind::Socket => 0o140_000,
            Kind::CharacterDevice => 0o020_000,
            Kind::BlockDevice => 0o060_000,
        }
    }
}

/// A moment of the file system's clock, in seconds and nanoseconds since 1970.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, serde::Deserialize,
)]
pub struct Moment(pub i64, pub u32);

/// By which a file is known again: where it is, and when it and its content changed last. Nobody can set the time of the last
/// change to an earlier one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, serde::Deserialize)]
pub struct Stamp {
    /// Device number.
    pub device: u64,
    /// Inode number.
    pub inode: u64,
    /// Bytes.
    pub size: u64,
    /// Last change of the content (mtime).
    pub content: Moment,
    /// Last change of anything (ctime).
    pub change: Moment,
}

impl Stamp {
    /// Of what stat(2) says.
    pub(super) fn of(stat: &Stat) -> Self {
        let nanoseconds = |n: u64| u32::try_from(n).unwrap_or(0);
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            content: Moment(stat.st_mtime, nanoseconds(stat.st_mtime_nsec)),
            change: Moment(stat.st_ctime, nanoseconds(stat.st_ctime_nsec)),
        }
    }

    /// Whether both are the same file with the same content: renaming a file alone is a change of it.
    pub(super) fn same_content(&self, other: &Self) -> bool {
        (self.device, self.inode, self.size, self.content)
            == (other.device, other.inode, other.size, other.content)
    }
}

/// A path that could not be judged.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Skipped {
    /// Where.
    pub path: TreePath,
    /// Why.
    pub reason: Reason,
}

/// Why a path could not be judged.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Reason {
    /// We may not read it.
    #[error(
        "cannot be read: give its owner read permission (and search permission to directories) inside the session"
    )]
    Unreadable,
    /// Larger than one file may be.
    #[error("has {size} bytes, which is more than the {limit} that one file may have here")]
    TooLarge {
        /// Its size in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// Deeper than paths may be.
    #[error("has contents whose paths are too long or too deep")]
    TooDeep,
    /// An overlay's mark that makes another file show up in this one's place.
    #[error("has the overlay mark {0:?}, which no session of ours sets and nothing here follows")]
    Mark(&'static str),
    /// Another file system, or the same once more.
    #[error("is a mount point in the project; mount points are not looked into")]
    MountPoint,
    /// It changed while it was read.
    #[error("changed while it was read; ask again")]
    Unsteady,
}
