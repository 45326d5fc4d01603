//! Tables of texts: each a slice of one text, found by its number or by binary search.

use std::ops::Range;

use super::format::{Fields, decode_u32s};

/// Texts by number.
#[derive(Default)]
pub(crate) struct StringTable {
    /// Where each text ends.
    ends: Vec<u32>,
    text: String,
}

impl StringTable {
    pub(super) fn push(&mut self, text: &str) {
        self.text.push_str(text);
        self.ends.push(self.text.len() as u32);
    }

    /// Whether the text still fits the format.
    pub(super) fn fits(&self) -> bool {
        u32::try_from(self.text.len()).is_ok()
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(4 + self.ends.len() * 4 + self.text.len());
        bytes.extend((self.ends.len() as u32).to_le_bytes());
        bytes.extend(self.ends.iter().flat_map(|end| end.to_le_bytes()));
        bytes.extend(self.text.as_bytes());
        bytes
    }

    /// `None` for what no table was encoded as.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields { bytes };
        let count = fields.u32()? as usize;
        let ends = decode_u32s(fields.take(count.checked_mul(4)?)?)?;
        let text = std::str::from_utf8(fields.bytes).ok()?;
        let mut last = 0;
        for &end in &ends {
            if end < last || !text.is_char_boundary(end as usize) {
                return None;
            }
            last = end;
        }
        (last as usize == text.len()).then(|| Self {
            ends,
            text: text.to_owned(),
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(crate) fn get(&self, at: usize) -> &str {
        let start = match at {
            0 => 0,
            _ => self.ends[at - 1],
        };
        &self.text[start as usize..self.ends[at] as usize]
    }

    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = &str> {
        (0..self.len()).map(|at| self.get(at))
    }

    /// All the texts, one behind the other.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The text that holds a byte of [`text`](Self::text).
    pub(crate) fn holding(&self, byte: usize) -> usize {
        self.ends.partition_point(|end| *end as usize <= byte)
    }

    /// Where a text starts in [`text`](Self::text).
    pub(crate) fn end(&self, at: usize) -> usize {
        self.ends[at] as usize
    }

    pub(super) fn is_sorted(&self) -> bool {
        self.iter().is_sorted()
    }

    /// The numbers of the texts that equal `wanted`, if the table is sorted.
    pub(super) fn range_of(&self, wanted: &str) -> Range<u32> {
        let bound = |before: &dyn Fn(&str) -> bool| {
            let (mut low, mut high) = (0, self.len());
            while low < high {
                let middle = low + (high - low) / 2;
                match before(self.get(middle)) {
                    true => low = middle + 1,
                    false => high = middle,
                }
            }
            low as u32
        };
        bound(&|text| text < wanted)..bound(&|text| text <= wanted)
    }
}

/// Which records provide a name.
pub(super) struct ProvidesTable {
    names: StringTable,
    /// Where each name's part of the list ends.
    ends: Vec<u32>,
    listed: Vec<u32>,
}

impl ProvidesTable {
    /// From pairs of a name and a record, in any order.
    pub(super) fn new(mut pairs: Vec<(&str, u32)>) -> Self {
        pairs.sort_unstable();
        pairs.dedup();
        let mut table = Self {
            names: StringTable::default(),
            ends: Vec::new(),
            listed: Vec::with_capacity(pairs.len()),
        };
        for group in pairs.chunk_by(|a, b| a.0 == b.0) {
            table.names.push(group[0].0);
            table.listed.extend(group.iter().map(|(_, record)| record));
            table.ends.push(table.listed.len() as u32);
        }
        table
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let names = self.names.encode();
        let mut bytes =
            Vec::with_capacity(8 + names.len() + 4 * (self.ends.len() + self.listed.len()));
        bytes.extend((names.len() as u32).to_le_bytes());
        bytes.extend((self.listed.len() as u32).to_le_bytes());
        bytes.extend(names);
        let numbers = self.ends.iter().chain(&self.listed);
        bytes.extend(numbers.flat_map(|number| number.to_le_bytes()));
        bytes
    }

    /// `None` for what no table over so many records was encoded as.
    pub(super) fn decode(bytes: &[u8], records: u32) -> Option<Self> {
        let mut fields = Fields { bytes };
        let length = fields.u32()? as usize;
        let listed = fields.u32()? as usize;
        let names = StringTable::decode(fields.take(length)?)?;
        let ends = decode_u32s(fields.take(names.len().checked_mul(4)?)?)?;
        let sound = ends.is_sorted()
            && ends.last().map_or(0, |end| *end as usize) == listed
            && fields.bytes.len() == listed.checked_mul(4)?
            && names.is_sorted();
        let listed = decode_u32s(fields.bytes)?;
        let sound = sound && listed.iter().all(|record| *record < records);
        sound.then_some(Self {
            names,
            ends,
            listed,
        })
    }

    pub(super) fn providers(&self, name: &str) -> impl Iterator<Item = u32> {
        let numbers = self.names.range_of(name);
        let edge = |at: u32| match at {
            0 => 0,
            _ => self.ends[at as usize - 1] as usize,
        };
        self.listed[edge(numbers.start)..edge(numbers.end)]
            .iter()
            .copied()
    }
}
