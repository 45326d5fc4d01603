//! Two texts to the hunks of a unified diff.

use std::{ops::Range, time::Instant};

use schemars::JsonSchema;
use serde::Serialize;
use similar::{Algorithm, DiffTag};

use super::escape;

/// A run of changed lines with those around them.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, JsonSchema)]
pub struct Hunk {
    /// First line on the old side, from 1; the line before where the hunk has none of it.
    pub old_start: usize,
    /// Lines of the old side.
    pub old_lines: usize,
    /// First line on the new side.
    pub new_start: usize,
    /// Lines of the new side.
    pub new_lines: usize,
    /// Each begins with a blank, `-` or `+`; `\` begins the note that a text ends without a newline.
    pub lines: Vec<String>,
}

/// How two texts differ.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(super) struct Difference {
    pub(super) hunks: Vec<Hunk>,
    /// Lines that only the new side has.
    pub(super) added: usize,
    /// Lines that only the old side has.
    pub(super) deleted: usize,
    /// Whether control characters were replaced by visible signs.
    pub(super) escaped: bool,
    /// Lines that were not put into hunks because there are too many.
    pub(super) left_out: usize,
}

/// How much is shown of one file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Bounds {
    pub(super) context: usize,
    pub(super) lines: usize,
    pub(super) bytes: usize,
}

/// A text's lines, each with its newline.
pub(super) fn lines(text: &[u8]) -> Vec<&[u8]> {
    text.split_inclusive(|&b| b == b'\n').collect()
}

/// Lines of the old side and those of the new side that stand in their place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Change {
    pub(super) old: Range<usize>,
    pub(super) new: Range<usize>,
}

/// What turns one list of lines into the other, with at least one common line between each two. Past the deadline it is no
/// longer the shortest way, but still right.
pub(super) fn changes(old: &[&[u8]], new: &[&[u8]], deadline: Option<Instant>) -> Vec<Change> {
    let operations = similar::capture_diff_slices_deadline(Algorithm::Myers, old, new, deadline);
    let mut changes: Vec<Change> = Vec::new();
    // Lengths are reliable; the position that a deletion has on the new side, or an insertion on the old one, is not.
    let (mut at_old, mut at_new) = (0, 0);
    for operation in operations {
        let (old_lines, new_lines) = (operation.old_range().len(), operation.new_range().len());
        if operation.tag() != DiffTag::Equal {
            match changes.last_mut() {
                Some(last) if last.old.end == at_old && last.new.end == at_new => {
                    last.old.end += old_lines;
                    last.new.end += new_lines;
                }
                _ => changes.push(Change {
                    old: at_old..at_old + old_lines,
                    new: at_new..at_new + new_lines,
                }),
            }
        }
        at_old += old_lines;
        at_new += new_lines;
    }
    changes
}

/// How two texts differ.
pub(super) fn difference(
    old: &[u8],
    new: &[u8],
    bounds: Bounds,
    deadline: Option<Instant>,
) -> Difference {
    let (old, new) = (lines(old), lines(new));
    let changes = changes(&old, &new, deadline);
    let mut difference = Difference {
        added: changes.iter().map(|change| change.new.len()).sum(),
        deleted: changes.iter().map(|change| change.old.len()).sum(),
        ..Difference::default()
    };
    let (mut lines, mut bytes) = (0, 0);
    let near = |a: &Change, b: &Change| b.old.start - a.old.end <= 2 * bounds.context;
    for group in changes.chunk_by(near) {
        let (Some(first), Some(last)) = (group.first(), group.last()) else {
            continue;
        };
        let before = bounds.context.min(first.old.start);
        let after = bounds.context.min(old.len() - last.old.end);
        let (old_start, new_start) = (first.old.start - before, first.new.start - before);
        let mut hunk = Writer {
            lines: Vec::new(),
            room: bounds.lines.saturating_sub(lines),
            bytes: bounds.bytes.saturating_sub(bytes),
            left_out: 0,
            escaped: false,
        };
        let mut at = old_start;
        for change in group {
            hunk.write(' ', &old[at..change.old.start]);
            hunk.write('-', &old[change.old.clone()]);
            hunk.write('+', &new[change.new.clone()]);
            at = change.old.end;
        }
        hunk.write(' ', &old[at..at + after]);
        difference.escaped |= hunk.escaped;
        difference.left_out += hunk.left_out;
        lines += hunk.lines.len();
        bytes += hunk.lines.iter().map(String::len).sum::<usize>();
        if hunk.lines.is_empty() {
            continue;
        }
        let old_lines = last.old.end + after - old_start;
        let new_lines = last.new.end + after - new_start;
        difference.hunks.push(Hunk {
            old_start: old_start + usize::from(old_lines > 0),
            old_lines,
            new_start: new_start + usize::from(new_lines > 0),
            new_lines,
            lines: hunk.lines,
        });
    }
    difference
}

struct Writer {
    lines: Vec<String>,
    room: usize,
    bytes: usize,
    left_out: usize,
    escaped: bool,
}

impl Writer {
    fn write(&mut self, sign: char, lines: &[&[u8]]) {
        for line in lines {
            // What follows a line that was left out would seem to follow the line before.
            if self.left_out > 0 || self.lines.len() >= self.room || line.len() >= self.bytes {
                self.left_out += 1;
                continue;
            }
            let mut text = String::with_capacity(line.len() + 1);
            text.push(sign);
            let (body, ended) = match line.strip_suffix(b"\n") {
                Some(body) => (body, true),
                None => (*line, false),
            };
            self.escaped |= escape::line(body, &mut text);
            self.bytes = self.bytes.saturating_sub(text.len());
            self.lines.push(text);
            if !ended {
                self.lines.push("\\ No newline at end of file".to_owned());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BOUNDS: Bounds = Bounds {
        context: 3,
        lines: 10_000,
        bytes: 1 << 20,
    };

    /// What a reader of the hunks makes of the old text.
    fn patch(old: &[u8], difference: &Difference) -> Vec<u8> {
        let old = lines(old);
        let mut out: Vec<u8> = Vec::new();
        let mut at = 0;
        for hunk in &difference.hunks {
            let start = hunk
                .old_start
                .saturating_sub(usize::from(hunk.old_lines > 0));
            out.extend(old[at..start].concat());
            at = start + hunk.old_lines;
            for line in &hunk.lines {
                match line.as_bytes()[0] {
                    b' ' | b'+' => {
                        out.extend(&line.as_bytes()[1..]);
                        out.push(b'\n');
                    }
                    b'\\' => {}
                    _ => {}
                }
            }
            // The note concerns the line before it.
            let last = hunk.lines.iter().rposition(|line| !line.starts_with('\\'));
            if let Some(last) = last
                && hunk.lines.len() > last + 1
                && !hunk.lines[last].starts_with('-')
            {
                out.pop();
            }
        }
        out.extend(old[at..].concat());
        out
    }

    #[test]
    fn a_changed_line_shows_with_those_around_it() {
        let old = b"1\n2\n3\n4\n5\n6\n7\n8\n9\n";
        let new = b"1\n2\n3\n4\nfive\n6\n7\n8\n9\n";
        let found = difference(old, new, BOUNDS, None);
        let hunk = Hunk {
            old_start: 2,
            old_lines: 7,
            new_start: 2,
            new_lines: 7,
            lines: [" 2", " 3", " 4", "-5", "+five", " 6", " 7", " 8"]
                .map(str::to_owned)
                .into(),
        };
        assert_eq!(found.hunks, [hunk]);
        assert_eq!((found.added, found.deleted), (1, 1));
    }

    #[test]
    fn a_new_file_begins_at_line_nought() {
        let found = difference(b"", b"a\nb", BOUNDS, None);
        let hunk = &found.hunks[0];
        assert_eq!(
            (
                hunk.old_start,
                hunk.old_lines,
                hunk.new_start,
                hunk.new_lines
            ),
            (0, 0, 1, 2)
        );
        assert_eq!(hunk.lines, ["+a", "+b", "\\ No newline at end of file"]);
    }

    /// An attacker would fill the reviewer's screen, or the model's context, until nobody looks any more.
    #[test]
    fn more_lines_than_allowed_are_counted_and_left_out() {
        let new = b"x\n".repeat(1000);
        let bounds = Bounds {
            lines: 10,
            ..BOUNDS
        };
        let found = difference(b"", &new, bounds, None);
        assert_eq!(found.hunks[0].lines.len(), 10);
        assert_eq!((found.added, found.left_out), (1000, 990));
        let bounds = Bounds {
            bytes: 100,
            ..BOUNDS
        };
        let line = [&b"y".repeat(5000)[..], b"\n"].concat();
        assert_eq!(difference(b"", &line, bounds, None).left_out, 1);
    }

    /// An attacker would have us look for the shortest way for hours.
    #[test]
    fn past_the_deadline_the_difference_is_right_if_not_short() {
        let (old, new) = ("a\nb\n".repeat(20_000), "b\na\nc\n".repeat(15_000));
        let bounds = Bounds {
            lines: usize::MAX,
            bytes: usize::MAX,
            ..BOUNDS
        };
        let found = difference(old.as_bytes(), new.as_bytes(), bounds, Some(Instant::now()));
        assert_eq!(patch(old.as_bytes(), &found), new.as_bytes());
    }

    proptest! {
        #[test]
        fn applying_the_hunks_gives_the_new_text(
            old in "[ab\n]{0,60}", new in "[ab\n]{0,60}", context in 0..4_usize,
        ) {
            let bounds = Bounds { context, ..BOUNDS };
            let found = difference(old.as_bytes(), new.as_bytes(), bounds, None);
            prop_assert_eq!(patch(old.as_bytes(), &found), new.as_bytes());
        }
    }
}
