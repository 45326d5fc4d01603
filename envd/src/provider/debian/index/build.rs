//! From a Packages text to an index file, in one pass over the text.

use std::{
    io::{Read, Write},
    ops::Range,
};

use envd_store::Digest;

use super::{
    IndexError, MultiArch,
    format::{
        BLOCK_TARGET, BlockEntry, ENTRY_LENGTH, FLAG_ESSENTIAL, MAGIC, SHIFT_MULTI_ARCH, Section,
        TEXTS, Trailer,
    },
    record::Text,
    table::{ProvidesTable, StringTable},
};
use crate::provider::debian::{
    control::{Field, ReadError, Stanza, read_stanzas},
    release::is_plain_path,
};

/// What an index was made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Built {
    /// Packages, counting each version.
    pub records: u32,
    /// Bytes of the index file.
    pub bytes: u64,
}

/// A package between being read and being written.
struct Pending {
    name: Range<usize>,
    /// Where its texts start in the arena; the name comes before them.
    start: usize,
    ends: [u32; TEXTS],
    sha256: Digest,
    size: u64,
    installed: u64,
    flags: u32,
}

pub(super) fn build(packages: impl Read, out: &mut impl Write) -> Result<Built, IndexError> {
    let mut arena = String::new();
    let mut pending = Vec::new();
    read_stanzas(packages, |stanza| {
        pending.push(take(&stanza, &mut arena)?);
        Ok(())
    })
    .map_err(|e| match e {
        ReadError::Read(e) => IndexError::Read(e),
        ReadError::Control(e) => IndexError::Control(e),
        ReadError::Refused(e) => e,
    })?;
    // Stable, so that the versions of one name stay in the archive's order.
    pending.sort_by(|a, b| arena[a.name.clone()].cmp(&arena[b.name.clone()]));
    write(&arena, &pending, out)
}

/// Every field that an index keeps, as slices of the stanza.
#[derive(Default)]
struct Picked<'a> {
    name: Option<&'a str>,
    texts: [Option<&'a str>; TEXTS],
    sha256: Option<&'a str>,
    size: Option<&'a str>,
    installed: Option<&'a str>,
    essential: Option<&'a str>,
    multi_arch: Option<&'a str>,
}

impl<'a> Picked<'a> {
    fn slot(&mut self, name: &str) -> Option<&mut Option<&'a str>> {
        let which = match name {
            "Package" => return Some(&mut self.name),
            "SHA256" => return Some(&mut self.sha256),
            "Size" => return Some(&mut self.size),
            "Installed-Size" => return Some(&mut self.installed),
            "Essential" => return Some(&mut self.essential),
            "Multi-Arch" => return Some(&mut self.multi_arch),
            "Version" => Text::Version,
            "Architecture" => Text::Architecture,
            "Section" => Text::Section,
            "Priority" => Text::Priority,
            "Source" => Text::Source,
            "Depends" => Text::Depends,
            "Pre-Depends" => Text::PreDepends,
            "Recommends" => Text::Recommends,
            "Suggests" => Text::Suggests,
            "Conflicts" => Text::Conflicts,
            "Breaks" => Text::Breaks,
            "Replaces" => Text::Replaces,
            "Provides" => Text::Provides,
            "Filename" => Text::Filename,
            "Description" => Text::Description,
            _ => return None,
        };
        Some(&mut self.texts[which as usize])
    }

    fn text(&self, which: Text) -> &'a str {
        self.texts[which as usize].unwrap_or("")
    }
}

fn take(stanza: &Stanza<'_>, arena: &mut String) -> Result<Pending, IndexError> {
    let mut picked = Picked::default();
    let refuse = |value: &str, problem: String| IndexError::Package {
        package: stanza.get("Package").unwrap_or("").to_owned(),
        line: stanza.line_of(value),
        problem,
    };
    for Field { name, value } in stanza.fields() {
        if let Some(slot) = picked.slot(name)
            && slot.replace(value).is_some()
        {
            return Err(refuse(value, format!("the field {name} is there twice")));
        }
    }
    let missing = |name: &str| refuse(stanza.text(), format!("it has no field {name}"));
    let name = picked.name.ok_or_else(|| missing("Package"))?;
    let required = |value: &str, field: &str, allowed: fn(&str) -> bool| match value {
        "" => Err(missing(field)),
        value if allowed(value) => Ok(()),
        value => Err(refuse(value, format!("{field} cannot be {value:?}"))),
    };
    required(name, "Package", is_name)?;
    required(picked.text(Text::Version), "Version", is_version)?;
    required(picked.text(Text::Architecture), "Architecture", is_name)?;
    required(picked.text(Text::Filename), "Filename", is_plain_path)?;
    let number = |value: Option<&str>, field: &str| match value {
        None => Ok(None),
        Some(text) if text.bytes().all(|b| b.is_ascii_digit()) && text.len() < 19 => {
            Ok(text.parse::<u64>().ok())
        }
        Some(text) => Err(refuse(text, format!("{field} cannot be {text:?}"))),
    };
    let size = number(picked.size, "Size")?.ok_or_else(|| missing("Size"))?;
    let installed = number(picked.installed, "Installed-Size")?.unwrap_or(0);
    let sha256 = picked.sha256.ok_or_else(|| missing("SHA256"))?;
    let sha256 = sha256
        .parse()
        .map_err(|e: envd_store::DigestError| refuse(sha256, e.to_string()))?;

    let name_start = arena.len();
    arena.push_str(name);
    let start = arena.len();
    let mut ends = [0; TEXTS];
    for (at, end) in ends.iter_mut().enumerate() {
        let text = picked.texts[at].unwrap_or("");
        match at == Text::Description as usize {
            true => push_line(arena, text.split('\n').next().unwrap_or("").trim_end()),
            false => push_line(arena, text),
        }
        *end = u32::try_from(arena.len() - start).map_err(|_| IndexError::TooLarge)?;
    }
    let mut flags = 0;
    if picked.essential == Some("yes") {
        flags |= FLAG_ESSENTIAL;
    }
    let multi_arch = match picked.multi_arch {
        Some("same") => MultiArch::Same,
        Some("foreign") => MultiArch::Foreign,
        Some("allowed") => MultiArch::Allowed,
        _ => MultiArch::No,
    };
    flags |= (multi_arch as u32) << SHIFT_MULTI_ARCH;
    Ok(Pending {
        name: name_start..start,
        start,
        ends,
        sha256,
        size,
        installed,
        flags,
    })
}

/// Appends a value on one line, and without what a terminal would obey.
fn push_line(arena: &mut String, value: &str) {
    let plain = |c: char| !c.is_control();
    // Nearly all are ASCII without control characters, which this loop finds out quickly.
    match value.bytes().all(|b| (b' '..=b'~').contains(&b)) {
        true => arena.push_str(value),
        false => arena.extend(value.chars().map(|c| if plain(c) { c } else { ' ' })),
    }
}

fn is_name(text: &str) -> bool {
    text.bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.' | b'_'))
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
}

fn is_version(text: &str) -> bool {
    text.bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.' | b'~' | b':'))
}

/// The names in a Provides field, without versions and architectures.
fn provided(text: &str) -> impl Iterator<Item = &str> {
    text.split(',')
        .filter_map(|item| item.trim_start().split([' ', '(', ':']).next())
        .filter(|name| !name.is_empty())
}

fn write(arena: &str, pending: &[Pending], out: &mut impl Write) -> Result<Built, IndexError> {
    let records = u32::try_from(pending.len()).map_err(|_| IndexError::TooLarge)?;
    let mut names = StringTable::default();
    let mut summaries = StringTable::default();
    let mut provides = Vec::new();
    let mut essential = Vec::new();
    for (id, package) in (0u32..).zip(pending) {
        names.push(&arena[package.name.clone()]);
        summaries.push(package.text(arena, Text::Description));
        let pairs = provided(package.text(arena, Text::Provides)).map(|name| (name, id));
        provides.extend(pairs);
        if package.flags & FLAG_ESSENTIAL != 0 {
            essential.extend(id.to_le_bytes());
        }
    }
    if u32::try_from(arena.len()).is_err() || !names.fits() || !summaries.fits() {
        return Err(IndexError::TooLarge);
    }

    out.write_all(MAGIC).map_err(IndexError::Write)?;
    let mut offset = MAGIC.len() as u64;
    let mut blocks = Vec::new();
    let mut first = 0;
    while first < pending.len() {
        let count = block_length(&pending[first..]);
        let block = encode_block(arena, &pending[first..first + count]);
        out.write_all(&block).map_err(IndexError::Write)?;
        BlockEntry {
            offset,
            length: u32::try_from(block.len()).map_err(|_| IndexError::TooLarge)?,
            first: first as u32,
            records: count as u32,
            sha256: Digest::of(&block),
        }
        .encode(&mut blocks);
        offset += block.len() as u64;
        first += count;
    }
    let parts = [
        names.encode(),
        summaries.encode(),
        ProvidesTable::new(provides).encode(),
        blocks,
        essential,
    ];
    let sections = parts.each_ref().map(|part| {
        let section = Section {
            offset,
            length: part.len() as u64,
            sha256: Digest::of(part),
        };
        offset += section.length;
        section
    });
    for part in &parts {
        out.write_all(part).map_err(IndexError::Write)?;
    }
    let trailer = Trailer { records, sections }.encode();
    out.write_all(&trailer).map_err(IndexError::Write)?;
    Ok(Built {
        records,
        bytes: offset + trailer.len() as u64,
    })
}

impl Pending {
    fn length(&self) -> usize {
        self.ends[TEXTS - 1] as usize
    }

    fn text<'a>(&self, arena: &'a str, which: Text) -> &'a str {
        let which = which as usize;
        let from = match which {
            0 => 0,
            _ => self.ends[which - 1],
        };
        &arena[self.start + from as usize..self.start + self.ends[which] as usize]
    }
}

/// How many of the packages make one block.
fn block_length(pending: &[Pending]) -> usize {
    let mut bytes = 0;
    let full = pending.iter().position(|package| {
        bytes += ENTRY_LENGTH + package.length();
        bytes >= BLOCK_TARGET
    });
    full.map_or(pending.len(), |at| at + 1)
}

fn encode_block(arena: &str, pending: &[Pending]) -> Vec<u8> {
    let texts: usize = pending.iter().map(Pending::length).sum();
    let mut bytes = Vec::with_capacity(pending.len() * ENTRY_LENGTH + texts);
    let mut start = 0;
    for package in pending {
        bytes.extend((start as u32).to_le_bytes());
        bytes.extend(package.ends.iter().flat_map(|end| end.to_le_bytes()));
        bytes.extend(package.sha256.as_bytes());
        bytes.extend(package.size.to_le_bytes());
        bytes.extend(package.installed.to_le_bytes());
        bytes.extend(package.flags.to_le_bytes());
        start += package.length();
    }
    for package in pending {
        let text = &arena[package.start..package.start + package.length()];
        bytes.extend(text.as_bytes());
    }
    bytes
}
