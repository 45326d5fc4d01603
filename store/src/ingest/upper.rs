//! What a process changed on an overlay, read from its upper directory.
//!
//! See "Overlay Filesystem" in the kernel's documentation: a character device 0:0, or an empty file with the attribute
//! `overlay.whiteout`, removes; a directory with `overlay.opaque` = `y` hides all that the lower one has.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    os::fd::BorrowedFd,
    path::Path,
};

use rustix::fs::{AtFlags, FileType, statat};

use super::{
    IngestError, Note, Ownership,
    walk::{Found, Top, describe, read_link},
    xattr,
};
use crate::{
    Entry, Meta, Node, Session, Tree, TreePath,
    tree::{Xattrs, directory_mode_on_disk, file_mode_on_disk},
};

/// Reads an overlay's upper directory as a layer over `lower`, whose view was its lower directory. `merged` is the mount point, needed
/// while there are notes by inode. `exclude` leaves paths out, directories with all that is in them.
///
/// Owners are those of the notes, else of the lower entry, else root: what the disk says depends on who runs this. A mode that is the
/// lower entry's as views show it counts as unchanged, with its set-id bits. Entries that are as they were are left out.
pub fn overlay_upper(
    session: &Session,
    upper: &Path,
    merged: &Path,
    lower: &Tree,
    notes: &Ownership,
    exclude: &dyn Fn(&TreePath) -> bool,
) -> Result<Tree, IngestError> {
    let top = Top::open(upper, true)?;
    let merged = if notes.by_inode.is_empty() {
        None
    } else {
        Some(Top::open(merged, false)?)
    };
    let mut capture = Capture {
        session,
        top: &top,
        merged: merged.as_ref().map(Top::fd),
        lower,
        notes,
        buffer: Vec::new(),
        entries: BTreeMap::new(),
        opaque: Vec::new(),
        contents: HashMap::new(),
        seen: HashSet::new(),
    };
    top.walk(&mut |found| {
        if exclude(found.path) {
            capture.seen.insert(found.path.clone());
            return Ok(false);
        }
        capture.visit(found)
    })?;
    capture.finish(exclude)
}

type Inode = (u64, u64);

struct Capture<'a> {
    session: &'a Session,
    top: &'a Top,
    merged: Option<BorrowedFd<'a>>,
    lower: &'a Tree,
    notes: &'a Ownership,
    buffer: Vec<u8>,
    /// Each with its inode if it has several names.
    entries: BTreeMap<TreePath, (Entry, Option<Inode>)>,
    opaque: Vec<TreePath>,
    /// Contents of files with several names, each with the mode it was stored under.
    contents: HashMap<Inode, (Node, u16)>,
    /// All paths that the upper directory has.
    seen: HashSet<TreePath>,
}

impl Capture<'_> {
    /// Takes one entry in; whether to look inside.
    fn visit(&mut self, found: &Found<'_>) -> Result<bool, IngestError> {
        self.seen.insert(found.path.clone());
        let note = self.note(found)?;
        if note.device {
            return Ok(false);
        }
        let at = || self.top.at(found.path);
        match found.kind() {
            FileType::CharacterDevice if found.stat.st_rdev == 0 => {
                self.white_out(found.path.clone())
            }
            FileType::Symlink => {
                let target = read_link(found, at())?;
                let meta = self.meta(found, &note, Xattrs::new());
                self.insert(found, meta, Node::Symlink { target }, None);
            }
            FileType::Directory => {
                let file = self.top.open_found(found)?;
                let mut xattrs =
                    xattr::read(file).map_err(IngestError::io("read the attributes of", at()))?;
                if self.marks(found.path, &mut xattrs)?.contains(&Mark::Opaque) {
                    self.opaque.push(found.path.clone());
                }
                let meta = self.meta(found, &note, xattrs);
                self.insert(found, meta, Node::Directory, None);
            }
            FileType::RegularFile => self.visit_file(found, &note)?,
            kind => {
                return Err(IngestError::Special {
                    path: found.path.clone(),
                    kind: describe(kind),
                });
            }
        }
        Ok(true)
    }

    fn visit_file(&mut self, found: &Found<'_>, note: &Note) -> Result<(), IngestError> {
        let at = || self.top.at(found.path);
        let file = self.top.open_found(found)?;
        let mut xattrs =
            xattr::read(&file).map_err(IngestError::io("read the attributes of", at()))?;
        if self
            .marks(found.path, &mut xattrs)?
            .contains(&Mark::Whiteout)
            && found.stat.st_size == 0
        {
            self.white_out(found.path.clone());
            return Ok(());
        }
        let inode = (found.stat.st_nlink > 1).then_some((found.stat.st_dev, found.stat.st_ino));
        let meta = self.meta(found, note, xattrs);
        let known = inode.and_then(|inode| self.contents.get(&inode).cloned());
        let node = match known {
            Some((node, _)) => node,
            None => {
                let (digest, size) =
                    self.top
                        .content(self.session, found, file, meta.mode, &mut self.buffer)?;
                let node = Node::File { digest, size };
                if let Some(inode) = inode {
                    self.contents.insert(inode, (node.clone(), meta.mode));
                }
                node
            }
        };
        self.insert(found, meta, node, inode);
        Ok(())
    }

    fn insert(&mut self, found: &Found<'_>, mut meta: Meta, node: Node, inode: Option<Inode>) {
        if let Some(before) = self.lower.get(found.path) {
            let same = match &node {
                Node::File { digest, size } => {
                    self.lower.content_of(before) == Some((*digest, *size))
                }
                node => before.node == *node,
            };
            // Views show no attributes, so those of an unchanged file were not lost but never there.
            if same {
                for (name, value) in &before.meta.xattrs {
                    meta.xattrs
                        .entry(name.clone())
                        .or_insert_with(|| value.clone());
                }
            }
            if same && meta == before.meta {
                return;
            }
        }
        self.entries
            .insert(found.path.clone(), (Entry { meta, node }, inode));
    }

    fn white_out(&mut self, path: TreePath) {
        if self.lower.get(&path).is_some() {
            let entry = Entry {
                meta: Meta::default(),
                node: Node::Whiteout,
            };
            self.entries.insert(path, (entry, None));
        }
    }

    fn note(&self, found: &Found<'_>) -> Result<Note, IngestError> {
        if let Some(note) = self.notes.by_path.get(found.path) {
            return Ok(note.clone());
        }
        let Some(merged) = self.merged else {
            return Ok(Note::default());
        };
        match statat(merged, found.path.as_bytes(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(self
                .notes
                .by_inode
                .get(&(stat.st_dev, stat.st_ino))
                .cloned()
                .unwrap_or_default()),
            // A whiteout is not there.
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => Ok(Note::default()),
            Err(error) => Err(IngestError::io(
                "look at, in the merged directory,",
                found.path.as_path(),
            )(error)),
        }
    }

    fn meta(&self, found: &Found<'_>, note: &Note, mut xattrs: Xattrs) -> Meta {
        let before = self.lower.get(found.path);
        let unchanged = before.filter(|before| match before.node {
            Node::Directory => {
                found.kind() == FileType::Directory
                    && directory_mode_on_disk(before.meta.mode) == found.mode()
            }
            Node::File { .. } | Node::HardLink { .. } => {
                found.kind() == FileType::RegularFile
                    && file_mode_on_disk(before.meta.mode) == found.mode()
            }
            _ => false,
        });
        let mode = match (found.kind(), unchanged) {
            (FileType::Symlink, _) => 0o777,
            (_, Some(before)) => before.meta.mode,
            (_, None) => found.mode(),
        };
        if let Some(capability) = &note.capability {
            xattrs.insert(
                b"security.capability".as_slice().into(),
                capability.as_slice().into(),
            );
        }
        Meta {
            mode,
            uid: note
                .uid
                .or(before.map(|before| before.meta.uid))
                .unwrap_or(0),
            gid: note
                .gid
                .or(before.map(|before| before.meta.gid))
                .unwrap_or(0),
            xattrs,
        }
    }

    /// Takes overlayfs's own marks out of the attributes, and those that are not part of a tree.
    fn marks(&self, path: &TreePath, xattrs: &mut Xattrs) -> Result<Vec<Mark>, IngestError> {
        let mut marks = Vec::new();
        for (name, value) in &*xattrs {
            match xattr::overlay(name) {
                // "x" only says that files below may be whiteouts by attribute.
                Some(b"opaque") if **value == *b"y" => marks.push(Mark::Opaque),
                Some(b"whiteout") => marks.push(Mark::Whiteout),
                Some(b"redirect" | b"metacopy") => {
                    return Err(IngestError::Overlay {
                        path: path.clone(),
                        mark: String::from_utf8_lossy(name).into_owned(),
                    });
                }
                _ => {}
            }
        }
        xattrs.retain(|name, _| xattr::is_content(name));
        Ok(marks)
    }

    fn finish(mut self, exclude: &dyn Fn(&TreePath) -> bool) -> Result<Tree, IngestError> {
        for directory in std::mem::take(&mut self.opaque) {
            if !self.lower.get(&directory).is_some_and(Entry::is_directory) {
                continue;
            }
            let hidden: Vec<TreePath> = self
                .lower
                .below(&directory)
                .map(|(path, _)| path)
                .filter(|path| path.parent().as_ref() == Some(&directory))
                .filter(|path| !self.seen.contains(path) && !exclude(path))
                .cloned()
                .collect();
            hidden.into_iter().for_each(|path| self.white_out(path));
        }
        let mut holders: HashMap<Inode, (TreePath, Meta)> = HashMap::new();
        let mut builder = Tree::builder().layer();
        for (path, (mut entry, inode)) in self.entries {
            if let Some(inode) = inode {
                match holders.get(&inode) {
                    Some((holder, meta)) => {
                        entry.node = Node::HardLink {
                            target: holder.clone(),
                        };
                        entry.meta = meta.clone();
                    }
                    None => {
                        holders.insert(inode, (path.clone(), entry.meta.clone()));
                        // The content may have been stored under the mode of another of its names.
                        if let Some((Node::File { digest, .. }, mode)) = self.contents.get(&inode) {
                            self.session.twin(digest, *mode, entry.meta.mode)?;
                        }
                    }
                }
            }
            builder.insert(path, entry).map_err(IngestError::Tree)?;
        }
        builder.finish().map_err(IngestError::Tree)
    }
}

#[derive(PartialEq, Eq)]
enum Mark {
    Opaque,
    Whiteout,
}
