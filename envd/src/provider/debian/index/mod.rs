//! The packages of one index in a form that opens instantly: `indexes/<sha256 of Packages>.idx`.
//!
//! A Packages text of 65 MB takes a second to decompress and read, and every command wants three packages of it. So it is
//! read once ([`build`](Index::build)) into the file that `format.rs` specifies: opening it reads the sorted names (a few
//! megabytes), a lookup is a binary search, and records are read by blocks of 64 KiB when something asks for one.
//! Everything read is checked against a SHA-256 in the file, so that a damaged cache is an error and never a wrong answer;
//! whoever meets [`IndexError::Corrupt`] builds the file again.

mod build;
mod format;
mod record;
mod table;
#[cfg(test)]
mod tests;

use std::{
    fs::File,
    io::{self, Read, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::OnceLock,
};

pub(super) use self::table::StringTable;
pub use self::{
    build::Built,
    record::{MultiArch, Record, RecordId},
};
use self::{
    format::{BlockEntry, SectionKind, Trailer},
    record::Block,
    table::ProvidesTable,
};
use super::control::ControlError;

/// An index that cannot be made or read.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// The Packages text could not be read.
    #[error("cannot read the list of packages")]
    Read(#[source] io::Error),
    /// The Packages text is malformed.
    #[error("the list of packages is malformed")]
    Control(#[source] ControlError),
    /// A package is described in a way that cannot be used.
    #[error("the list of packages, line {line}, package {package:?}: {problem}")]
    Package {
        /// The name it gives itself, which may be what is wrong; empty if it has none.
        package: String,
        /// Line of the Packages text, from 1.
        line: u64,
        /// What is wrong there.
        problem: String,
    },
    /// There is more in it than the format holds.
    #[error("the list of packages is larger than 4 GiB")]
    TooLarge,
    /// The index file could not be written.
    #[error("cannot write the package index")]
    Write(#[source] io::Error),
    /// The index file could not be opened or read.
    #[error("cannot read the package index {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The index file is damaged, or of another version.
    #[error("the package index {} is damaged ({problem}); it is made anew by \"envd update\"", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
    },
}

/// An open index. Cheap to open, safe to share between threads.
pub struct Index {
    path: PathBuf,
    file: File,
    trailer: Trailer,
    names: StringTable,
    blocks: Vec<BlockEntry>,
    loaded: Vec<OnceLock<Block>>,
    summaries: OnceLock<StringTable>,
    provides: OnceLock<ProvidesTable>,
}

impl Index {
    /// Reads a Packages text and writes its index.
    pub fn build(packages: impl Read, out: &mut impl Write) -> Result<Built, IndexError> {
        build::build(packages, out)
    }

    /// Opens an index file.
    pub fn open(path: &Path) -> Result<Self, IndexError> {
        let failed = |source| IndexError::Open {
            path: path.to_owned(),
            source,
        };
        let file = File::open(path).map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        let reader = Reader { path, file: &file };
        let trailer = reader.trailer(length)?;
        let names = reader.strings(&trailer, SectionKind::Names)?;
        let blocks = format::decode_blocks(&reader.section(&trailer, SectionKind::Blocks)?)
            .ok_or_else(|| reader.corrupt("its blocks do not add up"))?;
        let sound = names.len() == trailer.records as usize
            && names.is_sorted()
            && format::blocks_are_sound(&blocks, &trailer);
        if !sound {
            return Err(reader.corrupt("its tables do not add up"));
        }
        Ok(Self {
            path: path.to_owned(),
            loaded: blocks.iter().map(|_| OnceLock::new()).collect(),
            file,
            trailer,
            names,
            blocks,
            summaries: OnceLock::new(),
            provides: OnceLock::new(),
        })
    }

    /// How many packages there are, counting each version.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The packages of exactly this name, in the order of the Packages text.
    pub fn named(&self, name: &str) -> Result<Vec<Record<'_>>, IndexError> {
        self.names
            .range_of(name)
            .map(|id| self.record(RecordId(id)))
            .collect()
    }

    /// Whether there is a package of exactly this name.
    pub fn contains(&self, name: &str) -> bool {
        !self.names.range_of(name).is_empty()
    }

    /// The packages whose Provides mention this name, whatever the version, in order of their names.
    pub fn providing(&self, name: &str) -> Result<Vec<Record<'_>>, IndexError> {
        self.provides()?
            .providers(name)
            .map(|id| self.record(RecordId(id)))
            .collect()
    }

    /// The packages that every system has.
    pub fn essential(&self) -> Result<Vec<Record<'_>>, IndexError> {
        let section = self
            .reader()
            .section(&self.trailer, SectionKind::Essential)?;
        format::decode_u32s(&section)
            .ok_or_else(|| {
                self.reader()
                    .corrupt("its list of essential packages is odd")
            })?
            .into_iter()
            .map(|id| self.record(RecordId(id)))
            .collect()
    }

    /// Every package, in order of its name.
    pub fn records(&self) -> Result<impl Iterator<Item = Record<'_>>, IndexError> {
        for at in 0..self.blocks.len() {
            self.block(at)?;
        }
        let with_blocks = self.blocks.iter().zip(&self.loaded);
        Ok(with_blocks.flat_map(move |(entry, block)| {
            let block = block.get();
            (0..entry.records).filter_map(move |at| {
                Some(Record {
                    name: self.names.get((entry.first + at) as usize),
                    block: block?,
                    at: at as usize,
                    id: RecordId(entry.first + at),
                })
            })
        }))
    }

    /// The package of that number. Numbers stay the same as long as the file does.
    pub fn record(&self, id: RecordId) -> Result<Record<'_>, IndexError> {
        let at = self
            .blocks
            .partition_point(|block| block.first <= id.0)
            .saturating_sub(1);
        let within = self
            .blocks
            .get(at)
            .map(|block| id.0.wrapping_sub(block.first))
            .filter(|within| *within < self.blocks[at].records)
            .ok_or_else(|| {
                self.reader()
                    .corrupt("it names a package that is not there")
            })?;
        Ok(Record {
            name: self.names.get(id.0 as usize),
            block: self.block(at)?,
            at: within as usize,
            id,
        })
    }

    /// The name of each record, in order; a name with several versions comes as often.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.names.iter()
    }

    /// Names and the first lines of descriptions, for [`search`](super::search).
    pub(super) fn searchable(&self) -> Result<(&StringTable, &StringTable), IndexError> {
        if let Some(summaries) = self.summaries.get() {
            return Ok((&self.names, summaries));
        }
        let table = self
            .reader()
            .strings(&self.trailer, SectionKind::Summaries)?;
        if table.len() != self.names.len() {
            return Err(self.reader().corrupt("its descriptions do not add up"));
        }
        // Another thread may have been first; its table is the same.
        Ok((&self.names, self.summaries.get_or_init(|| table)))
    }

    /// Reads and checks the whole file.
    pub fn verify(&self) -> Result<(), IndexError> {
        self.searchable()?;
        self.provides()?;
        self.essential()?;
        (0..self.blocks.len()).try_for_each(|at| self.block(at).map(|_| ()))
    }

    fn provides(&self) -> Result<&ProvidesTable, IndexError> {
        if let Some(table) = self.provides.get() {
            return Ok(table);
        }
        let section = self
            .reader()
            .section(&self.trailer, SectionKind::Provides)?;
        let table = ProvidesTable::decode(&section, self.trailer.records)
            .ok_or_else(|| self.reader().corrupt("its provided names do not add up"))?;
        Ok(self.provides.get_or_init(|| table))
    }

    fn block(&self, at: usize) -> Result<&Block, IndexError> {
        let slot = &self.loaded[at];
        if let Some(block) = slot.get() {
            return Ok(block);
        }
        let entry = &self.blocks[at];
        let bytes = self
            .reader()
            .checked(entry.offset, entry.length.into(), &entry.sha256)?;
        let block = Block::decode(bytes, entry.records)
            .ok_or_else(|| self.reader().corrupt("its records do not add up"))?;
        Ok(slot.get_or_init(|| block))
    }

    fn reader(&self) -> Reader<'_> {
        Reader {
            path: &self.path,
            file: &self.file,
        }
    }
}

impl std::fmt::Debug for Index {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Index({}, {} packages)", self.path.display(), self.len())
    }
}

/// Reads parts of the file and refuses what is not what was written.
struct Reader<'a> {
    path: &'a Path,
    file: &'a File,
}

impl Reader<'_> {
    fn corrupt(&self, problem: &'static str) -> IndexError {
        IndexError::Corrupt {
            path: self.path.to_owned(),
            problem,
        }
    }

    fn bytes(&self, offset: u64, length: u64) -> Result<Vec<u8>, IndexError> {
        let mut bytes = vec![0; length as usize];
        match self.file.read_exact_at(&mut bytes, offset) {
            Ok(()) => Ok(bytes),
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
                Err(self.corrupt("it is cut short"))
            }
            Err(source) => Err(IndexError::Open {
                path: self.path.to_owned(),
                source,
            }),
        }
    }

    fn checked(
        &self,
        offset: u64,
        length: u64,
        sha256: &envd_store::Digest,
    ) -> Result<Vec<u8>, IndexError> {
        let bytes = self.bytes(offset, length)?;
        match envd_store::Digest::of(&bytes) == *sha256 {
            true => Ok(bytes),
            false => Err(self.corrupt("a part of it has another digest than when it was written")),
        }
    }

    fn trailer(&self, length: u64) -> Result<Trailer, IndexError> {
        let at = length
            .checked_sub(format::TRAILER_LENGTH as u64)
            .ok_or_else(|| self.corrupt("it is cut short"))?;
        let bytes = self.bytes(at, format::TRAILER_LENGTH as u64)?;
        Trailer::decode(&bytes, length).map_err(|problem| self.corrupt(problem))
    }

    fn section(&self, trailer: &Trailer, kind: SectionKind) -> Result<Vec<u8>, IndexError> {
        let section = &trailer.sections[kind as usize];
        self.checked(section.offset, section.length, &section.sha256)
    }

    fn strings(&self, trailer: &Trailer, kind: SectionKind) -> Result<StringTable, IndexError> {
        StringTable::decode(&self.section(trailer, kind)?)
            .ok_or_else(|| self.corrupt("a table of texts does not add up"))
    }
}
