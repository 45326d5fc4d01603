//! What a suite says of itself: the fields of a (verified) Release text, and when they may be relied on.
//!
//! The format is described at <https://wiki.debian.org/DebianRepository/Format>. Of the digests only SHA-256 is read.

mod date;

use std::{collections::HashMap, time::Duration};

use envd_store::Digest;

pub use self::date::{Moment, MomentError};
use super::{
    control::{ControlError, Field, Stanza},
    trust::CLOCK_TOLERANCE,
};

/// A suite's Release file.
#[derive(Debug, Clone)]
pub struct Release {
    /// Who publishes it, such as `Debian`.
    pub origin: String,
    /// What the suite is for, such as `stable` or `stable-security`.
    pub suite: String,
    /// What the suite is called, such as `trixie` or `trixie-security`.
    pub codename: String,
    /// When it was made.
    pub date: Moment,
    /// When it stops being valid, if it says so. Debian's stable releases do not.
    pub valid_until: Option<Moment>,
    /// `amd64` and so on.
    pub architectures: Vec<String>,
    /// `main` and so on. The security suites write `updates/main` here, and `main` in paths.
    pub components: Vec<String>,
    /// Whether each index is to be had under its digest too, so that a mirror in the midst of an update serves both.
    pub acquire_by_hash: bool,
    /// The files of the suite by their path below it.
    pub files: HashMap<String, ListedFile>,
}

/// A file that a Release vouches for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListedFile {
    /// Bytes.
    pub size: u64,
    /// Its digest.
    pub sha256: Digest,
}

/// A Release text that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// Not control data.
    #[error("the Release text is malformed")]
    Control(#[from] ControlError),
    /// A field that has to be there is not.
    #[error("the Release text has no field {0}")]
    Missing(&'static str),
    /// A field says something that is not of its kind.
    #[error("the Release text, line {line}: {problem}")]
    Field {
        /// Line of the signed text, from 1.
        line: u64,
        /// What is wrong there.
        problem: String,
    },
}

/// A Release that is not to be relied on at this time.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ValidityError {
    /// Past its Valid-Until: either the mirror is stale, or someone keeps updates from arriving.
    #[error(
        "suite {suite} stopped being valid on {valid_until} (the mirror has not been updated since {date}); use \
         another mirror, or accept the old index with accept-expired = true"
    )]
    Expired {
        /// The suite.
        suite: String,
        /// Its Valid-Until.
        valid_until: Moment,
        /// Its Date.
        date: Moment,
    },
    /// Dated later than now.
    #[error("suite {suite} is dated {date}, which is yet to come: check this machine's clock")]
    FromTheFuture {
        /// The suite.
        suite: String,
        /// Its Date.
        date: Moment,
    },
}

impl Release {
    /// Reads the signed text of an InRelease file.
    pub fn parse(text: &str) -> Result<Self, ReleaseError> {
        let stanza = Stanza::only(text)?;
        let mut found: HashMap<&str, Field<'_>> = HashMap::new();
        for field in stanza.fields() {
            if found.insert(field.name, field).is_some() {
                return Err(ReleaseError::Field {
                    line: stanza.line_of(field.value),
                    problem: format!("the field {} is there twice", field.name),
                });
            }
        }
        let text_of = |name: &str| found.get(name).map_or("", |field| field.value);
        let words = |name: &str| {
            text_of(name)
                .split_ascii_whitespace()
                .map(str::to_owned)
                .collect()
        };
        let moment = |name: &'static str| {
            let Some(field) = found.get(name) else {
                return Ok(None);
            };
            let refuse = |e: MomentError| ReleaseError::Field {
                line: stanza.line_of(field.value),
                problem: format!("{name}: {e}"),
            };
            Moment::from_release(field.value).map(Some).map_err(refuse)
        };
        let files = found.get("SHA256").ok_or(ReleaseError::Missing("SHA256"))?;
        if text_of("Suite").is_empty() && text_of("Codename").is_empty() {
            return Err(ReleaseError::Missing("Codename"));
        }
        Ok(Self {
            origin: text_of("Origin").to_owned(),
            suite: text_of("Suite").to_owned(),
            codename: text_of("Codename").to_owned(),
            date: moment("Date")?.ok_or(ReleaseError::Missing("Date"))?,
            valid_until: moment("Valid-Until")?,
            architectures: words("Architectures"),
            components: words("Components"),
            acquire_by_hash: text_of("Acquire-By-Hash") == "yes",
            files: parse_files(&stanza, files)?,
        })
    }

    /// Refuses a Release that is past its time, unless `accept_expired`, or ahead of it.
    pub fn check_validity(&self, now: Moment, accept_expired: bool) -> Result<(), ValidityError> {
        check_validity(
            self.name(),
            self.date,
            self.valid_until,
            now,
            accept_expired,
        )
    }

    /// Whether this is the suite that was asked for, by its code name or by what it is for: otherwise a mirror could
    /// serve an older release, properly signed, in its place.
    pub fn answers_to(&self, name: &str) -> bool {
        self.codename == name || self.suite == name
    }

    /// How the suite is called.
    pub fn name(&self) -> &str {
        match self.codename.is_empty() {
            true => &self.suite,
            false => &self.codename,
        }
    }

    /// How old the Release is.
    pub fn age(&self, now: Moment) -> Duration {
        let seconds = now.unix().saturating_sub(self.date.unix());
        Duration::from_secs(seconds.try_into().unwrap_or(0))
    }
}

/// Refuses what is past its time, unless `accept_expired`, or ahead of it.
pub(super) fn check_validity(
    suite: &str,
    date: Moment,
    valid_until: Option<Moment>,
    now: Moment,
    accept_expired: bool,
) -> Result<(), ValidityError> {
    let suite = suite.to_owned();
    if date > now.plus(CLOCK_TOLERANCE) {
        return Err(ValidityError::FromTheFuture { suite, date });
    }
    match valid_until {
        Some(valid_until) if valid_until < now && !accept_expired => Err(ValidityError::Expired {
            suite,
            valid_until,
            date,
        }),
        _ => Ok(()),
    }
}

fn parse_files(
    stanza: &Stanza<'_>,
    field: &Field<'_>,
) -> Result<HashMap<String, ListedFile>, ReleaseError> {
    let mut files = HashMap::with_capacity(field.value.len() / 100);
    for line in field.lines().filter(|line| !line.is_empty()) {
        let refuse = |problem: &str| ReleaseError::Field {
            line: stanza.line_of(line),
            problem: format!("{problem}: {line:?}"),
        };
        let mut words = line.split_ascii_whitespace();
        let (Some(digest), Some(size), Some(path), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(refuse("expected a digest, a size and a path"));
        };
        let sha256 = digest.parse().map_err(|_| refuse("not a SHA-256 digest"))?;
        let size = match size.bytes().all(|b| b.is_ascii_digit()) {
            true => size.parse().ok(),
            false => None,
        };
        let size = size.ok_or_else(|| refuse("not a size"))?;
        if !is_plain_path(path) {
            return Err(refuse("the path does not stay below the suite"));
        }
        let file = ListedFile { size, sha256 };
        // A path that is listed twice is odd, but harmless as long as it is the same file.
        if files
            .insert(path.to_owned(), file)
            .is_some_and(|other| other != file)
        {
            return Err(refuse("the path is listed twice with different digests"));
        }
    }
    Ok(files)
}

/// Whether a path from an index can be appended to an address as it stands: relative, no `.` or `..`, and nothing in it
/// that means something in an address or would have to be escaped.
pub(crate) fn is_plain_path(path: &str) -> bool {
    let plain = |b: u8| {
        b.is_ascii_alphanumeric()
            || matches!(
                b,
                b'-' | b'.' | b'_' | b'~' | b'+' | b':' | b'/' | b'=' | b',' | b'@' | b'!'
            )
    };
    path.bytes().all(plain)
        && path.len() < 4096
        && path
            .split('/')
            .all(|part| !part.is_empty() && part != "." && part != "..")
        // "http:" as a first component would make it an address of its own.
        && !path.split('/').next().is_some_and(|first| first.ends_with(':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "Origin: Debian\nSuite: stable\nCodename: trixie\nDate: Sat, 12 Sep 2026 07:55:41 UTC\n\
        Valid-Until: Sat, 19 Sep 2026 07:55:41 UTC\nAcquire-By-Hash: yes\nArchitectures: all amd64\nComponents: main contrib\n\
        MD5Sum:\n 00 1 main/x\nSHA256:\n 4f2c68d67001d595fbd343f6dbad44468953a51c4d9dec3a4803249f6e295940 56620099 main/binary-amd64/Packages\n \
        7778d3e3f303b7ddb8ce0fe7c8d57473a076c6bf2e8f241f75421d2396352498  9678380 main/binary-amd64/Packages.xz";

    #[test]
    fn the_fields_are_read() {
        let release = Release::parse(TEXT).unwrap();
        assert_eq!(
            (release.origin.as_str(), release.name()),
            ("Debian", "trixie")
        );
        assert!(release.answers_to("trixie") && release.answers_to("stable"));
        assert!(!release.answers_to("bookworm") && !release.answers_to("trixie-security"));
        assert_eq!(release.date.to_string(), "2026-09-12T07:55:41Z");
        assert_eq!(release.architectures, ["all", "amd64"]);
        assert_eq!(release.components, ["main", "contrib"]);
        assert!(release.acquire_by_hash);
        assert_eq!(release.files.len(), 2);
        assert_eq!(
            release.files["main/binary-amd64/Packages.xz"].size,
            9_678_380
        );
    }

    #[test]
    fn what_contradicts_itself_or_leaves_the_suite_is_refused() {
        let digest = "4f2c68d67001d595fbd343f6dbad44468953a51c4d9dec3a4803249f6e295940";
        for (from, to) in [
            ("Date: Sat, 12 Sep 2026 07:55:41 UTC\n", ""),
            ("Date: Sat, 12 Sep", "Date: Sat, 32 Sep"),
            (
                "Valid-Until: Sat, 19 Sep 2026 07:55:41 UTC",
                "Valid-Until: never",
            ),
            ("Origin: Debian\n", "Origin: Debian\nOrigin: other\n"),
            ("SHA256:", "SHA1:"),
            ("56620099", "-1"),
            ("56620099", "+1"),
            ("56620099", "99999999999999999999"),
            (digest, "4f2c"),
            (" main/binary-amd64/Packages\n", "\n"),
            (
                " main/binary-amd64/Packages\n",
                " main/binary-amd64/../../Packages\n",
            ),
            (" main/binary-amd64/Packages\n", " /etc/passwd\n"),
            (
                " main/binary-amd64/Packages\n",
                " http://example.org/Packages\n",
            ),
            (
                " main/binary-amd64/Packages\n",
                " main/binary-amd64/Packages.xz\n",
            ),
            ("Codename: trixie\n", "Codename: trixie\n\n"),
            ("Suite: stable\nCodename: trixie\n", ""),
        ] {
            assert!(TEXT.contains(from), "{from:?}");
            assert!(
                Release::parse(&TEXT.replacen(from, to, 1)).is_err(),
                "{to:?}"
            );
        }
    }

    #[test]
    fn errors_name_the_line() {
        let text = TEXT.replacen("56620099", "many", 1);
        match Release::parse(&text) {
            Err(ReleaseError::Field { line, .. }) => assert_eq!(line, 12),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_expired_release_names_the_suite_the_date_and_the_key() {
        let release = Release::parse(TEXT).unwrap();
        let date = |text: &str| text.parse::<Moment>().unwrap();
        let during = date("2026-09-15T00:00:00Z");
        assert_eq!(release.check_validity(during, false), Ok(()));
        let after = date("2026-10-01T00:00:00Z");
        let message = release
            .check_validity(after, false)
            .unwrap_err()
            .to_string();
        for part in ["trixie", "2026-09-19", "accept-expired"] {
            assert!(message.contains(part), "{message}");
        }
        assert_eq!(release.check_validity(after, true), Ok(()));
        let before = date("2026-09-10T00:00:00Z");
        assert!(matches!(
            release.check_validity(before, true),
            Err(ValidityError::FromTheFuture { .. })
        ));
        let forever = Release {
            valid_until: None,
            ..release
        };
        assert_eq!(forever.check_validity(after, false), Ok(()));
    }
}
