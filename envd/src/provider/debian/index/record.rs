//! One package of an index, read where it lies.

use envd_store::Digest;

use super::format::{ENTRY_LENGTH, FLAG_ESSENTIAL, Fields, SHIFT_MULTI_ARCH, TEXTS};

/// The number of a package within its index.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RecordId(pub(super) u32);

impl RecordId {
    /// The record at a place in the index's tables, of which there are at most `u32::MAX`.
    pub(in crate::provider::debian) fn of(place: usize) -> Self {
        Self(place as u32)
    }

    /// As a plain number, from 0.
    pub fn number(self) -> u32 {
        self.0
    }
}

/// Whether a package of one architecture may meet a need of another (Multi-Arch).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum MultiArch {
    /// It says nothing.
    #[default]
    No,
    /// Installable beside itself of another architecture.
    Same,
    /// Meets needs of any architecture.
    Foreign,
    /// Meets needs of any architecture where they say so.
    Allowed,
}

/// Some packages, decoded.
pub(super) struct Block {
    entries: Box<[u8]>,
    text: Box<str>,
}

impl Block {
    /// `None` for what no block was encoded as; afterwards nothing in it can be out of bounds.
    pub(super) fn decode(mut bytes: Vec<u8>, records: u32) -> Option<Self> {
        let split = (records as usize).checked_mul(ENTRY_LENGTH)?;
        if bytes.len() < split {
            return None;
        }
        let text = String::from_utf8(bytes.split_off(split)).ok()?;
        for entry in bytes.chunks_exact(ENTRY_LENGTH) {
            let mut fields = Fields { bytes: entry };
            let start = fields.u32()? as usize;
            let mut last = start;
            if !text.is_char_boundary(start) {
                return None;
            }
            for _ in 0..TEXTS {
                let end = start.checked_add(fields.u32()? as usize)?;
                if end < last || !text.is_char_boundary(end) {
                    return None;
                }
                last = end;
            }
        }
        Some(Self {
            entries: bytes.into_boxed_slice(),
            text: text.into_boxed_str(),
        })
    }
}

/// A package at a version. Its texts are those of the archive, on one line each, and empty where it has none.
#[derive(Clone, Copy)]
pub struct Record<'a> {
    pub(super) name: &'a str,
    pub(super) block: &'a Block,
    pub(super) at: usize,
    pub(super) id: RecordId,
}

/// Which text of an entry, in the order of the format.
#[derive(Clone, Copy)]
pub(super) enum Text {
    Version,
    Architecture,
    Section,
    Priority,
    Source,
    Depends,
    PreDepends,
    Recommends,
    Suggests,
    Conflicts,
    Breaks,
    Replaces,
    Provides,
    Filename,
    Description,
}

impl<'a> Record<'a> {
    fn entry(&self) -> &'a [u8] {
        &self.block.entries[self.at * ENTRY_LENGTH..][..ENTRY_LENGTH]
    }

    fn number(&self, at: usize) -> usize {
        let mut fields = Fields {
            bytes: &self.entry()[at * 4..],
        };
        fields.u32().unwrap_or(0) as usize
    }

    fn text(&self, which: Text) -> &'a str {
        let which = which as usize;
        let start = self.number(0);
        let from = match which {
            0 => 0,
            _ => self.number(which),
        };
        &self.block.text[start + from..start + self.number(which + 1)]
    }

    fn after_texts(&self) -> Fields<'a> {
        Fields {
            bytes: &self.entry()[4 + 4 * TEXTS..],
        }
    }

    fn flags(&self) -> u32 {
        let mut fields = Fields {
            bytes: &self.entry()[ENTRY_LENGTH - 4..],
        };
        fields.u32().unwrap_or(0)
    }

    /// Its number within the index.
    pub fn id(&self) -> RecordId {
        self.id
    }

    /// Package.
    pub fn name(&self) -> &'a str {
        self.name
    }

    /// Version.
    pub fn version(&self) -> &'a str {
        self.text(Text::Version)
    }

    /// Architecture: `amd64`, or `all` for any.
    pub fn architecture(&self) -> &'a str {
        self.text(Text::Architecture)
    }

    /// Section, such as `python`.
    pub fn section(&self) -> &'a str {
        self.text(Text::Section)
    }

    /// Priority, such as `optional`.
    pub fn priority(&self) -> &'a str {
        self.text(Text::Priority)
    }

    /// The name of the source package.
    pub fn source(&self) -> &'a str {
        match self.text(Text::Source).split_once(' ') {
            Some((name, _)) => name,
            None if self.text(Text::Source).is_empty() => self.name,
            None => self.text(Text::Source),
        }
    }

    /// The version of the source package.
    pub fn source_version(&self) -> &'a str {
        self.text(Text::Source)
            .split_once(' ')
            .map_or(self.version(), |(_, version)| {
                version.trim_matches(['(', ')', ' '])
            })
    }

    /// Depends.
    pub fn depends(&self) -> &'a str {
        self.text(Text::Depends)
    }

    /// Pre-Depends.
    pub fn pre_depends(&self) -> &'a str {
        self.text(Text::PreDepends)
    }

    /// Recommends.
    pub fn recommends(&self) -> &'a str {
        self.text(Text::Recommends)
    }

    /// Suggests.
    pub fn suggests(&self) -> &'a str {
        self.text(Text::Suggests)
    }

    /// Conflicts.
    pub fn conflicts(&self) -> &'a str {
        self.text(Text::Conflicts)
    }

    /// Breaks.
    pub fn breaks(&self) -> &'a str {
        self.text(Text::Breaks)
    }

    /// Replaces.
    pub fn replaces(&self) -> &'a str {
        self.text(Text::Replaces)
    }

    /// Provides.
    pub fn provides(&self) -> &'a str {
        self.text(Text::Provides)
    }

    /// Its path below the archive's base address; never leaves it.
    pub fn filename(&self) -> &'a str {
        self.text(Text::Filename)
    }

    /// The first line of Description.
    pub fn description(&self) -> &'a str {
        self.text(Text::Description)
    }

    /// SHA-256 of the .deb.
    pub fn sha256(&self) -> Digest {
        let digest = self.after_texts().digest();
        digest.unwrap_or(Digest::from_bytes([0; 32]))
    }

    /// Bytes of the .deb.
    pub fn size(&self) -> u64 {
        let mut fields = self.after_texts();
        fields.take(32);
        fields.u64().unwrap_or(0)
    }

    /// KiB when unpacked, as the archive estimates them; 0 where it does not.
    pub fn installed_size(&self) -> u64 {
        let mut fields = self.after_texts();
        fields.take(40);
        fields.u64().unwrap_or(0)
    }

    /// Essential: every system has it.
    pub fn is_essential(&self) -> bool {
        self.flags() & FLAG_ESSENTIAL != 0
    }

    /// Multi-Arch.
    pub fn multi_arch(&self) -> MultiArch {
        match self.flags() >> SHIFT_MULTI_ARCH & 3 {
            1 => MultiArch::Same,
            2 => MultiArch::Foreign,
            3 => MultiArch::Allowed,
            _ => MultiArch::No,
        }
    }
}

impl std::fmt::Debug for Record<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} {} {}",
            self.name(),
            self.version(),
            self.architecture()
        )
    }
}
