//! The cleartext signature frame (RFC 9580 section 7), read strictly.
//!
//! A lenient reader is what attacks on signed text live from: something before the frame, after it, or smuggled into its
//! headers gets parsed although nobody signed it. Here a text is one frame and nothing else, and what comes out is
//! exactly what the signatures cover.

use super::TrustError;

const BEGIN_MESSAGE: &str = "-----BEGIN PGP SIGNED MESSAGE-----";
const BEGIN_SIGNATURE: &str = "-----BEGIN PGP SIGNATURE-----";
const END_SIGNATURE: &str = "-----END PGP SIGNATURE-----";

/// A frame taken apart; nothing in it is verified yet.
#[derive(Debug)]
pub(super) struct Frame<'a> {
    /// The text between the headers and the signature, dash escapes undone and blanks at the ends of lines dropped, as
    /// they are not signed. Lines end with `\n`, but for the last, which has no end.
    pub(super) text: String,
    /// The armored signature, from its first to its last dashes.
    pub(super) armor: &'a str,
}

impl<'a> Frame<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, TrustError> {
        let whole = std::str::from_utf8(bytes).map_err(|e| {
            let line = bytes[..e.valid_up_to()].iter().filter(|b| **b == b'\n');
            refuse(line.count(), "the text is not UTF-8")
        })?;
        let mut lines = Lines {
            rest: whole,
            number: 0,
        };
        if lines.take()? != BEGIN_MESSAGE {
            return Err(refuse(
                0,
                "it does not start with \"-----BEGIN PGP SIGNED MESSAGE-----\"",
            ));
        }
        loop {
            match lines.take()? {
                "" => break,
                header => check_header(header).map_err(|problem| lines.refuse(problem))?,
            }
        }
        let mut text = String::with_capacity(whole.len());
        let mut first = true;
        let armor_start = loop {
            let before = lines.rest;
            let line = lines.take()?;
            if line == BEGIN_SIGNATURE {
                break before;
            }
            let plain = match line.strip_prefix("- ") {
                Some(plain) => plain,
                None if line.starts_with('-') => {
                    return Err(lines.refuse("a line starts with a dash that is not escaped"));
                }
                None => line,
            };
            if !std::mem::take(&mut first) {
                text.push('\n');
            }
            text.push_str(plain.trim_end_matches([' ', '\t']));
        };
        // Armor may have headers of its own; they say nothing that is used.
        loop {
            let line = lines.take()?;
            if line == END_SIGNATURE {
                break;
            }
            if line.starts_with('-') {
                return Err(lines.refuse("a second block starts within the signature"));
            }
        }
        let armor = &armor_start[..armor_start.len() - lines.rest.len()];
        if !lines.rest.is_empty() {
            lines.number += 1;
            return Err(lines.refuse("something follows the signature"));
        }
        Ok(Self { text, armor })
    }

    /// What the signatures are made over: the text with each line break written as carriage return and line feed.
    pub(super) fn signed_bytes(&self) -> Vec<u8> {
        self.text.replace('\n', "\r\n").into_bytes()
    }
}

fn check_header(header: &str) -> Result<(), &'static str> {
    let plain = |name: &str| {
        !name.is_empty()
            && name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'/'))
    };
    match header.strip_prefix("Hash: ") {
        Some(names) if names.split(',').all(|name| plain(name.trim())) => Ok(()),
        Some(_) => Err("the header \"Hash\" does not list hash algorithms"),
        None => Err("a header other than \"Hash\" stands before the signed text"),
    }
}

fn refuse(line: usize, problem: &'static str) -> TrustError {
    TrustError::Frame {
        line: line + 1,
        problem,
    }
}

struct Lines<'a> {
    rest: &'a str,
    /// Lines taken.
    number: usize,
}

impl<'a> Lines<'a> {
    fn take(&mut self) -> Result<&'a str, TrustError> {
        let (line, rest) = match self.rest.split_once('\n') {
            Some(split) => split,
            None if self.rest.is_empty() => {
                return Err(refuse(self.number, "it ends before its signature does"));
            }
            None => (self.rest, ""),
        };
        self.rest = rest;
        self.number += 1;
        if line.bytes().any(|b| b < b' ' && b != b'\t') {
            return Err(self.refuse("a line holds a control character"));
        }
        Ok(line)
    }

    fn refuse(&self, problem: &'static str) -> TrustError {
        refuse(self.number - 1, problem)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256, SHA512\n\nOrigin: x \t\n- -dashed\n\nlast\n\
        -----BEGIN PGP SIGNATURE-----\nComment: c\n\nAAAA\n=AAAA\n-----END PGP SIGNATURE-----\n";

    #[test]
    fn the_signed_text_alone_comes_out() {
        let frame = Frame::parse(GOOD.as_bytes()).unwrap();
        assert_eq!(frame.text, "Origin: x\n-dashed\n\nlast");
        assert_eq!(
            frame.signed_bytes(),
            b"Origin: x\r\n-dashed\r\n\r\nlast".to_vec()
        );
        assert!(frame.armor.starts_with(BEGIN_SIGNATURE));
        assert_eq!(frame.armor.trim_end().lines().last(), Some(END_SIGNATURE));
    }

    #[test]
    fn whatever_is_not_one_plain_frame_is_refused() {
        let swap = |from: &str, to: &str| {
            assert!(GOOD.contains(from));
            GOOD.replacen(from, to, 1)
        };
        for (text, line) in [
            (String::new(), 1),
            ("Origin: x\n".to_owned(), 1),
            (format!("\n{GOOD}"), 1),
            (format!("\u{feff}{GOOD}"), 1),
            (format!("Origin: evil\n{GOOD}"), 1),
            (format!("{GOOD}Origin: evil\n"), 14),
            (format!("{GOOD}\n"), 14),
            (format!("{GOOD}{GOOD}"), 14),
            (
                swap("Hash: SHA256, SHA512\n", "Hash: SHA256\nOrigin: evil\n"),
                3,
            ),
            (
                swap("Hash: SHA256, SHA512\n", "Hash: SHA256\u{a0}evil\n"),
                2,
            ),
            (swap("Hash: SHA256, SHA512\n\n", "Hash: SHA256\n \n"), 3),
            (swap("- -dashed", "-dashed"), 5),
            (swap("last", "-----BEGIN PGP SIGNED MESSAGE-----"), 7),
            (swap("last", "-----BEGIN PGP SIGNATURE----- "), 7),
            (swap("last", "la\rst"), 7),
            (swap("last", "la\0st"), 7),
            (swap("=AAAA", "-----BEGIN PGP SIGNATURE-----"), 12),
            (swap("-----END PGP SIGNATURE-----\n", ""), 13),
            (GOOD.replace('\n', "\r\n"), 1),
        ] {
            match Frame::parse(text.as_bytes()) {
                Err(TrustError::Frame { line: found, .. }) => assert_eq!(found, line, "{text:?}"),
                other => panic!("{text:?}: {other:?}"),
            }
        }
        assert!(Frame::parse(b"-----BEGIN PGP SIGNED MESSAGE-----\n\n\xff\n").is_err());
    }
}
