//! A tree as a tar stream: the same tree gives the same bytes, always.
//!
//! Headers are ustar; what does not fit (long names, large files, large owners) and extended attributes are in pax records before them.
//! Members are in the tree's order; names have no leading `./`, and directories end in `/`.

use std::io::{self, Write};

use tar::{EntryType, Header};

use crate::{Entry, Node, Store, StoreError, Tree, TreePath};

const BLOCK: usize = 512;

/// Why a tree could not be written as an archive.
#[derive(Debug, thiserror::Error)]
pub enum ProjectError {
    /// The receiver of the archive failed.
    #[error("cannot write the archive at {path}")]
    Write {
        /// The entry at hand.
        path: TreePath,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The end of the archive could not be written.
    #[error("cannot write the end of the archive")]
    End(#[source] io::Error),
    /// A content could not be read.
    #[error("cannot read the content of {path}")]
    Read {
        /// The entry.
        path: TreePath,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A content is not as long as the manifest says.
    #[error(
        "the content of {path} does not have the size in its manifest: run `envd store verify --repair`"
    )]
    Size {
        /// The entry.
        path: TreePath,
    },
    /// A layer's whiteouts have no form of their own in tar.
    #[error("{path} is a whiteout, which an archive of a tree cannot have")]
    Whiteout {
        /// The path.
        path: TreePath,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Writes a tree as an uncompressed tar stream; every member has the time `mtime`, in seconds after the epoch.
pub fn tar(
    store: &Store,
    tree: &Tree,
    mtime: u64,
    writer: &mut impl Write,
) -> Result<(), ProjectError> {
    for (path, entry) in tree {
        let failed = |source| ProjectError::Write {
            path: path.clone(),
            source,
        };
        writer
            .write_all(&head(path, entry, mtime)?)
            .map_err(failed)?;
        if let Node::File { digest, size } = entry.node {
            let content = store.object(&digest, entry.meta.mode)?;
            copy(content, size, path, writer)?;
            let filling = (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64;
            writer
                .write_all(&[0; BLOCK][..filling as usize])
                .map_err(failed)?;
        }
    }
    writer.write_all(&[0; 2 * BLOCK]).map_err(ProjectError::End)
}

fn copy(
    mut content: std::fs::File,
    size: u64,
    path: &TreePath,
    writer: &mut impl Write,
) -> Result<(), ProjectError> {
    let mut buffer = vec![0; 128 * 1024];
    let mut left = size;
    loop {
        let count =
            io::Read::read(&mut content, &mut buffer).map_err(|source| ProjectError::Read {
                path: path.clone(),
                source,
            })?;
        left = left
            .checked_sub(count as u64)
            .ok_or_else(|| ProjectError::Size { path: path.clone() })?;
        if count == 0 {
            break;
        }
        writer
            .write_all(&buffer[..count])
            .map_err(|source| ProjectError::Write {
                path: path.clone(),
                source,
            })?;
    }
    if left > 0 {
        return Err(ProjectError::Size { path: path.clone() });
    }
    Ok(())
}

/// The header of a member, after its pax records if it needs any.
fn head(path: &TreePath, entry: &Entry, mtime: u64) -> Result<Vec<u8>, ProjectError> {
    let mut records = Vec::new();
    let mut header = Header::new_ustar();
    let (kind, link, size) = match &entry.node {
        Node::Directory => (EntryType::Directory, None, 0),
        Node::File { size, .. } => (EntryType::Regular, None, *size),
        Node::Symlink { target } => (EntryType::Symlink, Some(&**target), 0),
        Node::HardLink { target } => (EntryType::Link, Some(target.as_bytes()), 0),
        Node::Whiteout => return Err(ProjectError::Whiteout { path: path.clone() }),
    };
    let mut name = path.as_bytes().to_vec();
    if kind == EntryType::Directory {
        name.push(b'/');
    }
    header.set_entry_type(kind);
    header.set_mode(entry.meta.mode.into());
    header.set_mtime(mtime);
    let mut number = |key: &str, value: u64, limit: u64| {
        if value > limit {
            record(key.as_bytes(), value.to_string().as_bytes(), &mut records);
        }
        value.min(limit)
    };
    // Seven and eleven octal digits.
    header.set_uid(number("uid", entry.meta.uid.into(), 0o7777777));
    header.set_gid(number("gid", entry.meta.gid.into(), 0o7777777));
    header.set_size(number("size", size, 0o77777777777));
    if let Some(ustar) = header.as_ustar_mut() {
        if !split(&name, &mut ustar.prefix, &mut ustar.name) {
            record(b"path", &name, &mut records);
            ustar.name.copy_from_slice(&name[..100]);
        }
        if let Some(link) = link {
            let fits = link.len() <= ustar.linkname.len();
            if !fits {
                record(b"linkpath", link, &mut records);
            }
            let part = link.len().min(ustar.linkname.len());
            ustar.linkname[..part].copy_from_slice(&link[..part]);
        }
    }
    for (name, value) in &entry.meta.xattrs {
        record(&[b"SCHILY.xattr.", &**name].concat(), value, &mut records);
    }
    header.set_cksum();
    let mut out = Vec::with_capacity(BLOCK);
    if !records.is_empty() {
        let mut extension = Header::new_ustar();
        extension.set_entry_type(EntryType::XHeader);
        extension.set_mode(0o644);
        extension.set_mtime(mtime);
        extension.set_uid(0);
        extension.set_gid(0);
        extension.set_size(records.len() as u64);
        if let Some(ustar) = extension.as_ustar_mut() {
            ustar.name[..9].copy_from_slice(b"PaxHeader");
        }
        extension.set_cksum();
        out.extend_from_slice(extension.as_bytes());
        out.extend_from_slice(&records);
        out.resize(out.len().next_multiple_of(BLOCK), 0);
    }
    out.extend_from_slice(header.as_bytes());
    Ok(out)
}

/// Puts a name into ustar's two fields, as far back as possible into the second; `false` when it does not fit.
fn split(name: &[u8], prefix: &mut [u8; 155], field: &mut [u8; 100]) -> bool {
    if name.len() <= field.len() {
        field[..name.len()].copy_from_slice(name);
        return true;
    }
    // A directory's own slash at the end is no place to split.
    let slashes = (0..name.len() - 1).filter(|&at| name[at] == b'/');
    let fits = |&at: &usize| at <= prefix.len() && name.len() - at - 1 <= field.len();
    let Some(at) = slashes.into_iter().find(fits) else {
        return false;
    };
    prefix[..at].copy_from_slice(&name[..at]);
    field[..name.len() - at - 1].copy_from_slice(&name[at + 1..]);
    true
}

/// Appends a pax record, whose length counts its own digits.
fn record(key: &[u8], value: &[u8], out: &mut Vec<u8>) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while rest + length.to_string().len() != length {
        length = rest + length.to_string().len();
    }
    out.extend_from_slice(length.to_string().as_bytes());
    out.push(b' ');
    out.extend_from_slice(key);
    out.push(b'=');
    out.extend_from_slice(value);
    out.push(b'\n');
}
