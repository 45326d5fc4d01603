//! Finding packages by words, and the name that was meant.
//!
//! Both scan all names of all indexes: names and first lines of descriptions lie one behind the other in each index, so
//! that a word is looked for in five megabytes of text at once instead of in 70,000 short ones.

use std::collections::BTreeMap;

use memchr::memmem::Finder;

use super::index::{Index, IndexError, RecordId, StringTable};

/// How well a package answers a search; the best comes first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Rank {
    /// Its name is what was asked for.
    Exact,
    /// Its name starts with it.
    Prefix,
    /// A word of its name is it.
    Word,
    /// Its name has it somewhere.
    Within,
    /// A word of its description is it.
    Described,
    /// Its description has it somewhere.
    Mentioned,
}

/// A package name that answers a search, over all indexes that were searched.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hit {
    /// Its name.
    pub name: String,
    /// How well it answers.
    pub rank: Rank,
    /// Where it is: the index's place among those searched, and the record there. Earlier indexes come first.
    pub found: Vec<(usize, RecordId)>,
}

/// The packages whose names or descriptions have all words of `query`, best first, without regard to case. The order
/// depends on nothing but names and ranks.
pub fn search(indexes: &[&Index], query: &str) -> Result<Vec<Hit>, IndexError> {
    let query = query.to_ascii_lowercase();
    let words: Vec<&str> = query.split_whitespace().collect();
    if words.is_empty() {
        return Ok(Vec::new());
    }
    let mut hits: BTreeMap<&str, Hit> = BTreeMap::new();
    for (at, index) in indexes.iter().enumerate() {
        let (names, summaries) = index.searchable()?;
        // Names are lower case by policy, but for few archives.
        let name_text = names.text().to_ascii_lowercase();
        let summary_text = summaries.text().to_ascii_lowercase();
        let mut ranks: Option<Vec<Option<Rank>>> = None;
        for word in &words {
            let finder = Finder::new(word.as_bytes());
            let mut found = vec![None; names.len()];
            let mut note = |record: usize, rank: Rank| {
                let slot: &mut Option<Rank> = &mut found[record];
                *slot = Some(slot.map_or(rank, |old| old.min(rank)));
            };
            each_occurrence(&finder, &name_text, names, |record, name, at| {
                let rank = rank_in_name(name, at, word.len());
                note(record, rank);
                rank <= Rank::Prefix
            });
            each_occurrence(&finder, &summary_text, summaries, |record, text, at| {
                let word = is_word(text.as_bytes(), at, word.len());
                note(
                    record,
                    if word {
                        Rank::Described
                    } else {
                        Rank::Mentioned
                    },
                );
                word
            });
            ranks = Some(match ranks {
                None => found,
                // All words have to be there; the weakest says how well.
                Some(before) => before
                    .into_iter()
                    .zip(found)
                    .map(|(a, b)| Some(a?.max(b?)))
                    .collect(),
            });
        }
        for (record, rank) in ranks.into_iter().flatten().enumerate() {
            let Some(rank) = rank else { continue };
            let name = names.get(record);
            let hit = hits.entry(name).or_insert_with(|| Hit {
                name: name.to_owned(),
                rank,
                found: Vec::new(),
            });
            hit.rank = hit.rank.min(rank);
            hit.found.push((at, RecordId::of(record)));
        }
    }
    let mut hits: Vec<Hit> = hits.into_values().collect();
    // Shorter names first: "json-c" before "libjson-any-perl". The map has them sorted already.
    hits.sort_by_key(|hit| (hit.rank, hit.name.len()));
    Ok(hits)
}

/// Calls `take` where a word occurs in a table's text: with the number of the record, its text, and the byte in there.
/// Once that returns true, nothing in the record could be better, and the search goes on behind it.
fn each_occurrence(
    finder: &Finder<'_>,
    text: &str,
    table: &StringTable,
    mut take: impl FnMut(usize, &str, usize) -> bool,
) {
    let bytes = text.as_bytes();
    let mut from = 0;
    let mut record = 0;
    while let Some(found) = finder.find(&bytes[from..]) {
        let at = from + found;
        // Frequent words are in this record or the next one; for others a binary search is far shorter than a walk.
        while table.end(record) <= at {
            record = match table.end((record + 1).min(table.len() - 1)) > at {
                true => record + 1,
                false => table.holding(at),
            };
        }
        let end = table.end(record);
        let start = end - table.get(record).len();
        from = at + 1;
        // What spans two records is in neither.
        if at + finder.needle().len() <= end && take(record, &text[start..end], at - start) {
            from = end;
        }
    }
}

fn rank_in_name(name: &str, at: usize, length: usize) -> Rank {
    match (at, length == name.len()) {
        (0, true) => Rank::Exact,
        (0, false) => Rank::Prefix,
        _ if is_word(name.as_bytes(), at, length) => Rank::Word,
        _ => Rank::Within,
    }
}

/// Whether a part of a text is bounded by what is no letter or digit.
fn is_word(text: &[u8], at: usize, length: usize) -> bool {
    let outside = |byte: Option<&u8>| !byte.is_some_and(|b| b.is_ascii_alphanumeric() || *b > 127);
    outside(at.checked_sub(1).and_then(|before| text.get(before))) && outside(text.get(at + length))
}

/// The names that `wanted` may have been meant to be, nearest first, at most `count`. "Near" is the number of letters
/// that were left out, added, mistaken or swapped with a neighbour: one for short names, up to three for long ones.
pub fn nearest(indexes: &[&Index], wanted: &str, count: usize) -> Vec<String> {
    let wanted = wanted.to_ascii_lowercase();
    let limit = match wanted.len() {
        0..=2 => 1,
        3..=5 => 2,
        _ => 3,
    };
    let mut distances = Distances::new(wanted.as_bytes(), limit);
    let mut near: BTreeMap<(usize, usize, &str), ()> = BTreeMap::new();
    for index in indexes {
        let mut last = "";
        for name in index.names() {
            if std::mem::replace(&mut last, name) == name {
                continue;
            }
            let stem = || common_prefix(name, &wanted);
            // "python3-dev" for "python3": more of the same name is no misspelling, but two letters more often are.
            if let Some(distance) = distances.to(name.as_bytes()) {
                near.insert((distance, usize::MAX - stem(), name), ());
            }
        }
    }
    near.into_keys()
        .map(|(_, _, name)| name.to_owned())
        .take(count)
        .collect()
}

fn common_prefix(a: &str, b: &str) -> usize {
    a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count()
}

/// Bounded Damerau-Levenshtein distances (adjacent swaps count one, no letter is edited twice) from one text, with the rows
/// kept between calls.
struct Distances<'a> {
    wanted: &'a [u8],
    letters: u64,
    limit: usize,
    rows: [Vec<usize>; 3],
}

impl<'a> Distances<'a> {
    fn new(wanted: &'a [u8], limit: usize) -> Self {
        Self {
            wanted,
            letters: letters(wanted),
            limit,
            rows: std::array::from_fn(|_| vec![0; wanted.len() + 1]),
        }
    }

    /// `None` if it is more than the limit.
    fn to(&mut self, other: &[u8]) -> Option<usize> {
        let wanted = self.wanted;
        if other.len().abs_diff(wanted.len()) > self.limit {
            return None;
        }
        // Each edit brings or takes at most one letter. Most names differ in more, which costs a table nothing.
        let letters = letters(other);
        let missing = (self.letters & !letters).count_ones();
        let strange = (letters & !self.letters).count_ones();
        if missing.max(strange) as usize > self.limit {
            return None;
        }
        let [before, last, this] = &mut self.rows;
        for (at, cell) in last.iter_mut().enumerate() {
            *cell = at;
        }
        for (row, letter) in other.iter().enumerate() {
            this[0] = row + 1;
            let mut least = this[0];
            for (column, wants) in wanted.iter().enumerate() {
                let replaced = last[column] + usize::from(letter != wants);
                let mut cell = replaced.min(last[column + 1] + 1).min(this[column] + 1);
                if row > 0
                    && column > 0
                    && *letter == wanted[column - 1]
                    && other[row - 1] == *wants
                {
                    cell = cell.min(before[column - 1] + 1);
                }
                this[column + 1] = cell;
                least = least.min(cell);
            }
            // A swap reaches back over one row, so that one row beyond the limit may still be mended by the next.
            if least > self.limit + 1 {
                return None;
            }
            std::mem::swap(before, last);
            std::mem::swap(last, this);
        }
        let distance = last[wanted.len()];
        (distance <= self.limit).then_some(distance)
    }
}

/// Which letters a text has, as a set. Letters that share a place look like one, which only makes two texts look nearer.
fn letters(text: &[u8]) -> u64 {
    text.iter().fold(0, |set, letter| set | 1 << (letter & 63))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn index(directory: &std::path::Path, file: &str, packages: &[(&str, &str)]) -> Index {
        let zeros = "0".repeat(64);
        let text: String = packages
            .iter()
            .map(|(name, description)| {
                format!(
                    "Package: {name}\nVersion: 1\nArchitecture: all\nFilename: pool/{name}\nSize: 1\nSHA256: {zeros}\n\
                     Description: {description}\n\n"
                )
            })
            .collect();
        let path = directory.join(file);
        let mut bytes = Vec::new();
        Index::build(text.as_bytes(), &mut bytes).unwrap();
        std::fs::write(&path, bytes).unwrap();
        Index::open(&path).unwrap()
    }

    const PACKAGES: [(&str, &str); 8] = [
        ("jq", "lightweight JSON processor"),
        ("json", "the thing itself"),
        ("json-glib-tools", "tools"),
        ("libjson0", "a library"),
        ("libnode", "node and jsonnet"),
        ("node-json-parse", "parser"),
        ("xjs", "nothing of the kind"),
        ("on", "follows xjs, so that the text has \"xjson\" in it"),
    ];

    fn names(hits: &[Hit]) -> Vec<(&str, Rank)> {
        hits.iter().map(|h| (h.name.as_str(), h.rank)).collect()
    }

    #[test]
    fn hits_are_ranked_by_where_the_word_is() {
        let directory = tempfile::tempdir().unwrap();
        let index = index(directory.path(), "a", &PACKAGES);
        let expected = [
            ("json", Rank::Exact),
            ("json-glib-tools", Rank::Prefix),
            ("node-json-parse", Rank::Word),
            ("libjson0", Rank::Within),
            ("jq", Rank::Described),
            ("libnode", Rank::Mentioned),
            ("on", Rank::Mentioned),
        ];
        let mut hits = search(&[&index], "JSON").unwrap();
        assert!(hits.iter().any(|hit| hit.name == "on"));
        assert_eq!(names(&hits), {
            let mut expected = expected;
            expected.sort_by_key(|(name, rank)| (*rank, name.len()));
            expected
        });
        hits = search(&[&index], " json  tools ").unwrap();
        assert_eq!(names(&hits), [("json-glib-tools", Rank::Word)]);
        assert!(search(&[&index], " ").unwrap().is_empty());
        assert!(search(&[&index], "absent").unwrap().is_empty());
    }

    #[test]
    fn a_package_of_several_channels_is_one_hit() {
        let directory = tempfile::tempdir().unwrap();
        let one = index(directory.path(), "a", &PACKAGES[..2]);
        let two = index(directory.path(), "b", &PACKAGES[1..]);
        let hits = search(&[&one, &two], "json").unwrap();
        assert_eq!(hits[0].name, "json");
        let places: Vec<_> = hits[0].found.iter().map(|(at, _)| *at).collect();
        assert_eq!(places, [0, 1]);
        for (at, id) in &hits[0].found {
            assert_eq!([&one, &two][*at].record(*id).unwrap().name(), "json");
        }
    }

    #[test]
    fn the_name_that_was_meant_is_near() {
        let directory = tempfile::tempdir().unwrap();
        let packages = [
            ("python3", ""),
            ("python3-dev", ""),
            ("ripgrep", ""),
            ("gcc", ""),
            ("gdc", ""),
            ("make", ""),
        ];
        let index = index(directory.path(), "a", &packages);
        for (wanted, expected) in [
            ("pyhton3", "python3"),
            ("python", "python3"),
            ("ripgerp", "ripgrep"),
            ("rigrep", "ripgrep"),
            ("cgc", "gcc"),
            ("Make", "make"),
            ("python3dev", "python3-dev"),
        ] {
            let found = nearest(&[&index], wanted, 3);
            assert_eq!(
                found.first().map(String::as_str),
                Some(expected),
                "{wanted}"
            );
        }
        assert!(nearest(&[&index], "quite-something-else", 3).is_empty());
        assert!(nearest(&[&index], "", 3).is_empty());
        assert_eq!(nearest(&[&index, &index], "gcc", 5), ["gcc", "gdc"]);
    }

    /// The textbook matrix.
    fn plain_distance(a: &[u8], b: &[u8]) -> usize {
        let mut d = vec![vec![0; b.len() + 1]; a.len() + 1];
        for i in 0..=a.len() {
            for j in 0..=b.len() {
                d[i][j] = match (i, j) {
                    (0, n) | (n, 0) => n,
                    _ => {
                        let replaced = d[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                        let mut cell = replaced.min(d[i - 1][j] + 1).min(d[i][j - 1] + 1);
                        if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                            cell = cell.min(d[i - 2][j - 2] + 1);
                        }
                        cell
                    }
                };
            }
        }
        d[a.len()][b.len()]
    }

    proptest! {
        #[test]
        fn bounded_distances_are_distances(a in "[abc]{0,8}", others in prop::collection::vec("[abc]{0,8}", 1..8)) {
            let mut distances = Distances::new(a.as_bytes(), 3);
            for other in others {
                let plain = plain_distance(a.as_bytes(), other.as_bytes());
                prop_assert_eq!(distances.to(other.as_bytes()), (plain <= 3).then_some(plain));
            }
        }

        #[test]
        fn a_search_finds_what_a_plain_one_does(word in "[abä]{1,2}", texts in prop::collection::vec(("[ab]{1,4}", "[abä ]{0,6}"), 1..8)) {
            let directory = tempfile::tempdir().unwrap();
            let packages: Vec<_> = texts.iter().map(|(n, d)| (n.as_str(), d.as_str())).collect();
            let index = index(directory.path(), "a", &packages);
            let mut plain: Vec<&str> = packages
                .iter()
                .filter(|(name, text)| name.contains(&word) || text.contains(&word))
                .map(|(name, _)| *name)
                .collect();
            plain.sort_unstable();
            plain.dedup();
            let mut found: Vec<_> = search(&[&index], &word).unwrap().into_iter().map(|h| h.name).collect();
            found.sort();
            prop_assert_eq!(found, plain);
        }
    }
}
