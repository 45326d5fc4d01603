//! Three-way merge of texts.

use std::time::Instant;

use super::hunks::{self, Change, lines};

/// Makes both sides' changes to `base`. `None` where they touch and differ. Lines next to each other touch: whoever changed one
/// has read the other.
pub(super) fn merge(
    base: &[u8],
    ours: &[u8],
    theirs: &[u8],
    deadline: Option<Instant>,
) -> Option<Vec<u8>> {
    let (base, ours, theirs) = (lines(base), lines(ours), lines(theirs));
    let mut sides = [
        Side::new(&base, &ours, deadline),
        Side::new(&base, &theirs, deadline),
    ];
    let mut merged: Vec<u8> = Vec::new();
    let mut at = 0;
    loop {
        let starts = sides
            .iter()
            .filter_map(Side::next)
            .map(|change| change.old.start);
        let Some(start) = starts.min() else {
            break;
        };
        // All changes of either side that touch one another.
        let mut end = start;
        while sides.iter().any(|side| side.touches(end)) {
            end = sides.iter_mut().fold(end, |end, side| side.take(end));
        }
        merged.extend(base[at..start].concat());
        let [ours, theirs] = &mut sides;
        let (our_change, their_change) = (ours.changed(), theirs.changed());
        let (our_text, their_text) = (ours.text(start, end), theirs.text(start, end));
        match (our_change, their_change) {
            (true, true) if our_text != their_text => return None,
            (true, _) => merged.extend(our_text),
            (false, _) => merged.extend(their_text),
        }
        at = end;
    }
    merged.extend(base[at..].concat());
    Some(merged)
}

struct Side<'a> {
    base: &'a [&'a [u8]],
    lines: &'a [&'a [u8]],
    changes: Vec<Change>,
    /// Changes before this one are merged.
    done: usize,
    /// Changes before this one belong to the present group.
    taken: usize,
}

impl<'a> Side<'a> {
    fn new(base: &'a [&'a [u8]], lines: &'a [&'a [u8]], deadline: Option<Instant>) -> Self {
        Self {
            base,
            lines,
            changes: hunks::changes(base, lines, deadline),
            done: 0,
            taken: 0,
        }
    }

    fn next(&self) -> Option<&Change> {
        self.changes.get(self.taken)
    }

    fn touches(&self, end: usize) -> bool {
        self.next().is_some_and(|change| change.old.start <= end)
    }

    /// Takes changes into the group that begin at or before `end`; gives where the group ends now.
    fn take(&mut self, mut end: usize) -> usize {
        while let Some(change) = self.changes.get(self.taken) {
            if change.old.start > end {
                break;
            }
            end = end.max(change.old.end);
            self.taken += 1;
        }
        end
    }

    /// Whether this side has a change in the group.
    fn changed(&self) -> bool {
        self.taken > self.done
    }

    /// What this side makes of the base's lines `start..end`; ends the group.
    fn text(&mut self, start: usize, end: usize) -> Vec<u8> {
        let mut text = Vec::new();
        let mut at = start;
        for change in &self.changes[self.done..self.taken] {
            text.extend(self.base[at..change.old.start].concat());
            text.extend(self.lines[change.new.clone()].concat());
            at = change.old.end;
        }
        text.extend(self.base[at..end].concat());
        self.done = self.taken;
        text
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn merged(base: &str, ours: &str, theirs: &str) -> Option<String> {
        let merged = merge(base.as_bytes(), ours.as_bytes(), theirs.as_bytes(), None)?;
        Some(String::from_utf8(merged).unwrap())
    }

    #[test]
    fn changes_apart_are_both_made_and_changes_that_touch_are_not() {
        let base = "1\n2\n3\n4\n5\n";
        assert_eq!(
            merged(base, "one\n2\n3\n4\n5\n", "1\n2\n3\n4\nfive\n6\n").unwrap(),
            "one\n2\n3\n4\nfive\n6\n"
        );
        assert_eq!(
            merged(base, "0\n1\n2\n3\n4\n5\n", "1\n2\n4\n5\n").unwrap(),
            "0\n1\n2\n4\n5\n"
        );
        assert_eq!(merged(base, "1\nx\n3\n4\n5\n", "1\ny\n3\n4\n5\n"), None);
        assert_eq!(merged(base, "1\nx\n3\n4\n5\n", "1\n2\ny\n4\n5\n"), None);
        assert_eq!(
            merged(base, "1\n2\na\n3\n4\n5\n", "1\n2\nb\n3\n4\n5\n"),
            None
        );
        assert_eq!(merged("a", "a\n", "b"), None);
    }

    #[test]
    fn the_same_change_on_both_sides_is_one() {
        let both = "1\nx\ny\n3\n";
        assert_eq!(merged("1\n2\n3\n", both, both).unwrap(), both);
    }

    proptest! {
        #[test]
        fn a_side_that_changed_nothing_decides_nothing(base in "[ab\n]{0,40}", new in "[ab\n]{0,40}") {
            prop_assert_eq!(merged(&base, &base, &new), Some(new.clone()));
            prop_assert_eq!(merged(&base, &new, &base), Some(new.clone()));
            prop_assert_eq!(merged(&base, &new, &new), Some(new));
        }

        #[test]
        fn both_sides_are_the_same_to_it(a in "[ab\n]{0,30}", b in "[ab\n]{0,30}", c in "[ab\n]{0,30}") {
            prop_assert_eq!(merged(&a, &b, &c), merged(&a, &c, &b));
        }
    }
}
