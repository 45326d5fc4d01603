//! A tar stream as a tree.

use std::io::Read;

use tar::EntryType;

use super::{
    IngestError, content,
    member::{Member, Members},
};
use crate::{Entry, Meta, Node, PathError, Session, Tree, TreePath};

/// How much an archive may contain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Members.
    pub entries: usize,
    /// Bytes of content, all members together.
    pub bytes: u64,
}

impl Default for Limits {
    /// Ten times the largest package of Debian's archive.
    fn default() -> Self {
        Self {
            entries: 1_000_000,
            bytes: 32 << 30,
        }
    }
}

/// Reads a tar stream (already decompressed) into the store and returns its tree, which is not yet [added](Session::add_tree).
/// `mapper` says where each path goes, or `None` to leave it out; hard links' targets pass through it, too. A leading `./` is not part
/// of a name. Several threads may do this on one session.
pub fn tar(
    session: &Session,
    reader: impl Read,
    limits: &Limits,
    mapper: &mut dyn FnMut(TreePath) -> Option<TreePath>,
) -> Result<Tree, IngestError> {
    let mut members = Members::new(reader);
    let mut builder = Tree::builder();
    let mut buffer = Vec::new();
    let (mut count, mut bytes) = (0, 0u64);
    while let Some(member) = members.next()? {
        count += 1;
        if count > limits.entries {
            return Err(IngestError::TooMany {
                member: members.name,
                limit: limits.entries,
            });
        }
        bytes = bytes.saturating_add(member.size);
        if bytes > limits.bytes {
            return Err(IngestError::TooBig {
                member: members.name,
                limit: limits.bytes,
            });
        }
        let name = |source| IngestError::Name {
            member: String::from_utf8_lossy(&member.name)
                .chars()
                .take(300)
                .collect(),
            source,
        };
        let path = normal(&member.name).map_err(name)?.and_then(&mut *mapper);
        let Some(path) = path else {
            members.skip(member.size)?;
            members.end_content(member.size)?;
            continue;
        };
        let node = match member.kind {
            EntryType::Directory => Node::Directory,
            EntryType::Symlink => Node::Symlink {
                target: member.link.as_slice().into(),
            },
            EntryType::Link => match normal(&member.link).map_err(name)?.and_then(&mut *mapper) {
                Some(target) => Node::HardLink { target },
                None => {
                    return Err(IngestError::Header {
                        member: members.name,
                        problem: "is a hard link to something that is left out",
                    });
                }
            },
            EntryType::Regular | EntryType::Continuous => {
                let (digest, size) = content(
                    session,
                    &mut members.reader,
                    member.size,
                    member.mode,
                    &mut buffer,
                )
                .map_err(|error| IngestError::content(error, || members.name.clone()))?;
                members.end_content(size)?;
                Node::File { digest, size }
            }
            kind => {
                return Err(IngestError::Kind {
                    member: members.name,
                    kind: describe(kind),
                });
            }
        };
        let Member {
            mode,
            uid,
            gid,
            xattrs,
            ..
        } = member;
        let meta = Meta {
            mode,
            uid,
            gid,
            xattrs,
        };
        builder
            .insert(path, Entry { meta, node })
            .map_err(|source| IngestError::Member {
                member: members.name.clone(),
                source,
            })?;
    }
    builder.finish().map_err(IngestError::Tree)
}

/// A member's name as a path; `None` is the archive's root itself.
fn normal(mut name: &[u8]) -> Result<Option<TreePath>, PathError> {
    while let Some(rest) = name.strip_prefix(b"./") {
        name = rest;
    }
    let name = name.strip_suffix(b"/").unwrap_or(name);
    match name {
        b"" | b"." => Ok(None),
        _ => TreePath::new(name).map(Some),
    }
}

fn describe(kind: EntryType) -> &'static str {
    match kind {
        EntryType::Char => "character device",
        EntryType::Block => "block device",
        EntryType::Fifo => "FIFO",
        EntryType::GNUSparse => "sparse file",
        _ => "thing of unknown kind",
    }
}
