//! Members of a tar stream: ustar, GNU long names, pax records (POSIX.1-2017 pax(1), "ustar Interchange Format" and
//! "pax Interchange Format").
//!
//! Header fields are read by the `tar` crate; its own iterator is not used since it would read a long name or a pax record of any size
//! into memory, and ends quietly where a stream is cut short.

use std::io::{self, Read};

use tar::{EntryType, Header};

use super::IngestError;
use crate::tree::Xattrs;

const BLOCK: usize = 512;
/// Longest long name or pax record block, in bytes.
const EXTENSION_MAX: u64 = 1024 * 1024;

/// A member's header with all extensions applied.
pub(super) struct Member {
    pub(super) name: Vec<u8>,
    pub(super) link: Vec<u8>,
    pub(super) kind: EntryType,
    /// Bytes of content that follow.
    pub(super) size: u64,
    pub(super) mode: u16,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) xattrs: Xattrs,
}

/// A tar stream. The caller reads each member's content (`size` bytes) from `reader`, then calls [`end_content`](Self::end_content).
pub(super) struct Members<R> {
    pub(super) reader: io::BufReader<R>,
    /// For messages: the member at hand.
    pub(super) name: String,
}

/// What extension headers said about the next member.
#[derive(Default)]
struct Extensions {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    xattrs: Xattrs,
}

impl<R: Read> Members<R> {
    pub(super) fn new(reader: R) -> Self {
        Self {
            reader: io::BufReader::with_capacity(64 * 1024, reader),
            name: String::new(),
        }
    }

    /// The next member, or `None` at the end mark.
    pub(super) fn next(&mut self) -> Result<Option<Member>, IngestError> {
        let mut extensions = Extensions::default();
        loop {
            let mut block = [0; BLOCK];
            self.read(&mut block)?;
            if block == [0; BLOCK] {
                return Ok(None);
            }
            let header = Header::from_byte_slice(&block);
            let sum: u32 = block.iter().map(|&b| u32::from(b)).sum();
            let own: u32 = block[148..156].iter().map(|&b| u32::from(b)).sum();
            if header.cksum().ok() != Some(sum - own + 8 * u32::from(b' ')) {
                return Err(self.refuse("is followed by a header with a wrong checksum"));
            }
            match header.entry_type() {
                EntryType::GNULongName => extensions.name = Some(self.long_name(header)?),
                EntryType::GNULongLink => extensions.link = Some(self.long_name(header)?),
                EntryType::XHeader => {
                    let records = self.extension(header)?;
                    self.records(&records, |key, value| extensions.take(key, value))?;
                }
                EntryType::XGlobalHeader => {
                    let records = self.extension(header)?;
                    // What would change every later member is not understood; a comment is.
                    let harmless = |key: &[u8], _: &[u8]| match key {
                        b"path" | b"linkpath" | b"size" | b"uid" | b"gid" => {
                            Err("is followed by global records that rename")
                        }
                        _ => Ok(()),
                    };
                    self.records(&records, harmless)?;
                }
                kind => return self.member(header, kind, extensions).map(Some),
            }
        }
    }

    fn member(
        &mut self,
        header: &Header,
        kind: EntryType,
        extensions: Extensions,
    ) -> Result<Member, IngestError> {
        let name = extensions
            .name
            .unwrap_or_else(|| header.path_bytes().into_owned());
        self.name = String::from_utf8_lossy(&name).chars().take(300).collect();
        let link = extensions
            .link
            .or_else(|| header.link_name_bytes().map(std::borrow::Cow::into_owned));
        let id = |extension: Option<u64>, field: io::Result<u64>| extension.map_or(field, Ok);
        let owner = |id: io::Result<u64>| id.ok().and_then(|id| u32::try_from(id).ok());
        let uid = owner(id(extensions.uid, header.uid()))
            .ok_or_else(|| self.refuse("has an impossible owner"))?;
        let gid = owner(id(extensions.gid, header.gid()))
            .ok_or_else(|| self.refuse("has an impossible group"))?;
        let mode = header
            .mode()
            .map_err(|_| self.refuse("has an impossible mode"))?;
        let size = match extensions.size {
            Some(size) => size,
            // A first byte of 0xff is a negative number in base 256.
            None if header.as_bytes()[124] == 0xff => {
                return Err(self.refuse("has a negative size"));
            }
            None => header
                .entry_size()
                .map_err(|_| self.refuse("has an impossible size"))?,
        };
        // Before ustar a trailing slash was all that told a directory.
        let kind = match kind {
            EntryType::Regular | EntryType::Continuous if name.ends_with(b"/") => {
                EntryType::Directory
            }
            kind => kind,
        };
        if matches!(
            kind,
            EntryType::Link | EntryType::Symlink | EntryType::Directory
        ) && size != 0
        {
            return Err(self.refuse("is no regular file but has a size"));
        }
        Ok(Member {
            name,
            link: link.unwrap_or_default(),
            kind,
            size,
            mode: (mode & 0o7777) as u16,
            uid,
            gid,
            xattrs: extensions.xattrs,
        })
    }

    /// Skips what is left of a member's content.
    pub(super) fn skip(&mut self, bytes: u64) -> Result<(), IngestError> {
        let skipped = io::copy(&mut self.reader.by_ref().take(bytes), &mut io::sink());
        match skipped {
            Ok(skipped) if skipped == bytes => Ok(()),
            Ok(_) => Err(IngestError::Truncated {
                member: self.name.clone(),
            }),
            Err(source) => Err(IngestError::Read {
                member: self.name.clone(),
                source,
            }),
        }
    }

    /// Skips the filling of the last block of a content of `size` bytes.
    pub(super) fn end_content(&mut self, size: u64) -> Result<(), IngestError> {
        let filling = (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64;
        self.skip(filling)
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<(), IngestError> {
        self.reader
            .read_exact(buffer)
            .map_err(|source| match source.kind() {
                io::ErrorKind::UnexpectedEof => IngestError::Truncated {
                    member: self.name.clone(),
                },
                _ => IngestError::Read {
                    member: self.name.clone(),
                    source,
                },
            })
    }

    fn refuse(&self, problem: &'static str) -> IngestError {
        IngestError::Header {
            member: self.name.clone(),
            problem,
        }
    }

    /// The content of an extension header.
    fn extension(&mut self, header: &Header) -> Result<Vec<u8>, IngestError> {
        let size = header
            .entry_size()
            .ok()
            .filter(|&size| size <= EXTENSION_MAX);
        let size =
            size.ok_or_else(|| self.refuse("is followed by an extension header over 1 MiB"))?;
        let mut content = vec![0; usize::try_from(size).unwrap_or(0)];
        self.read(&mut content)?;
        self.end_content(size)?;
        Ok(content)
    }

    fn long_name(&mut self, header: &Header) -> Result<Vec<u8>, IngestError> {
        let mut name = self.extension(header)?;
        if name.last() == Some(&0) {
            name.pop();
        }
        Ok(name)
    }

    /// Calls `each` with the pax records `LENGTH KEY=VALUE\n` of an extension header. Values may contain anything.
    fn records(
        &self,
        mut text: &[u8],
        mut each: impl FnMut(&[u8], &[u8]) -> Result<(), &'static str>,
    ) -> Result<(), IngestError> {
        while !text.is_empty() {
            let (key, value, rest) =
                record(text).ok_or_else(|| self.refuse("is followed by broken pax records"))?;
            each(key, value).map_err(|problem| self.refuse(problem))?;
            text = rest;
        }
        Ok(())
    }
}

impl Extensions {
    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
        let number = || {
            std::str::from_utf8(value)
                .ok()
                .and_then(|text| text.parse().ok())
        };
        match key {
            b"path" => self.name = Some(value.to_vec()),
            b"linkpath" => self.link = Some(value.to_vec()),
            b"size" => {
                self.size = Some(number().ok_or("is followed by a member of impossible size")?)
            }
            b"uid" => {
                self.uid = Some(number().ok_or("is followed by a member of impossible owner")?)
            }
            b"gid" => {
                self.gid = Some(number().ok_or("is followed by a member of impossible group")?)
            }
            _ if key.starts_with(b"GNU.sparse.") => {
                return Err("is followed by a sparse member, which is not supported");
            }
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    if super::xattr::is_overlay(name) {
                        return Err("is followed by a member with an overlay's own attribute");
                    }
                    self.xattrs.insert(name.into(), value.into());
                }
            }
        }
        Ok(())
    }
}

fn record(text: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = text.iter().take(8).position(|&b| b == b' ')?;
    let length: usize = std::str::from_utf8(&text[..space]).ok()?.parse().ok()?;
    let record = text.get(space + 1..length)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|&b| b == b'=')?;
    Some((&record[..equals], &record[equals + 1..], &text[length..]))
}
