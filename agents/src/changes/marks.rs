//! What overlayfs writes on files and directories of an upper layer mounted with `userxattr`.
//!
//! See "Overlay Filesystem" in the kernel's documentation. Inside, nobody can set these: the kernel refuses or renames
//! attributes that begin so. One that was set all the same is not obeyed but named.

use std::{fs::File, os::fd::AsFd};

use rustix::{
    fs::{FileType, flistxattr},
    io::Errno,
};

use super::beneath::{Directory, Found};

/// What is written on a directory.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct DirectoryMarks {
    /// Hides what the layers below have (`opaque` = `y`).
    pub(super) opaque: bool,
    /// May have empty files in it that remove (`opaque` = `x`).
    pub(super) whiteout_files: bool,
    /// Would show another directory of the layers below.
    pub(super) redirect: bool,
}

impl DirectoryMarks {
    pub(super) fn read(directory: &Directory) -> Result<Self, Errno> {
        let names = names(directory.as_fd())?;
        let has = |name: &[u8]| names.split(|&b| b == 0).any(|found| found == name);
        let mut marks = Self {
            redirect: has(b"user.overlay.redirect"),
            ..Self::default()
        };
        if has(b"user.overlay.opaque") {
            let mut value = [0; 2];
            match rustix::fs::fgetxattr(directory.as_fd(), c"user.overlay.opaque", &mut value[..]) {
                Ok(1) if value[0] == b'y' => marks.opaque = true,
                Ok(1) if value[0] == b'x' => marks.whiteout_files = true,
                Ok(_) | Err(Errno::RANGE | Errno::NODATA) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(marks)
    }
}

/// What is written on a file.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct FileMarks {
    /// Has the content of another file of the layers below.
    pub(super) metacopy: bool,
    /// Would show another file of the layers below.
    pub(super) redirect: bool,
    /// Began as a copy of a file of a layer below.
    pub(super) origin: bool,
}

impl FileMarks {
    pub(super) fn read(file: &File) -> Result<Self, Errno> {
        let names = names(file.as_fd())?;
        let mut marks = Self::default();
        for name in names.split(|&b| b == 0) {
            match name {
                b"user.overlay.metacopy" => marks.metacopy = true,
                b"user.overlay.redirect" => marks.redirect = true,
                b"user.overlay.origin" => marks.origin = true,
                _ => {}
            }
        }
        Ok(marks)
    }
}

/// Whether an entry of a directory removes what the layers below have at its name.
pub(super) fn is_whiteout(found: &Found, directory: DirectoryMarks) -> Result<bool, Errno> {
    match found.kind() {
        FileType::CharacterDevice => Ok(found.stat.st_rdev == 0),
        FileType::RegularFile if directory.whiteout_files && found.stat.st_size == 0 => {
            Ok(found.attribute(c"user.overlay.whiteout")?.is_some())
        }
        _ => Ok(false),
    }
}

/// The names of all attributes, each ended by a NUL.
fn names(file: impl AsFd) -> Result<Vec<u8>, Errno> {
    let mut names = Vec::with_capacity(512);
    match flistxattr(&file, rustix::buffer::spare_capacity(&mut names)) {
        Ok(_) => Ok(names),
        Err(Errno::NOTSUP) => Ok(Vec::new()),
        Err(Errno::RANGE) => {
            // The kernel's limit on the whole list (xattr(7)).
            let mut names = Vec::with_capacity(65_536);
            flistxattr(&file, rustix::buffer::spare_capacity(&mut names))?;
            Ok(names)
        }
        Err(error) => Err(error),
    }
}
