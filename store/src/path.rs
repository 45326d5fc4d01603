//! Paths inside a tree: relative, normal, bounded. A value of the type cannot be wrong afterwards.

use std::{
    ffi::OsStr,
    fmt,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

/// Longest component, in bytes (NAME_MAX of every Linux file system we write to).
const COMPONENT_MAX: usize = 255;
/// Longest path, in bytes (PATH_MAX without its NUL, and with room for a prefix).
const PATH_MAX: usize = 3072;

/// A path inside a tree, relative to its root: no leading slash, no `.` or `..`, no empty or over-long component, no NUL.
/// Order is that of the bytes with `/` before everything else, so that a directory's contents follow it directly.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct TreePath(Box<[u8]>);

/// Why some bytes are not a [`TreePath`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("path {path:?} {problem}")]
pub struct PathError {
    path: String,
    problem: &'static str,
}

impl TreePath {
    /// Checks and takes a path that must already be relative and normal.
    pub fn new(bytes: &[u8]) -> Result<Self, PathError> {
        let refuse = |problem| {
            Err(PathError {
                path: String::from_utf8_lossy(bytes).chars().take(200).collect(),
                problem,
            })
        };
        if bytes.is_empty() {
            return refuse("is empty");
        }
        if bytes.len() > PATH_MAX {
            return refuse("is longer than 3072 bytes");
        }
        for component in bytes.split(|&b| b == b'/') {
            match component {
                b"" => return refuse("is absolute or has an empty component"),
                b"." | b".." => return refuse("has a component \".\" or \"..\""),
                c if c.len() > COMPONENT_MAX => return refuse("has a component over 255 bytes"),
                c if c.contains(&0) => return refuse("contains a NUL byte"),
                _ => {}
            }
        }
        Ok(Self(bytes.into()))
    }

    /// The bytes, without a leading slash.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// As a relative path of the file system.
    pub fn as_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.0))
    }

    /// Below `root`.
    pub fn under(&self, root: &Path) -> PathBuf {
        root.join(self.as_path())
    }

    /// The last component.
    pub fn name(&self) -> &[u8] {
        self.0.rsplit(|&b| b == b'/').next().unwrap_or(&self.0)
    }

    /// The directory it is in, or `None` at the top.
    pub fn parent(&self) -> Option<TreePath> {
        let slash = self.0.iter().rposition(|&b| b == b'/')?;
        Some(Self(self.0[..slash].into()))
    }

    /// The directories it is in, the nearest first.
    pub fn ancestors(&self) -> impl Iterator<Item = TreePath> {
        std::iter::successors(self.parent(), TreePath::parent)
    }

    /// This path and one more component (or several, separated by slashes).
    pub fn join(&self, below: &[u8]) -> Result<Self, PathError> {
        Self::new(&[self.as_bytes(), b"/", below].concat())
    }

    /// Whether it is `directory` or lies below it.
    pub fn starts_with(&self, directory: &TreePath) -> bool {
        self.0
            .strip_prefix(directory.as_bytes())
            .is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
    }
}

impl Ord for TreePath {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let key = |b: u8| if b == b'/' { 0 } else { b };
        // Neighbours have long beginnings in common, which are passed over eight bytes at a time.
        let (ours, theirs) = (self.0.as_chunks::<8>().0, other.0.as_chunks::<8>().0);
        let common = 8 * ours.iter().zip(theirs).take_while(|(a, b)| a == b).count();
        let mut pairs = self.0[common..].iter().zip(&other.0[common..]);
        match pairs.find(|(a, b)| a != b) {
            Some((a, b)) => key(*a).cmp(&key(*b)),
            None => self.0.len().cmp(&other.0.len()),
        }
    }
}

impl PartialOrd for TreePath {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}", String::from_utf8_lossy(&self.0).escape_debug())
    }
}

impl fmt::Debug for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TreePath({self})")
    }
}
