//! Extended attributes of open files.

use std::os::fd::AsFd;

use rustix::{
    fs::{fgetxattr, flistxattr},
    io::Errno,
};

use crate::tree::Xattrs;

/// All attributes that can be read. A file system without any has none.
pub(super) fn read(file: impl AsFd) -> rustix::io::Result<Xattrs> {
    let mut found = Xattrs::new();
    // The kernel's limits: 64 KiB of names, 64 KiB a value (xattr(7)).
    let mut names = Vec::with_capacity(256);
    loop {
        match flistxattr(&file, rustix::buffer::spare_capacity(&mut names)) {
            Ok(_) => break,
            Err(Errno::RANGE) if names.capacity() < 65536 => names = Vec::with_capacity(65536),
            Err(Errno::NOTSUP) => return Ok(found),
            Err(error) => return Err(error),
        }
    }
    for name in names.split(|&b| b == 0).filter(|name| !name.is_empty()) {
        let mut value = Vec::with_capacity(65536);
        match fgetxattr(&file, name, rustix::buffer::spare_capacity(&mut value)) {
            Ok(_) => {
                found.insert(name.into(), value.as_slice().into());
            }
            Err(Errno::NODATA | Errno::NOTSUP) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// Whether an attribute is how overlayfs marks things.
pub(super) fn is_overlay(name: &[u8]) -> bool {
    overlay(name).is_some()
}

/// What follows `user.overlay.` or `trusted.overlay.`.
pub(super) fn overlay(name: &[u8]) -> Option<&[u8]> {
    name.strip_prefix(b"user.overlay.")
        .or_else(|| name.strip_prefix(b"trusted.overlay."))
}

/// Whether an attribute is part of a tree: those that programs set for themselves, and capabilities. Labels of the host's security
/// modules and access control lists are the host's.
pub(super) fn is_content(name: &[u8]) -> bool {
    !is_overlay(name) && (name.starts_with(b"user.") || name == b"security.capability")
}
