//! What a plan puts over the root, in its order.

use std::{
    ffi::CString,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags},
    io::Errno,
    mount::MountFlags,
};

use crate::{
    devices,
    error::SetupError,
    plan::Mount,
    root::{self, Kept, Stage, Tree},
    sys,
    target::{Inside, Kind, mount_error},
};

/// Parts of procfs that a caller who is root outside could write to, for procfs asks who one is, not what one may do.
const PROTECTED_PROC: [&str; 8] = [
    "acpi",
    "bus",
    "dynamic_debug",
    "fs",
    "irq",
    "scsi",
    "sys",
    "sysrq-trigger",
];

/// What of the host a mount needs, opened before anything covers it.
pub(crate) enum Source {
    /// Nothing, or an optional source that is missing.
    None,
    Tree(Tree),
    Directory(OwnedFd),
}

impl Source {
    pub(crate) fn open(mount: &Mount) -> Result<Self, SetupError> {
        let (opened, source, target, optional) = match mount {
            Mount::Bind {
                source,
                target,
                optional,
                ..
            } => (
                root::copy_tree(source).map(Source::Tree),
                source,
                target,
                *optional,
            ),
            Mount::Scratch { source, target } => (
                root::open_directory(source).map(Source::Directory),
                source,
                target,
                false,
            ),
            _ => return Ok(Source::None),
        };
        match opened {
            Err(Errno::NOENT | Errno::NOTDIR) if optional => Ok(Source::None),
            other => other.map_err(|error| SetupError::Source {
                path: source.clone(),
                target: target.clone(),
                source: error.into(),
            }),
        }
    }
}

/// Carries one mount out.
pub(crate) fn apply(
    mount: &Mount,
    source: &Source,
    inside: &Inside,
    stage: &mut Option<Stage>,
    caller_is_root: bool,
) -> Result<(), SetupError> {
    match (mount, source) {
        (
            Mount::Bind {
                source,
                target,
                read_only,
                ..
            },
            Source::Tree(tree),
        ) => bind(inside, tree, source, target, *read_only),
        (Mount::Scratch { source, target }, Source::Directory(lower)) => {
            scratch(inside, lower, source, target, stage)
        }
        (Mount::Tmpfs { target, mode, size }, _) => {
            tmpfs(inside, target, *mode, *size, stage).map(drop)
        }
        (Mount::Proc { target }, _) => procfs(inside, target, caller_is_root),
        (Mount::Devices { target }, _) => devices::mount(inside, target, stage),
        (
            Mount::File {
                target,
                content,
                mode,
            },
            _,
        ) => file(inside, target, content, *mode),
        (Mount::Directory { target, mode }, _) => directory(inside, target, *mode),
        (Mount::Symlink { target, points_to }, _) => symlink(inside, target, points_to),
        (Mount::Bind { .. } | Mount::Scratch { .. }, _) => Ok(()),
    }
}

fn bind(
    inside: &Inside,
    tree: &Tree,
    source: &Path,
    target: &Path,
    read_only: bool,
) -> Result<(), SetupError> {
    let named = source.display().to_string();
    let place = match inside.open(target, OFlags::PATH) {
        Ok(place) => place,
        Err(_) => {
            let kind = rustix::fs::fstat(tree)
                .map(|found| FileType::from_raw_mode(found.st_mode))
                .map_err(|error| mount_error(&named, target, error))?;
            let kind = if kind == FileType::Directory {
                Kind::Directory
            } else {
                Kind::File
            };
            inside.ensure(target, kind)?
        }
    };
    let attributes = root::attributes(read_only, target.starts_with("/dev"));
    sys::set_mount_attributes(tree.as_fd(), attributes).map_err(|error| SetupError::Mount {
        what: named.clone(),
        target: target.to_owned(),
        source: error.into(),
    })?;
    root::attach(tree.as_fd(), place.as_fd()).map_err(|error| mount_error(&named, target, error))
}

fn scratch(
    inside: &Inside,
    lower: &OwnedFd,
    source: &Path,
    target: &Path,
    stage: &mut Option<Stage>,
) -> Result<(), SetupError> {
    let overlay = |error: Errno| SetupError::Overlay {
        target: target.to_owned(),
        lowers: vec![source.to_owned()],
        source: error.into(),
    };
    let place = inside.ensure(target, Kind::Directory)?;
    let found = rustix::fs::fstat(lower).map_err(overlay)?;
    let stage = stage.as_mut().ok_or(Errno::INVAL).map_err(overlay)?;
    let (upper, work) = stage
        .pair(Mode::from_raw_mode(found.st_mode))
        .map_err(overlay)?;
    let at = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&place));
    let lowers = [lower.as_fd()];
    root::mount_overlay(&lowers, upper.as_fd(), work.as_fd(), at, Kept::Safely).map_err(overlay)
}

/// Mounts a new file system on a place inside.
pub(crate) fn mount_new(
    inside: &Inside,
    kind: &str,
    target: &Path,
    flags: MountFlags,
    options: &str,
) -> Result<(), SetupError> {
    let place = inside.ensure(target, Kind::Directory)?;
    let failed = |error| mount_error(kind, target, error);
    let options = CString::new(options).map_err(|_| failed(Errno::INVAL))?;
    // By way of the current directory: a mount by descriptor takes four calls of the newer interface.
    rustix::process::fchdir(&place).map_err(failed)?;
    rustix::mount::mount(kind, ".", kind, flags, options.as_c_str()).map_err(failed)
}

/// Mounts a fresh tmpfs, or a directory of the one there is, and opens it.
pub(crate) fn tmpfs(
    inside: &Inside,
    target: &Path,
    mode: u32,
    size: Option<u64>,
    stage: &mut Option<Stage>,
) -> Result<OwnedFd, SetupError> {
    let failed = |error| mount_error("tmpfs", target, error);
    if let (None, Some(stage)) = (size, stage)
        && let Some(tree) = stage.tree(Mode::from_raw_mode(mode)).map_err(failed)?
    {
        let place = inside.ensure(target, Kind::Directory)?;
        root::attach(tree.as_fd(), place.as_fd()).map_err(failed)?;
        return Ok(tree);
    }
    let size = size.map_or_else(String::new, |size| format!(",size={size}"));
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    mount_new(
        inside,
        "tmpfs",
        target,
        flags,
        &format!("mode={mode:o}{size}"),
    )?;
    inside.open(target, OFlags::PATH).map_err(failed)
}

fn procfs(inside: &Inside, target: &Path, caller_is_root: bool) -> Result<(), SetupError> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount_new(inside, "proc", target, flags, "")?;
    if !caller_is_root {
        return Ok(());
    }
    let proc = inside
        .open(target, OFlags::PATH)
        .map_err(|error| mount_error("proc", target, error))?;
    for name in PROTECTED_PROC {
        let failed = |error: crate::Errno| SetupError::Mount {
            what: "a read-only copy of it".to_owned(),
            target: target.join(name),
            source: error,
        };
        let tree = match root::copy_part(&proc, name) {
            Err(Errno::NOENT) => continue,
            other => other.map_err(|error| failed(error.into()))?,
        };
        sys::set_mount_attributes(tree.as_fd(), root::attributes(true, false))
            .map_err(|error| failed(error.into()))?;
        root::attach_at(tree.as_fd(), proc.as_fd(), name).map_err(|error| failed(error.into()))?;
    }
    Ok(())
}

/// A write inside that failed.
fn write_error(target: &Path) -> impl Fn(Errno) -> SetupError {
    move |source| SetupError::Write {
        target: target.to_owned(),
        source: source.into(),
    }
}

fn file(inside: &Inside, target: &Path, content: &str, mode: u32) -> Result<(), SetupError> {
    let (parent, name) = inside.parent(target)?;
    let failed = write_error(target);
    // A new file in its place, so that neither a link is followed nor another name of the same file changed.
    match rustix::fs::unlinkat(&parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(error) => return Err(failed(error)),
    }
    write_file(parent.as_fd(), name, content, mode).map_err(failed)
}

/// Makes a file where nothing is.
pub(crate) fn write_file(
    parent: BorrowedFd<'_>,
    name: &Path,
    content: &str,
    mode: u32,
) -> Result<(), Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(mode))?;
    let mut rest = content.as_bytes();
    while !rest.is_empty() {
        let written = rustix::io::write(&file, rest)?;
        rest = &rest[written..];
    }
    Ok(())
}

fn directory(inside: &Inside, target: &Path, mode: u32) -> Result<(), SetupError> {
    let (parent, name) = inside.parent(target)?;
    let failed = write_error(target);
    let mode = Mode::from_raw_mode(mode);
    match rustix::fs::mkdirat(&parent, name, mode) {
        Err(Errno::EXIST) => {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY;
            let existing = inside.open(target, flags).map_err(&failed)?;
            rustix::fs::fchmod(&existing, mode).map_err(failed)
        }
        other => other.map_err(failed),
    }
}

fn symlink(inside: &Inside, target: &Path, points_to: &Path) -> Result<(), SetupError> {
    let (parent, name) = inside.parent(target)?;
    let failed = write_error(target);
    match rustix::fs::symlinkat(points_to, &parent, name) {
        Err(Errno::EXIST) => {
            rustix::fs::unlinkat(&parent, name, AtFlags::empty()).map_err(&failed)?;
            rustix::fs::symlinkat(points_to, &parent, name).map_err(failed)
        }
        other => other.map_err(failed),
    }
}
