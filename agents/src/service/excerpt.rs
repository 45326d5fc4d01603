//! The head and the tail of an output, in bounded memory.

use std::collections::VecDeque;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ResourceUri;

/// An output cut to what an answer can hold: its head, its tail, and how much is left out between.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Excerpt {
    /// Its beginning, or all of it. Bytes that are not UTF-8 are replaced by U+FFFD.
    pub head: String,
    /// Its end, when something was left out.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub tail: String,
    /// Bytes there are in all.
    pub total_bytes: u64,
    /// Bytes left out between head and tail.
    pub omitted_bytes: u64,
    /// Where the whole is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<ResourceUri>,
}

impl Excerpt {
    /// For people and models: head, a marker of what was left out and where to find it, tail.
    pub fn text(&self) -> String {
        if self.omitted_bytes == 0 {
            return format!("{}{}", self.head, self.tail);
        }
        let mut text = self.head.clone();
        if !text.ends_with('\n') {
            text.push('\n');
        }
        text.push_str(&format!("[... {} bytes left out", self.omitted_bytes));
        if let Some(resource) = &self.resource {
            text.push_str(&format!("; the whole is in {resource}"));
        }
        text.push_str(" ...]\n");
        text.push_str(&self.tail);
        text
    }
}

/// Collects an output of any length and keeps at most `limit` bytes of it.
///
/// Two thirds are for the tail: that is where compilers and tests put their verdict.
#[derive(Clone, Debug)]
pub struct Collector {
    head: Vec<u8>,
    head_limit: usize,
    tail: VecDeque<u8>,
    tail_limit: usize,
    total: u64,
}

impl Collector {
    /// An empty one that keeps at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        let head_limit = limit / 3;
        Self {
            head: Vec::new(),
            head_limit,
            tail: VecDeque::new(),
            tail_limit: limit - head_limit,
            total: 0,
        }
    }

    /// Takes more of the output.
    pub fn push(&mut self, mut bytes: &[u8]) {
        self.total += bytes.len() as u64;
        let room = self.head_limit - self.head.len();
        let (first, rest) = bytes.split_at(room.min(bytes.len()));
        self.head.extend_from_slice(first);
        bytes = rest;
        // Only the last bytes of a large piece can stay.
        bytes = &bytes[bytes.len().saturating_sub(self.tail_limit)..];
        let excess = (self.tail.len() + bytes.len()).saturating_sub(self.tail_limit);
        self.tail.drain(..excess);
        self.tail.extend(bytes);
    }

    /// Counts bytes that need not be looked at: as many as the limit come before them, and as many after.
    pub fn skip(&mut self, bytes: u64) {
        self.total += bytes;
    }

    /// Bytes there were in all.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The excerpt. Characters cut by the limit are left out whole.
    pub fn finish(self, resource: Option<ResourceUri>) -> Excerpt {
        let Self {
            mut head,
            tail,
            total,
            ..
        } = self;
        let mut tail = Vec::from(tail);
        let kept = (head.len() + tail.len()) as u64;
        if kept == total {
            head.append(&mut tail);
        } else {
            head.truncate(whole_characters(&head));
            tail.drain(..continuation_bytes(&tail));
        }
        Excerpt {
            omitted_bytes: total - (head.len() + tail.len()) as u64,
            head: String::from_utf8_lossy(&head).into_owned(),
            tail: String::from_utf8_lossy(&tail).into_owned(),
            total_bytes: total,
            resource,
        }
    }
}

/// Length of `bytes` without a character that is cut off at the end.
pub fn whole_characters(bytes: &[u8]) -> usize {
    for back in 1..=3.min(bytes.len()) {
        let at = bytes.len() - back;
        let needed = match bytes[at] {
            0xC0..=0xDF => 2,
            0xE0..=0xEF => 3,
            0xF0..=0xF7 => 4,
            0x80..=0xBF => continue,
            _ => return bytes.len(),
        };
        return if back < needed { at } else { bytes.len() };
    }
    bytes.len()
}

/// Bytes at the beginning that belong to a character whose beginning was cut off.
fn continuation_bytes(bytes: &[u8]) -> usize {
    let count = bytes
        .iter()
        .take_while(|byte| matches!(byte, 0x80..=0xBF))
        .count();
    // More than three in a row are no character of UTF-8 anyway.
    if count > 3 { 0 } else { count }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collect(limit: usize, pieces: &[&[u8]]) -> Excerpt {
        let mut collector = Collector::new(limit);
        for piece in pieces {
            collector.push(piece);
        }
        collector.finish(None)
    }

    #[test]
    fn what_fits_is_given_whole() {
        let excerpt = collect(30, &[b"hello ", b"world\n"]);
        assert_eq!(excerpt.text(), "hello world\n");
        assert_eq!((excerpt.total_bytes, excerpt.omitted_bytes), (12, 0));
    }

    #[test]
    fn the_end_of_a_long_output_is_always_there() {
        let long = "x".repeat(100_000);
        let excerpt = collect(90, &[b"first line\n", long.as_bytes(), b"error: no\n"]);
        assert!(excerpt.head.starts_with("first line\n"));
        assert!(excerpt.tail.ends_with("error: no\n"));
        assert_eq!(excerpt.total_bytes, 100_021);
        assert_eq!(
            excerpt.omitted_bytes,
            100_021 - (excerpt.head.len() + excerpt.tail.len()) as u64
        );
        assert!(excerpt.text().contains("bytes left out"));
    }

    #[test]
    fn pieces_of_any_size_give_the_same_excerpt() {
        let output: Vec<u8> = (0..5000_u32).flat_map(|n| n.to_le_bytes()).collect();
        let whole = collect(300, &[&output]);
        for size in [1, 7, 100, 299, 300, 301, 4096] {
            let pieces: Vec<&[u8]> = output.chunks(size).collect();
            assert_eq!(collect(300, &pieces), whole, "pieces of {size}");
        }
    }

    #[test]
    fn what_is_skipped_in_the_middle_changes_nothing() {
        let output: Vec<u8> = (0..5000_u32).flat_map(|n| n.to_le_bytes()).collect();
        let mut collector = Collector::new(300);
        collector.push(&output[..300]);
        collector.skip(output.len() as u64 - 600);
        collector.push(&output[output.len() - 300..]);
        assert_eq!(collector.finish(None), collect(300, &[&output]));
    }

    #[test]
    fn a_character_is_never_cut_in_two() {
        let euros = "€".repeat(1000);
        for limit in 30..40 {
            let excerpt = collect(limit, &[euros.as_bytes()]);
            assert!(
                excerpt
                    .head
                    .chars()
                    .chain(excerpt.tail.chars())
                    .all(|c| c == '€'),
                "{excerpt:?}"
            );
        }
    }

    #[test]
    fn a_limit_of_nothing_keeps_nothing() {
        let excerpt = collect(0, &[b"secret"]);
        assert_eq!((excerpt.head.as_str(), excerpt.omitted_bytes), ("", 6));
    }
}
