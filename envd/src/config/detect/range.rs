//! Version ranges as the ecosystems write them (npm, PEP 440, RubyGems, Composer, bare numbers), read far enough to tell
//! whether a release meets them and to say the same in a requirement.

use std::cmp::Ordering;

/// Alternatives, one of which must hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Range(Vec<Vec<Comparator>>);

#[derive(Clone, PartialEq, Eq, Debug)]
struct Comparator {
    operator: Operator,
    version: Vec<u32>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Operator {
    /// Begins with these numbers.
    Prefix,
    Not,
    AtLeast,
    Above,
    AtMost,
    Below,
    /// `^`: at least, and the same up to the first number that is not zero.
    Caret,
    /// npm's `~`: at least, and the same first two numbers.
    Tilde,
    /// PEP 440's `~=` and RubyGems' `~>`: at least, and the same but for the last number.
    Compatible,
}

/// Longer spellings first.
const OPERATORS: [(&str, Operator); 12] = [
    ("===", Operator::Prefix),
    ("==", Operator::Prefix),
    ("!=", Operator::Not),
    ("~=", Operator::Compatible),
    ("~>", Operator::Compatible),
    (">=", Operator::AtLeast),
    ("<=", Operator::AtMost),
    (">", Operator::Above),
    ("<", Operator::Below),
    ("=", Operator::Prefix),
    ("^", Operator::Caret),
    ("~", Operator::Tilde),
];

impl Range {
    /// Reads a range, or `None` if it is written in a way we do not know (`lts/*`, `nightly`).
    pub fn parse(text: &str) -> Option<Self> {
        let alternatives: Option<Vec<_>> = text
            .split('|')
            .map(str::trim)
            .filter(|alternative| !alternative.is_empty())
            .map(comparators)
            .collect();
        alternatives.filter(|all| !all.is_empty()).map(Self)
    }

    /// `text` or newer.
    pub fn at_least(text: &str) -> Option<Self> {
        let version = numbers(text)?;
        Some(Self(vec![vec![Comparator {
            operator: Operator::AtLeast,
            version,
        }]]))
    }

    /// The first `keep` numbers of a full version: 3.11 of 3.11.4, as a release carries one patch level only.
    pub fn begins_with(text: &str, keep: usize) -> Option<Self> {
        let mut version = numbers(text)?;
        version.truncate(keep);
        Some(Self(vec![vec![Comparator {
            operator: Operator::Prefix,
            version,
        }]]))
    }

    /// Whether a release that has `version` meets it. Numbers that the release's table leaves out are taken to fit.
    pub fn allows(&self, version: &[u32]) -> bool {
        self.0
            .iter()
            .any(|all| all.iter().all(|c| c.allows(version)))
    }

    /// The same as a requirement's constraint, where it can be said.
    pub fn constraint(&self) -> Option<String> {
        let [all] = &self.0[..] else { return None };
        if let [only] = &all[..]
            && only.operator == Operator::Prefix
        {
            return (!only.version.is_empty()).then(|| dotted(&only.version));
        }
        let mut bounds = Vec::new();
        for comparator in all {
            comparator.bounds(&mut bounds)?;
        }
        (!bounds.is_empty()).then(|| bounds.join(","))
    }
}

/// `1.2.3`
pub fn dotted(version: &[u32]) -> String {
    let numbers: Vec<String> = version.iter().map(u32::to_string).collect();
    numbers.join(".")
}

fn comparators(text: &str) -> Option<Vec<Comparator>> {
    if let Some((low, high)) = text.split_once(" - ") {
        let bound = |operator, text| numbers(text).map(|version| Comparator { operator, version });
        return Some(vec![
            bound(Operator::AtLeast, low)?,
            bound(Operator::AtMost, high)?,
        ]);
    }
    let mut all = Vec::new();
    let mut rest = text.trim_start_matches([',', ' ', '\t']);
    while !rest.is_empty() {
        let (operator, behind) = OPERATORS
            .iter()
            .find_map(|(spelling, operator)| Some((*operator, rest.strip_prefix(spelling)?)))
            .unwrap_or((Operator::Prefix, rest));
        let behind = behind.trim_start();
        let end = behind
            .find([',', ' ', '\t', '<', '>', '=', '!', '^', '~'])
            .unwrap_or(behind.len());
        let version = numbers(&behind[..end])?;
        all.push(Comparator { operator, version });
        rest = behind[end..].trim_start_matches([',', ' ', '\t']);
    }
    Some(all)
}

/// The leading numbers of `v3.11.4`, `3.11.*`, `3.x`, `3.11.4-beta`; none of `*`. `None` if it is no version.
fn numbers(text: &str) -> Option<Vec<u32>> {
    let text = text.trim().trim_start_matches(['v', 'V']);
    let text = text.split(['-', '+']).next().unwrap_or_default();
    let mut numbers = Vec::new();
    for part in text.split('.') {
        if matches!(part, "*" | "x" | "X") {
            return Some(numbers);
        }
        match part.parse() {
            Ok(number) => numbers.push(number),
            Err(_) => return None,
        }
    }
    Some(numbers)
}

impl Comparator {
    fn allows(&self, has: &[u32]) -> bool {
        let wanted = &self.version;
        let order = has
            .iter()
            .zip(wanted)
            .map(|(h, w)| h.cmp(w))
            .find(|o| o.is_ne());
        // Where one is longer: 3.13 stands for all of 3.13.x.
        let order = order.unwrap_or(Ordering::Equal);
        let same = |length: usize| {
            let length = length.min(has.len()).min(wanted.len());
            has[..length] == wanted[..length]
        };
        match self.operator {
            Operator::Prefix => order.is_eq(),
            Operator::Not => order.is_ne() || wanted.len() > has.len(),
            Operator::AtLeast => order.is_ge(),
            Operator::Above => order.is_gt() || order.is_eq() && has.len() < wanted.len(),
            Operator::AtMost => order.is_le(),
            Operator::Below => order.is_lt(),
            Operator::Caret | Operator::Tilde | Operator::Compatible => {
                order.is_ge() && same(self.fixed())
            }
        }
    }

    /// How many leading numbers stay as they are.
    fn fixed(&self) -> usize {
        let length = self.version.len();
        match self.operator {
            Operator::Caret => self
                .version
                .iter()
                .position(|&n| n != 0)
                .map_or(length, |zeros| zeros + 1),
            Operator::Tilde => length.min(2),
            Operator::Compatible => length.saturating_sub(1).max(1),
            _ => length,
        }
    }

    /// As bounds of a requirement; `None` where it cannot be said so.
    fn bounds(&self, bounds: &mut Vec<String>) -> Option<()> {
        let version = dotted(&self.version);
        match self.operator {
            _ if self.version.is_empty() => {}
            Operator::AtLeast => bounds.push(format!(">={version}")),
            Operator::Above => bounds.push(format!(">{version}")),
            Operator::AtMost => return None,
            Operator::Below => bounds.push(format!("<{version}")),
            Operator::Not => return None,
            Operator::Caret | Operator::Tilde | Operator::Compatible | Operator::Prefix => {
                let mut next = self.version[..self.fixed()].to_vec();
                *next.last_mut()? += 1;
                bounds.push(format!(">={version}"));
                bounds.push(format!("<{}", dotted(&next)));
            }
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(text: &str) -> Range {
        Range::parse(text).unwrap_or_else(|| panic!("{text} is a range"))
    }

    #[test]
    fn each_spelling_holds_for_what_it_means() {
        for (text, yes, no) in [
            (">=3.10", vec![[3, 10], [3, 13]], vec![[3, 9]]),
            (">= 3.10, < 4", vec![[3, 13]], vec![[4, 0]]),
            (">=18 <21", vec![[20, 1]], vec![[21, 0], [17, 9]]),
            ("^18 || ^20", vec![[18, 2], [20, 0]], vec![[19, 0], [21, 0]]),
            ("^0.3", vec![[0, 3]], vec![[0, 4]]),
            ("~18.2", vec![[18, 2]], vec![[18, 3]]),
            ("~18", vec![[18, 9]], vec![[19, 0]]),
            ("~=3.11", vec![[3, 11], [3, 13]], vec![[3, 10], [4, 0]]),
            ("~> 3.1", vec![[3, 3]], vec![[3, 0], [4, 0]]),
            ("==3.11.*", vec![[3, 11]], vec![[3, 12]]),
            ("3.x", vec![[3, 1]], vec![[4, 1]]),
            ("18 - 20", vec![[18, 0], [20, 9]], vec![[21, 0]]),
            (">=3.8,!=3.9.*", vec![[3, 8], [3, 10]], vec![[3, 9]]),
            ("*", vec![[1, 0]], vec![]),
        ] {
            for version in yes {
                assert!(range(text).allows(&version), "{text} allows {version:?}");
            }
            for version in no {
                assert!(!range(text).allows(&version), "{text} refuses {version:?}");
            }
        }
    }

    #[test]
    fn what_is_no_range_is_none() {
        for text in ["", "lts/*", "nightly", ">=", ">=a", "||", "99999999999"] {
            assert_eq!(Range::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_range_becomes_a_constraint_where_it_can() {
        let constraint = |text| range(text).constraint();
        assert_eq!(constraint("^18.2").as_deref(), Some(">=18.2,<19"));
        assert_eq!(constraint("~=3.11").as_deref(), Some(">=3.11,<4"));
        assert_eq!(constraint("3.11").as_deref(), Some("3.11"));
        assert_eq!(constraint("*"), None);
        assert_eq!(constraint("18 || 20"), None);
        assert_eq!(constraint("!=3"), None);
    }
}
