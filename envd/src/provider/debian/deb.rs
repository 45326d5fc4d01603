//! A .deb as a tree (deb(5)): `control/…` and `data/…` side by side, so that whoever composes a root decides what of the
//! package manager's own data goes into it.
//!
//! Paths of the data member are canonicalised as if `/bin`, `/sbin` and `/lib*` were links into `/usr`, as they are on
//! every Debian system since bookworm. `control/list` is made here: the paths as the archive had them, one a line, the way
//! dpkg keeps them. Nothing of the package is run.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, BufReader, Read, Seek, SeekFrom},
    path::Path,
};

use envd_store::{Digest, Entry, Meta, Node, Session, Tree, TreePath, ingest};

/// Most bytes one package may unpack to. The largest package of Debian 13, 0ad-data, has 3.4 GB.
const UNPACKED_MAX: u64 = 16 << 30;
/// Most entries one package may have. The largest of Debian 13 has 82,000.
const ENTRIES_MAX: usize = 1_000_000;
/// Most bytes of a control member: scripts and lists of checksums.
const CONTROL_MAX: u64 = 64 << 20;

/// What is wrong with a .deb.
#[derive(Debug, thiserror::Error)]
pub enum DebError {
    /// It could not be read.
    #[error("cannot read the package file")]
    Read(#[source] io::Error),
    /// It is not the file that was locked.
    #[error(
        "its SHA-256 is {found}, not {expected}; it was removed, run the command again to fetch it again"
    )]
    Digest {
        /// As locked.
        expected: Digest,
        /// As found.
        found: Digest,
    },
    /// The outer `ar` archive is broken.
    #[error("not a Debian package: {0}")]
    Format(String),
    /// A member is compressed with something we do not know.
    #[error("member {0:?} is compressed in a way envd does not know (known: none, gzip, xz, zstd)")]
    Compression(String),
    /// A member's archive cannot be taken in.
    #[error("cannot unpack member {member:?}")]
    Unpack {
        /// The member of the outer archive.
        member: String,
        /// Why.
        #[source]
        source: ingest::IngestError,
    },
    /// The two halves do not make a tree.
    #[error("the package's contents make no valid tree")]
    Tree(#[from] envd_store::TreeError),
    /// The store could not take the generated list of files.
    #[error("cannot store the package's list of files")]
    Store(#[from] envd_store::StoreError),
}

/// Takes the package at `path` into the store and says what it holds. Its digest was checked by whoever fetched it.
pub fn unpack(session: &Session, path: &Path) -> Result<Tree, DebError> {
    let control = control(session, path)?;
    unpack_rest(session, path, &control)
}

/// Takes in the package's control data alone, a thousandth of the whole: a tree of `control/…`.
pub fn control(session: &Session, path: &Path) -> Result<Tree, DebError> {
    let mut file = File::open(path).map_err(DebError::Read)?;
    let member = only(&members(&mut file)?, "control.tar")?;
    member.unpack(session, &file, CONTROL_MAX, &mut |path| {
        path_below("control", &path)
    })
}

/// Takes in the rest of a package whose control data is there.
pub fn unpack_rest(session: &Session, path: &Path, control: &Tree) -> Result<Tree, DebError> {
    let mut file = File::open(path).map_err(DebError::Read)?;
    let member = only(&members(&mut file)?, "data.tar")?;
    let mut listed = BTreeSet::new();
    let data = member.unpack(session, &file, UNPACKED_MAX, &mut |path| {
        listed.insert(path.as_bytes().to_vec());
        path_below("data", &merged_usr(path)?)
    })?;

    let mut list = b"/.\n".to_vec();
    for path in listed {
        list.push(b'/');
        list.extend(path);
        list.push(b'\n');
    }
    let (digest, size) = session.put(&list, 0o644)?;
    let mut builder = Tree::builder();
    for (path, entry) in control.iter().chain(data.iter()) {
        builder.insert(path.clone(), entry.clone())?;
    }
    let meta = Meta {
        mode: 0o644,
        ..Meta::default()
    };
    let list_path = path_below("control", &fixed("list")).unwrap_or_else(|| fixed("control/list"));
    builder.insert(
        list_path,
        Entry {
            meta,
            node: Node::File { digest, size },
        },
    )?;
    Ok(builder.finish()?)
}

/// The one member whose name begins so.
fn only(members: &[Member], stem: &str) -> Result<Member, DebError> {
    let found: Vec<&Member> = members
        .iter()
        .filter(|m| m.name.starts_with(stem))
        .collect();
    match found[..] {
        [member] => Ok(member.clone()),
        [] => Err(DebError::Format(format!("it has no member {stem}.*"))),
        _ => Err(DebError::Format(format!(
            "it has more than one member {stem}.*"
        ))),
    }
}

fn fixed(path: &str) -> TreePath {
    TreePath::new(path.as_bytes()).expect("a constant of this module is a valid path")
}

fn path_below(directory: &str, path: &TreePath) -> Option<TreePath> {
    TreePath::new(&[directory.as_bytes(), b"/", path.as_bytes()].concat()).ok()
}

/// The top-level directories that are links into `/usr`.
pub const MERGED: [&str; 6] = ["bin", "sbin", "lib", "lib32", "lib64", "libx32"];

/// Where a path of a package really lies. `None` for the links (or old directories) themselves, which composing makes.
pub(crate) fn merged_usr(path: TreePath) -> Option<TreePath> {
    let bytes = path.as_bytes();
    let first = bytes.split(|&b| b == b'/').next().unwrap_or(bytes);
    if !MERGED.iter().any(|name| name.as_bytes() == first) {
        return Some(path);
    }
    if first.len() == bytes.len() {
        None
    } else {
        path_below("usr", &path)
    }
}

/// A member of the outer archive and where it lies.
#[derive(Clone, Debug)]
struct Member {
    name: String,
    offset: u64,
    size: u64,
}

impl Member {
    fn unpack(
        &self,
        session: &Session,
        file: &File,
        bytes: u64,
        mapper: &mut dyn FnMut(TreePath) -> Option<TreePath>,
    ) -> Result<Tree, DebError> {
        let mut file = file;
        file.seek(SeekFrom::Start(self.offset))
            .map_err(DebError::Read)?;
        let packed = BufReader::with_capacity(256 * 1024, file.take(self.size));
        let limits = ingest::Limits {
            entries: ENTRIES_MAX,
            bytes,
        };
        let suffix = self
            .name
            .split_once(".tar")
            .map_or("", |(_, suffix)| suffix);
        let unpacked: Box<dyn Read> = match suffix {
            "" => Box::new(packed),
            ".gz" => Box::new(flate2::bufread::MultiGzDecoder::new(packed)),
            ".xz" => {
                // Its checksums would find nothing: the whole file's SHA-256 was just compared.
                let flags = liblzma::stream::CONCATENATED | liblzma::stream::IGNORE_CHECK;
                let decoder = liblzma::stream::Stream::new_stream_decoder(u64::MAX, flags)
                    .map_err(|e| DebError::Read(e.into()))?;
                Box::new(liblzma::bufread::XzDecoder::new_stream(packed, decoder))
            }
            ".zst" => Box::new(zstd::Decoder::with_buffer(packed).map_err(DebError::Read)?),
            _ => return Err(DebError::Compression(self.name.clone())),
        };
        ingest::tar(session, unpacked, &limits, mapper).map_err(|source| DebError::Unpack {
            member: self.name.clone(),
            source,
        })
    }
}

/// Reads the outer archive (ar(5), the plain variant that deb(5) allows).
fn members(file: &mut File) -> Result<Vec<Member>, DebError> {
    let length = file.metadata().map_err(DebError::Read)?.len();
    let broken = |what: &str| DebError::Format(what.to_owned());
    let mut magic = [0; 8];
    file.read_exact(&mut magic)
        .map_err(|_| broken("it is shorter than an ar archive's first line"))?;
    if &magic != b"!<arch>\n" {
        return Err(broken("it does not begin like an ar archive"));
    }
    let mut members = Vec::new();
    let mut offset = 8;
    while offset < length {
        let mut header = [0; 60];
        file.seek(SeekFrom::Start(offset)).map_err(DebError::Read)?;
        file.read_exact(&mut header)
            .map_err(|_| broken("it ends within a member's header"))?;
        if &header[58..] != b"`\n" {
            return Err(broken("a member's header does not end as it must"));
        }
        let text =
            |range: std::ops::Range<usize>| std::str::from_utf8(&header[range]).map(str::trim_end);
        let name = text(0..16).map_err(|_| broken("a member's name is not ASCII"))?;
        let name = name.strip_suffix('/').unwrap_or(name).to_owned();
        let size: u64 = text(48..58)
            .ok()
            .and_then(|digits| digits.parse().ok())
            .ok_or_else(|| DebError::Format(format!("member {name:?} has no readable size")))?;
        offset += 60;
        if size > length - offset {
            return Err(DebError::Format(format!(
                "member {name:?} is said to be longer than the file"
            )));
        }
        members.push(Member { name, offset, size });
        if members.len() > 16 {
            return Err(broken("it has more than 16 members"));
        }
        offset += size + size % 2;
    }
    match members.first() {
        Some(first) if first.name == "debian-binary" => {
            let mut version = String::new();
            file.seek(SeekFrom::Start(first.offset))
                .map_err(DebError::Read)?;
            file.take(first.size.min(16))
                .read_to_string(&mut version)
                .map_err(DebError::Read)?;
            if !version.starts_with("2.") {
                return Err(DebError::Format(format!(
                    "format version {:?} is not 2.x",
                    version.trim_end()
                )));
            }
        }
        _ => return Err(broken("its first member is not debian-binary")),
    }
    Ok(members)
}
