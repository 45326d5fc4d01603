//! A directory as a tree.

use std::{collections::HashMap, path::Path};

use rustix::fs::FileType;

use super::{
    IngestError,
    walk::{Top, describe, read_link},
    xattr,
};
use crate::{Entry, Meta, Node, Session, Tree, TreePath};

/// How a directory is read.
#[derive(Default)]
pub struct DirectoryOptions<'a> {
    /// Record everything as owned by root, whoever owns it.
    pub root_owned: bool,
    /// What to leave out, directories with all that is in them.
    pub exclude: Option<&'a dyn Fn(&TreePath) -> bool>,
}

/// Reads a directory into the store and returns its tree, which is not yet [added](Session::add_tree). No symbolic link is followed and
/// no other file system entered.
pub fn directory(
    session: &Session,
    path: &Path,
    options: &DirectoryOptions<'_>,
) -> Result<Tree, IngestError> {
    let top = Top::open(path, false)?;
    let mut builder = Tree::builder();
    let mut buffer = Vec::new();
    let mut links: HashMap<(u64, u64), TreePath> = HashMap::new();
    top.walk(&mut |found| {
        if options.exclude.is_some_and(|exclude| exclude(found.path)) {
            return Ok(false);
        }
        let mut meta = Meta {
            mode: found.mode(),
            ..Meta::default()
        };
        if !options.root_owned {
            meta.uid = found.stat.st_uid;
            meta.gid = found.stat.st_gid;
        }
        let at = || top.at(found.path);
        let node = match found.kind() {
            FileType::Symlink => Node::Symlink {
                target: read_link(found, at())?,
            },
            FileType::Directory => {
                meta.xattrs = xattr::read(top.open_found(found)?)
                    .map_err(IngestError::io("read the attributes of", at()))?;
                Node::Directory
            }
            FileType::RegularFile => {
                let inode = (found.stat.st_dev, found.stat.st_ino);
                match links.get(&inode).filter(|_| found.stat.st_nlink > 1) {
                    Some(target) => Node::HardLink {
                        target: target.clone(),
                    },
                    None => {
                        links.insert(inode, found.path.clone());
                        let file = top.open_found(found)?;
                        meta.xattrs = xattr::read(&file)
                            .map_err(IngestError::io("read the attributes of", at()))?;
                        let (digest, size) =
                            top.content(session, found, file, meta.mode, &mut buffer)?;
                        Node::File { digest, size }
                    }
                }
            }
            kind => {
                return Err(IngestError::Special {
                    path: found.path.clone(),
                    kind: describe(kind),
                });
            }
        };
        meta.xattrs.retain(|name, _| xattr::is_content(name));
        builder
            .insert(found.path.clone(), Entry { meta, node })
            .map_err(IngestError::Tree)?;
        Ok(true)
    })?;
    builder.finish().map_err(IngestError::Tree)
}
