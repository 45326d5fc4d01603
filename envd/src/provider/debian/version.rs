//! Debian versions, `[epoch:]upstream[-revision]`: deb-version(7), Policy 5.6.12.

use std::{
    cmp::Ordering,
    fmt,
    hash::{Hash, Hasher},
};

/// A version, borrowed from the text it was read from.
///
/// Equality and hashing follow the archive's order, not the spelling: `1.0`, `1.00` and `0:1.0-0` are one version.
#[derive(Clone, Copy)]
pub struct Version<'a> {
    text: &'a str,
    epoch: u32,
    upstream: &'a str,
    revision: &'a str,
}

/// A text that is no version.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{text:?} is not a Debian version: {problem}")]
pub struct VersionError {
    text: String,
    problem: &'static str,
}

impl<'a> Version<'a> {
    /// Reads a version. An upstream part that does not start with a digit is accepted, as dpkg does.
    pub fn parse(text: &'a str) -> Result<Self, VersionError> {
        let refuse = |problem| {
            Err(VersionError {
                text: text.to_owned(),
                problem,
            })
        };
        let (epoch, rest) = match text.split_once(':') {
            None => (0, text),
            Some((epoch, rest)) => {
                let digits = !epoch.is_empty() && epoch.bytes().all(|b| b.is_ascii_digit());
                match epoch.parse::<u32>() {
                    Ok(epoch) if digits && epoch <= i32::MAX as u32 => (epoch, rest),
                    _ => return refuse("the epoch before ':' is a small number"),
                }
            }
        };
        let (upstream, revision) = rest.rsplit_once('-').unwrap_or((rest, ""));
        if upstream.is_empty() {
            return refuse("there is nothing before the revision");
        }
        if revision.is_empty() && rest.ends_with('-') {
            return refuse("there is nothing after the last '-'");
        }
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'+' | b'~');
        if !upstream
            .bytes()
            .all(|b| plain(b) || matches!(b, b'-' | b':'))
            || !revision.bytes().all(plain)
        {
            return refuse("only letters, digits and . + ~ - : are allowed");
        }
        Ok(Self {
            text,
            epoch,
            upstream,
            revision,
        })
    }

    /// The version as it was written.
    pub fn as_str(&self) -> &'a str {
        self.text
    }

    /// The number before the colon; zero where there is none.
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// The version its authors gave it: what is between the epoch and the revision.
    pub fn upstream(&self) -> &'a str {
        self.upstream
    }

    /// What the archive added behind the last dash; empty where there is none.
    pub fn revision(&self) -> &'a str {
        self.revision
    }

    /// Upstream part and revision as written, without the epoch.
    pub fn without_epoch(&self) -> &'a str {
        let tail = self.upstream.len()
            + match self.revision.len() {
                0 => 0,
                revision => revision + 1,
            };
        &self.text[self.text.len() - tail..]
    }

    /// The order without the epochs: what people mean who write a bound without one.
    pub fn cmp_without_epoch(&self, other: &Version<'_>) -> Ordering {
        compare_part(self.upstream, other.upstream)
            .then_with(|| compare_part(self.revision, other.revision))
    }
}

impl Ord for Version<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.epoch
            .cmp(&other.epoch)
            .then_with(|| self.cmp_without_epoch(other))
    }
}

impl PartialOrd for Version<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Version<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Version<'_> {}

impl Hash for Version<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.epoch.hash(state);
        hash_part(self.upstream, state);
        hash_part(self.revision, state);
    }
}

impl fmt::Display for Version<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text)
    }
}

impl fmt::Debug for Version<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Version({})", self.text)
    }
}

/// How far one byte of a non-digit stretch sorts: `~` before the end of the part, letters before all else.
fn weight(byte: Option<u8>) -> i32 {
    match byte {
        Some(b'~') => -1,
        None => 0,
        Some(b) if b.is_ascii_digit() => 0,
        Some(b) if b.is_ascii_alphabetic() => i32::from(b),
        Some(b) => i32::from(b) + 256,
    }
}

/// Splits the digits off the front, without their leading zeros.
fn take_number<'a>(part: &mut &'a [u8]) -> &'a [u8] {
    let length = part.iter().take_while(|b| b.is_ascii_digit()).count();
    let (digits, rest) = part.split_at(length);
    *part = rest;
    let zeros = digits.iter().take_while(|b| **b == b'0').count();
    &digits[zeros..]
}

/// Numbers of any length: the longer one is larger, since neither has leading zeros.
fn compare_numbers(a: &[u8], b: &[u8]) -> Ordering {
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

/// Non-digit stretches and numbers in turn, as dpkg compares them.
fn compare_part(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    let word = |part: &[u8]| part.first().is_some_and(|b| !b.is_ascii_digit());
    while !a.is_empty() || !b.is_empty() {
        while word(a) || word(b) {
            let (x, y) = (a.first().copied(), b.first().copied());
            let order = weight(x).cmp(&weight(y));
            if order.is_ne() {
                return order;
            }
            a = a.get(1..).unwrap_or_default();
            b = b.get(1..).unwrap_or_default();
        }
        let order = compare_numbers(take_number(&mut a), take_number(&mut b));
        if order.is_ne() {
            return order;
        }
    }
    Ordering::Equal
}

/// Feeds what [`compare_part`] looks at. A number zero at the end weighs as much as no number, so it is held back until
/// something follows it.
fn hash_part(part: &str, state: &mut impl Hasher) {
    let mut rest = part.as_bytes();
    while !rest.is_empty() {
        let length = rest.iter().take_while(|b| !b.is_ascii_digit()).count();
        let (word, tail) = rest.split_at(length);
        rest = tail;
        let number = take_number(&mut rest);
        if word.is_empty() && number.is_empty() {
            continue;
        }
        state.write(word);
        state.write_u8(0);
        state.write(number);
        state.write_u8(0);
    }
    state.write_u8(1);
}

#[cfg(test)]
mod tests {
    use std::hash::DefaultHasher;

    use proptest::prelude::*;

    use super::*;

    fn version(text: &str) -> Version<'_> {
        Version::parse(text).unwrap()
    }

    fn hash(version: &Version<'_>) -> u64 {
        let mut hasher = DefaultHasher::new();
        version.hash(&mut hasher);
        hasher.finish()
    }

    #[test]
    fn older_and_newer_are_told_apart_as_dpkg_does() {
        // Each line ascends; a wrong order here installs an older package over a newer one.
        let ascending: &[&[&str]] = &[
            &["~~", "~~a", "~", "0", "a"],
            &[
                "1.0~beta1~svn1245",
                "1.0~beta1",
                "1.0",
                "1.0-1",
                "1.0a",
                "1.0+b1",
            ],
            &[
                "1.2.3-1~deb12u1",
                "1.2.3-1",
                "1.2.3-1+b1",
                "1.2.3-1+deb12u1",
                "1.2.3-1.1",
                "1.2.3-2",
            ],
            &["9", "10", "11", "99", "100"],
            &["3.9.2", "3.11.2-1+b1", "3.13.5-1"],
            &["99999999999999999999999998", "99999999999999999999999999"],
            &["2:0.1", "10:0.1"],
            &["999", "1:0"],
            &["1.0-1-1", "1.0-1-2"],
            &["0~", "0", "0.0.0~", "0.0.0"],
            &["1.a", "1.+"],
        ];
        for line in ascending {
            for pair in line.windows(2) {
                let (low, high) = (version(pair[0]), version(pair[1]));
                assert!(low < high, "{low} < {high}");
                assert!(high > low, "{high} > {low}");
                assert_ne!(hash(&low), hash(&high), "{low} {high}");
            }
        }
    }

    #[test]
    fn spellings_of_one_version_are_equal_and_hash_alike() {
        for pair in [
            ["1.0", "1.00"],
            ["1.0", "0:1.0"],
            ["1.0", "1.0-0"],
            ["1.", "1.0"],
            ["1.01-02", "1.1-2"],
            ["0", "00"],
            ["a", "a0"],
        ] {
            let (a, b) = (version(pair[0]), version(pair[1]));
            assert_eq!(a, b);
            assert_eq!(hash(&a), hash(&b), "{a} {b}");
        }
    }

    #[test]
    fn the_parts_are_where_policy_puts_them() {
        let full = version("4:12.2.0-3+b1");
        assert_eq!(
            (full.epoch(), full.upstream(), full.revision()),
            (4, "12.2.0", "3+b1")
        );
        assert_eq!(full.without_epoch(), "12.2.0-3+b1");
        let dashes = version("1:2024-01-05-2");
        assert_eq!((dashes.upstream(), dashes.revision()), ("2024-01-05", "2"));
        assert_eq!(version("1:2:3").upstream(), "2:3");
        assert_eq!(version("1.0").without_epoch(), "1.0");
        assert_eq!(version("1.0").revision(), "");
    }

    #[test]
    fn what_is_no_version_is_refused_by_its_text() {
        for text in [
            "",
            "-1",
            ":1",
            "a:1",
            "1-",
            "1_0",
            "1 0",
            "99999999999:1",
            "1-a:b",
            "1.0\n",
            "é1",
            "1:",
        ] {
            let error = Version::parse(text).unwrap_err();
            assert!(
                error.to_string().starts_with(&format!("{text:?} is not")),
                "{error}"
            );
        }
    }

    proptest! {
        #[test]
        fn the_order_is_total_and_hashes_agree(
            texts in proptest::array::uniform3("([0-2]:)?[0-2a~.+]{1,6}(-[0-2a~.+]{1,3})?")
        ) {
            let [a, b, c] = texts.each_ref().map(|text| version(text));
            prop_assert_eq!(a.cmp(&b), b.cmp(&a).reverse());
            if a <= b && b <= c {
                prop_assert!(a <= c);
            }
            if a == b {
                prop_assert_eq!(hash(&a), hash(&b));
                prop_assert_eq!(a.cmp(&c), b.cmp(&c));
            }
        }
    }
}
