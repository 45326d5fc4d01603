//! The index file, version 1. Numbers are little-endian, texts UTF-8, digests SHA-256 (32 bytes).
//!
//! ```text
//! file     = magic block* section{5} trailer
//! magic    = "envd debian idx\n"
//! block    = entry{n} text                      n packages in order of their names, about 64 KiB together
//! entry    = start:u32 end:u32{15} sha256 size:u64 installed:u64 flags:u32
//! section  = names | summaries | provides | blocks | essential, in this order
//! trailer  = version:u32 records:u32 (offset:u64 length:u64 digest){5} digest magic
//! ```
//!
//! * An entry's texts lie one behind the other in its block's `text`: the first from `start`, each next one from the end of
//!   the one before; an `end` counts from `start`. They are, in order: Version, Architecture, Section, Priority, Source,
//!   Depends, Pre-Depends, Recommends, Suggests, Conflicts, Breaks, Replaces, Provides, Filename, and the first line of
//!   Description. A field that is not there is empty. `size` is in bytes, `installed` in KiB.
//! * `flags`: bit 0 is Essential, bits 1 and 2 are Multi-Arch (0 none, 1 same, 2 foreign, 3 allowed).
//! * `names` and `summaries` are string tables with one text a record: `count:u32 end:u32{count} text`.
//! * `provides` is a string table of the provided names, sorted, then `end:u32{count}` into a list of record numbers, then
//!   that list, which each name's part of is sorted. The lengths precede: `table:u32 listed:u32`.
//! * `blocks` is one `offset:u64 length:u32 first:u32 records:u32 digest` a block, `first` being a record number.
//! * `essential` is a list of record numbers.
//! * A digest is that of the block or section it stands with; the trailer's own covers the trailer before it.
//!
//! A reader that knows another version builds the file anew, so that nothing has to be migrated.

use envd_store::Digest;

pub(super) const MAGIC: &[u8; 16] = b"envd debian idx\n";
pub(super) const VERSION: u32 = 1;

/// How many texts an entry has.
pub(super) const TEXTS: usize = 15;
pub(super) const ENTRY_LENGTH: usize = 4 + 4 * TEXTS + 32 + 8 + 8 + 4;
pub(super) const BLOCK_ENTRY_LENGTH: usize = 8 + 4 + 4 + 4 + 32;
const SECTIONS: usize = 5;
pub(super) const TRAILER_LENGTH: usize = 8 + SECTIONS * 48 + 32 + 16;

/// When a block is full.
pub(super) const BLOCK_TARGET: usize = 64 << 10;

pub(super) const FLAG_ESSENTIAL: u32 = 1;
pub(super) const SHIFT_MULTI_ARCH: u32 = 1;

#[derive(Clone, Copy)]
pub(super) enum SectionKind {
    Names,
    Summaries,
    Provides,
    Blocks,
    Essential,
}

pub(super) struct Section {
    pub(super) offset: u64,
    pub(super) length: u64,
    pub(super) sha256: Digest,
}

pub(super) struct Trailer {
    pub(super) records: u32,
    pub(super) sections: [Section; SECTIONS],
}

impl Trailer {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(TRAILER_LENGTH);
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend(self.records.to_le_bytes());
        for section in &self.sections {
            bytes.extend(section.offset.to_le_bytes());
            bytes.extend(section.length.to_le_bytes());
            bytes.extend(section.sha256.as_bytes());
        }
        let digest = Digest::of(&bytes);
        bytes.extend(digest.as_bytes());
        bytes.extend(MAGIC);
        bytes
    }

    /// Reads the last [`TRAILER_LENGTH`] bytes of a file that is `length` bytes long.
    pub(super) fn decode(bytes: &[u8], length: u64) -> Result<Self, &'static str> {
        let mut fields = Fields { bytes };
        let signed = bytes.len().saturating_sub(32 + MAGIC.len());
        let short = "it is cut short";
        let version = fields.u32().ok_or(short)?;
        let records = fields.u32().ok_or(short)?;
        let mut section = || {
            Some(Section {
                offset: fields.u64()?,
                length: fields.u64()?,
                sha256: fields.digest()?,
            })
        };
        let sections = [section(), section(), section(), section(), section()];
        let digest = fields.digest().ok_or(short)?;
        if fields.bytes != MAGIC {
            return Err("it does not end as an index does");
        }
        if digest != Digest::of(&bytes[..signed]) {
            return Err("its last part has another digest than when it was written");
        }
        if version != VERSION {
            return Err("it is of another version");
        }
        let [Some(a), Some(b), Some(c), Some(d), Some(e)] = sections else {
            return Err(short);
        };
        let sections = [a, b, c, d, e];
        let end = length.saturating_sub(TRAILER_LENGTH as u64);
        let mut at = sections[0].offset;
        for section in &sections {
            if section.offset != at {
                return Err("its sections do not follow each other");
            }
            at = at.saturating_add(section.length);
        }
        match at == end && sections[0].offset >= MAGIC.len() as u64 {
            true => Ok(Self { records, sections }),
            false => Err("its sections do not fill it"),
        }
    }
}

pub(super) struct BlockEntry {
    pub(super) offset: u64,
    pub(super) length: u32,
    pub(super) first: u32,
    pub(super) records: u32,
    pub(super) sha256: Digest,
}

impl BlockEntry {
    pub(super) fn encode(&self, into: &mut Vec<u8>) {
        into.extend(self.offset.to_le_bytes());
        into.extend(self.length.to_le_bytes());
        into.extend(self.first.to_le_bytes());
        into.extend(self.records.to_le_bytes());
        into.extend(self.sha256.as_bytes());
    }
}

pub(super) fn decode_blocks(bytes: &[u8]) -> Option<Vec<BlockEntry>> {
    let mut fields = Fields { bytes };
    let mut blocks = Vec::with_capacity(bytes.len() / BLOCK_ENTRY_LENGTH);
    while !fields.bytes.is_empty() {
        blocks.push(BlockEntry {
            offset: fields.u64()?,
            length: fields.u32()?,
            first: fields.u32()?,
            records: fields.u32()?,
            sha256: fields.digest()?,
        });
    }
    Some(blocks)
}

/// Whether the blocks hold all records in order, and lie one behind the other before the sections.
pub(super) fn blocks_are_sound(blocks: &[BlockEntry], trailer: &Trailer) -> bool {
    let mut offset = MAGIC.len() as u64;
    let mut first = 0;
    for block in blocks {
        let entries = u64::from(block.records) * ENTRY_LENGTH as u64;
        if block.offset != offset || block.first != first || u64::from(block.length) < entries {
            return false;
        }
        offset = offset.saturating_add(block.length.into());
        match first.checked_add(block.records) {
            Some(next) if next > first => first = next,
            _ => return false,
        }
    }
    first == trailer.records && offset == trailer.sections[0].offset
}

pub(super) fn decode_u32s(bytes: &[u8]) -> Option<Vec<u32>> {
    let (numbers, rest) = bytes.as_chunks::<4>();
    rest.is_empty()
        .then(|| numbers.iter().map(|n| u32::from_le_bytes(*n)).collect())
}

/// Takes numbers from the front of some bytes.
pub(super) struct Fields<'a> {
    pub(super) bytes: &'a [u8],
}

impl<'a> Fields<'a> {
    fn array<const N: usize>(&mut self) -> Option<&'a [u8; N]> {
        let (array, rest) = self.bytes.split_first_chunk()?;
        self.bytes = rest;
        Some(array)
    }

    pub(super) fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(length)?;
        self.bytes = rest;
        Some(taken)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(|bytes| u32::from_le_bytes(*bytes))
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(|bytes| u64::from_le_bytes(*bytes))
    }

    pub(super) fn digest(&mut self) -> Option<Digest> {
        self.array().map(|bytes| Digest::from_bytes(*bytes))
    }
}
