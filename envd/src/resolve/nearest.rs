//! Names that someone may have meant.

use std::cmp::Reverse;

/// Up to `limit` of `names` that `name` may be a slip or a part of, best first: few edits (counting two swapped letters
/// as one), then those that contain it, short ones first. What is further away than a third of its length is no help.
pub fn nearest<'n>(
    name: &str,
    names: impl IntoIterator<Item = &'n str>,
    limit: usize,
) -> Vec<String> {
    let name = name.to_ascii_lowercase();
    let allowed = (name.len() / 3).clamp(1, 3);
    let mut found: Vec<(usize, Reverse<usize>, usize, &str)> = names
        .into_iter()
        .filter_map(|other| {
            let common = name
                .bytes()
                .zip(other.bytes())
                .take_while(|(a, b)| a == b)
                .count();
            let distance = if name.len().abs_diff(other.len()) <= allowed {
                edits(name.as_bytes(), other.as_bytes(), allowed)
            } else {
                None
            };
            let rank = match distance {
                Some(distance) => distance,
                None if name.len() >= 3 && contains_word(other, &name) => allowed + 1,
                None => return None,
            };
            Some((rank, Reverse(common), other.len(), other))
        })
        .collect();
    found.sort_unstable();
    found.dedup();
    // One slip away is meant; two slips away is noise beside it.
    let best = found.first().map(|(rank, ..)| *rank);
    found.retain(|(rank, ..)| Some(*rank) == best);
    found.truncate(limit);
    found
        .into_iter()
        .map(|(.., other)| other.to_owned())
        .collect()
}

/// Whether `name` stands in `other` at the start of a word: `ripgrep` in `rust-ripgrep`, not `rust` in `trust`.
fn contains_word(other: &str, name: &str) -> bool {
    other
        .match_indices(name)
        .any(|(at, _)| at == 0 || !other.as_bytes()[at - 1].is_ascii_alphanumeric())
}

/// Insertions, deletions, replacements and swaps of neighbours that lead from `a` to `b`, if at most `limit`.
fn edits(a: &[u8], b: &[u8], limit: usize) -> Option<usize> {
    let width = b.len() + 1;
    let mut before = vec![0; width];
    let mut last: Vec<usize> = (0..width).collect();
    let mut row = vec![0; width];
    for (i, &x) in a.iter().enumerate() {
        row[0] = i + 1;
        for (j, &y) in b.iter().enumerate() {
            let mut best = (last[j] + usize::from(x != y))
                .min(last[j + 1] + 1)
                .min(row[j] + 1);
            if i > 0 && j > 0 && x == b[j - 1] && a[i - 1] == y {
                best = best.min(before[j - 1] + 1);
            }
            row[j + 1] = best;
        }
        if row.iter().min().is_some_and(|least| *least > limit) {
            return None;
        }
        std::mem::swap(&mut before, &mut last);
        std::mem::swap(&mut last, &mut row);
    }
    Some(last[b.len()]).filter(|distance| *distance <= limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 9] = [
        "python3",
        "python3-pip",
        "pypy3",
        "ripgrep",
        "rust-ripgrep-doc",
        "grep",
        "nodejs",
        "libssl3",
        "zsh",
    ];

    #[test]
    fn a_slip_finds_what_was_meant() {
        assert_eq!(nearest("pyhton3", NAMES, 3)[0], "python3");
        assert_eq!(nearest("Python3", NAMES, 3)[0], "python3");
        assert_eq!(nearest("nodesj", NAMES, 3), ["nodejs"]);
        assert_eq!(nearest("libssl", NAMES, 3), ["libssl3"]);
        assert_eq!(nearest("zhs", NAMES, 3), ["zsh"]);
    }

    #[test]
    fn a_part_of_a_name_finds_the_whole() {
        assert_eq!(nearest("ripgrep-doc", NAMES, 3), ["rust-ripgrep-doc"]);
    }

    #[test]
    fn what_nothing_is_like_finds_nothing() {
        assert_eq!(nearest("kubernetes", NAMES, 3), [""; 0]);
        assert_eq!(nearest("", NAMES, 3), [""; 0]);
    }
}
