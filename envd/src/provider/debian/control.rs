//! Debian control data (deb822): stanzas of `Name: value` fields, as Packages, Release and `control` files are written.
//!
//! The grammar is Debian Policy 5.1. One pass over the text finds the end of a stanza and refuses what is no field;
//! nothing is copied, so that the 65 MB of a suite's Packages cost a tenth of a second. Fields are slices of the text.

use std::io::{self, Read};

use memchr::memchr;

/// The longest stanza that a stream may hold. The longest one of Debian's Packages has 24,000 bytes.
const STANZA_LIMIT: usize = 16 << 20;

/// How much a stream is read ahead.
const CHUNK: usize = 1 << 20;

/// Text that is not control data.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("line {line}: {problem}")]
pub struct ControlError {
    /// Line of the text, from 1.
    pub line: u64,
    /// What is wrong there.
    pub problem: &'static str,
}

/// Control data that could not be read from a stream.
#[derive(Debug, thiserror::Error)]
pub enum ReadError<E> {
    /// The stream failed.
    #[error("cannot read the control data")]
    Read(#[source] io::Error),
    /// The stream holds something else.
    #[error(transparent)]
    Control(ControlError),
    /// The caller refused a stanza.
    #[error(transparent)]
    Refused(E),
}

/// The stanzas of a text, in order.
pub struct Stanzas<'a> {
    text: &'a str,
    position: usize,
    line: u64,
}

impl<'a> Stanzas<'a> {
    /// Reads `text`.
    pub fn new(text: &'a str) -> Self {
        Self {
            text,
            position: 0,
            line: 1,
        }
    }

    /// Reads `text`, whose first line is line `line` of something longer.
    fn starting_at(text: &'a str, line: u64) -> Self {
        Self {
            text,
            position: 0,
            line,
        }
    }
}

impl<'a> Iterator for Stanzas<'a> {
    type Item = Result<Stanza<'a>, ControlError>;

    fn next(&mut self) -> Option<Self::Item> {
        let bytes = self.text.as_bytes();
        let mut start = None;
        let mut first_line = self.line;
        while self.position < bytes.len() {
            let begin = self.position;
            let end = memchr(b'\n', &bytes[begin..]).map_or(bytes.len(), |n| begin + n);
            let line = &bytes[begin..end];
            let number = self.line;
            self.position = (end + 1).min(bytes.len());
            self.line += 1;
            if is_blank(line) {
                match start {
                    Some(start) => {
                        return Some(Ok(Stanza {
                            text: &self.text[start..begin],
                            line: first_line,
                        }));
                    }
                    None => continue,
                }
            }
            if let Err(problem) = check_line(line, start.is_none()) {
                self.position = bytes.len();
                return Some(Err(ControlError {
                    line: number,
                    problem,
                }));
            }
            if start.is_none() {
                start = Some(begin);
                first_line = number;
            }
        }
        start.map(|start| {
            Ok(Stanza {
                text: &self.text[start..],
                line: first_line,
            })
        })
    }
}

/// A line that ends a stanza.
fn is_blank(line: &[u8]) -> bool {
    match line.first() {
        None => true,
        Some(b' ' | b'\t') => line.iter().all(|b| matches!(b, b' ' | b'\t')),
        Some(_) => false,
    }
}

fn check_line(line: &[u8], first: bool) -> Result<(), &'static str> {
    if matches!(line[0], b' ' | b'\t') {
        return match first {
            true => Err("a stanza starts with a continuation line"),
            false => Ok(()),
        };
    }
    if matches!(line[0], b'#' | b'-') {
        return Err("a field name starts with '#' or '-'");
    }
    // Names are short: a plain loop beats a vectorised search.
    for &byte in line {
        match byte {
            b':' if line[0] == b':' => return Err("a field has no name"),
            b':' => return Ok(()),
            b'!'..=b'~' => {}
            _ => return Err("a field name holds a space or a character that is not ASCII"),
        }
    }
    Err("a line is neither \"Name: value\" nor the continuation of one")
}

/// One stanza: well-formed fields, in the order they were written.
#[derive(Clone, Copy, Debug)]
pub struct Stanza<'a> {
    text: &'a str,
    line: u64,
}

impl<'a> Stanza<'a> {
    /// The only stanza of `text`.
    pub fn only(text: &'a str) -> Result<Self, ControlError> {
        let mut stanzas = Stanzas::new(text);
        let stanza = stanzas.next().ok_or(ControlError {
            line: 1,
            problem: "there are no fields",
        })??;
        match stanzas.next() {
            None => Ok(stanza),
            Some(Err(e)) => Err(e),
            Some(Ok(second)) => Err(ControlError {
                line: second.line,
                problem: "there is a second stanza where one is expected",
            }),
        }
    }

    /// The line of the text that the stanza starts on.
    pub fn line(&self) -> u64 {
        self.line
    }

    /// The stanza as it is written, without the blank line that ends it.
    pub fn text(&self) -> &'a str {
        self.text
    }

    /// The fields.
    pub fn fields(&self) -> Fields<'a> {
        Fields { rest: self.text }
    }

    /// The value of the first field of that name, compared as Policy says: without regard to case.
    pub fn get(&self, name: &str) -> Option<&'a str> {
        self.fields()
            .find(|field| field.name.eq_ignore_ascii_case(name))
            .map(|field| field.value)
    }

    /// The line of the text on which `value`, a slice that this stanza yielded, starts.
    pub fn line_of(&self, value: &str) -> u64 {
        let offset = (value.as_ptr() as usize)
            .saturating_sub(self.text.as_ptr() as usize)
            .min(self.text.len());
        let before = &self.text.as_bytes()[..offset];
        self.line + memchr::memchr_iter(b'\n', before).count() as u64
    }
}

/// One field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// Its name as written.
    pub name: &'a str,
    /// Its value without surrounding blanks; a line break and the blanks after it stay as they are.
    pub value: &'a str,
}

impl<'a> Field<'a> {
    /// The lines of the value, without surrounding blanks; the first is what follows the colon.
    pub fn lines(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.value.split('\n').map(str::trim)
    }
}

/// The fields of a stanza.
pub struct Fields<'a> {
    rest: &'a str,
}

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        let bytes = self.rest.as_bytes();
        let colon = bytes.iter().position(|&b| b == b':')?;
        let mut end = colon + 1;
        let next = loop {
            match memchr(b'\n', &bytes[end..]) {
                None => break bytes.len(),
                Some(n) => {
                    end += n + 1;
                    if !matches!(bytes.get(end), Some(b' ' | b'\t')) {
                        break end;
                    }
                }
            }
        };
        let field = Field {
            name: &self.rest[..colon],
            value: self.rest[colon + 1..next].trim_matches([' ', '\t', '\n', '\r']),
        };
        self.rest = &self.rest[next..];
        Some(field)
    }
}

/// Hands each stanza of a stream to `take`, with bounded memory.
pub fn read_stanzas<E>(
    mut reader: impl Read,
    mut take: impl FnMut(Stanza<'_>) -> Result<(), E>,
) -> Result<(), ReadError<E>> {
    let mut buffer = vec![0; 2 * CHUNK];
    let mut filled = 0;
    let mut line = 1;
    loop {
        if filled == buffer.len() {
            if buffer.len() >= STANZA_LIMIT {
                return Err(ReadError::Control(ControlError {
                    line,
                    problem: "a stanza is longer than 16 MiB",
                }));
            }
            buffer.resize(buffer.len() * 2, 0);
        }
        let read = match reader.read(&mut buffer[filled..]) {
            Ok(read) => read,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(ReadError::Read(e)),
        };
        filled += read;
        // Whole stanzas only, but for the last; and seldom, for searching them costs as much as reading them.
        if read > 0 && filled < buffer.len() {
            continue;
        }
        let whole = match read {
            0 => filled,
            _ => memchr::memmem::rfind(&buffer[..filled], b"\n\n").map_or(0, |n| n + 2),
        };
        let text = std::str::from_utf8(&buffer[..whole]).map_err(|e| {
            let before = &buffer[..e.valid_up_to()];
            ReadError::Control(ControlError {
                line: line + memchr::memchr_iter(b'\n', before).count() as u64,
                problem: "a line is not UTF-8",
            })
        })?;
        let mut stanzas = Stanzas::starting_at(text, line);
        for stanza in stanzas.by_ref() {
            take(stanza.map_err(ReadError::Control)?).map_err(ReadError::Refused)?;
        }
        line = stanzas.line;
        if read == 0 {
            return Ok(());
        }
        buffer.copy_within(whole..filled, 0);
        filled -= whole;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fields(text: &str) -> Vec<Vec<(&str, &str)>> {
        Stanzas::new(text)
            .map(|s| s.unwrap().fields().map(|f| (f.name, f.value)).collect())
            .collect()
    }

    #[test]
    fn fields_are_what_was_written() {
        let text = "\nPackage: a\nDepends: b,\n c (>= 1:2)\nEmpty:\n\n \t\nPackage:z\nDescription: x\n .\n y";
        assert_eq!(
            fields(text),
            vec![
                vec![
                    ("Package", "a"),
                    ("Depends", "b,\n c (>= 1:2)"),
                    ("Empty", "")
                ],
                vec![("Package", "z"), ("Description", "x\n .\n y")],
            ]
        );
        let stanza = Stanzas::new(text).next().unwrap().unwrap();
        assert_eq!(stanza.line(), 2);
        assert_eq!(stanza.get("depends"), Some("b,\n c (>= 1:2)"));
        assert_eq!(stanza.line_of(stanza.get("Depends").unwrap()), 3);
        assert_eq!(
            stanza.fields().nth(1).unwrap().lines().collect::<Vec<_>>(),
            ["b,", "c (>= 1:2)"]
        );
    }

    #[test]
    fn garbage_is_refused_by_line() {
        for (text, line) in [
            ("Package: a\ngarbage\n", 2),
            (" leading\n", 1),
            ("Package: a\n\n\n: b\n", 4),
            ("Package: a\n#comment\n", 2),
            ("-----BEGIN PGP SIGNED MESSAGE-----\n", 1),
            ("Two words: b\n", 1),
            ("Pack\u{e4}ge: b\n", 1),
            ("A: b\nC\u{0}: d\n", 2),
        ] {
            let found = Stanzas::new(text).find_map(Result::err);
            assert_eq!(found.map(|e| e.line), Some(line), "{text:?}");
            let mut streamed = None;
            if let Err(ReadError::Control(e)) =
                read_stanzas(text.as_bytes(), |_| Ok::<(), ControlError>(()))
            {
                streamed = Some(e.line);
            }
            assert_eq!(streamed, Some(line), "{text:?}");
        }
    }

    #[test]
    fn only_one_stanza_where_one_is_expected() {
        assert_eq!(Stanza::only("A: b\n").unwrap().get("A"), Some("b"));
        assert_eq!(Stanza::only("A: b\n\nC: d\n").unwrap_err().line, 3);
        assert!(Stanza::only("\n").is_err());
    }

    #[test]
    fn a_stream_yields_what_the_text_does() {
        let mut text = String::new();
        for n in 0..60_000 {
            text += &format!("Package: p{n}\nDescription: some words about it\n and more\n\n");
        }
        assert!(text.len() > 2 * CHUNK);
        let mut lines = Vec::new();
        read_stanzas(text.as_bytes(), |stanza| {
            lines.push((stanza.line(), stanza.text().to_owned()));
            Ok::<(), ControlError>(())
        })
        .unwrap();
        let whole: Vec<_> = Stanzas::new(&text)
            .map(|s| s.unwrap())
            .map(|s| (s.line(), s.text().to_owned()))
            .collect();
        assert_eq!(lines, whole);
    }

    #[test]
    fn bad_utf8_is_refused_by_line() {
        let refused = read_stanzas(&b"A: b\nC: \xff\n"[..], |_| Ok::<(), ControlError>(()));
        assert!(matches!(refused, Err(ReadError::Control(e)) if e.line == 2));
    }

    proptest! {
        #[test]
        fn nothing_panics_and_fields_cover_the_text(text in "[A-Za-z: \t\n#é]{0,200}") {
            for stanza in Stanzas::new(&text).flatten() {
                prop_assert!(stanza.fields().count() > 0);
                for field in stanza.fields() {
                    prop_assert!(!field.name.is_empty() && !field.name.contains('\n'));
                }
            }
        }
    }
}
