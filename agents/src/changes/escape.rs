//! Hostile names and lines as text that a terminal cannot be steered by and that nobody can be deceived with.
//!
//! Names are written as git writes them: as they are when plain, else in double quotes with C escapes. That has an inverse
//! ([`parse_name`]), so that what a diff names can be chosen. Lines of content are shown with a visible sign in place of
//! each control character; that has none, and says so.

use std::fmt::{self, Write};

use envd_store::TreePath;

/// A path as it is shown to people and programs.
pub struct Shown<'a>(pub &'a TreePath);

impl Shown<'_> {
    /// The same, or words for the top.
    pub(super) fn top(path: Option<&TreePath>) -> String {
        path.map_or_else(
            || "the project's top directory".to_owned(),
            |path| name(path.as_bytes()),
        )
    }
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&name(self.0.as_bytes()))
    }
}

/// Whether a character shows as itself and leaves all others where they are. Controls, separators of lines and paragraphs,
/// what changes the direction of text (Unicode Technical Report 36, "Trojan Source"), and what shows as nothing do not.
fn is_plain(c: char) -> bool {
    !c.is_control() && !is_invisible(c)
}

/// Format characters and others that show as nothing: the code points with the property Default_Ignorable_Code_Point, the
/// line and paragraph separators, and tags.
pub(super) fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
        | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
        | '\u{e0000}'..='\u{e0fff}')
}

/// A name as text: itself when it is plain, else in double quotes with escapes.
pub fn name(bytes: &[u8]) -> String {
    if let Ok(text) = std::str::from_utf8(bytes)
        && text.chars().all(|c| is_plain(c) && c != '"' && c != '\\')
        // What would read as the end of the name, or be trimmed away.
        && !text.starts_with(' ')
        && !text.ends_with(' ')
    {
        return text.to_owned();
    }
    let mut out = String::with_capacity(bytes.len() + 8);
    out.push('"');
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\t' => out.push_str("\\t"),
                c if is_plain(c) => out.push(c),
                c => octal(c.encode_utf8(&mut [0; 4]).as_bytes(), &mut out),
            }
        }
        octal(chunk.invalid(), &mut out);
    }
    out.push('"');
    out
}

fn octal(bytes: &[u8], out: &mut String) {
    for byte in bytes {
        let _ = write!(out, "\\{byte:03o}");
    }
}

/// The bytes of a name that [`name`] wrote, or that a person typed. `None` for broken escapes.
pub fn parse_name(text: &str) -> Option<Vec<u8>> {
    let Some(rest) = text.strip_prefix('"') else {
        return Some(text.as_bytes().to_owned());
    };
    let mut bytes = rest.strip_suffix('"')?.bytes();
    let mut out = Vec::with_capacity(rest.len());
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => return None,
            b'\\' => match bytes.next()? {
                b'n' => out.push(b'\n'),
                b't' => out.push(b'\t'),
                same @ (b'"' | b'\\') => out.push(same),
                first @ b'0'..=b'3' => {
                    let mut value = first - b'0';
                    for _ in 0..2 {
                        let digit = bytes.next().filter(|digit| (b'0'..=b'7').contains(digit))?;
                        value = value << 3 | (digit - b'0');
                    }
                    out.push(value);
                }
                _ => return None,
            },
            byte => out.push(byte),
        }
    }
    Some(out)
}

/// Appends a line of content with a visible sign for each byte that a terminal would act on. Tabs stay. Whether anything had to
/// be replaced.
pub fn line(bytes: &[u8], out: &mut String) -> bool {
    let plain = |&byte: &u8| matches!(byte, b'\t' | b' '..=b'~');
    if bytes.iter().all(plain)
        && let Ok(text) = std::str::from_utf8(bytes)
    {
        out.push_str(text);
        return false;
    }
    let mut replaced = false;
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c == '\t' || is_plain(c) {
                out.push(c);
                continue;
            }
            replaced = true;
            match u32::from(c) {
                // The pictures of the control characters.
                code @ 0..0x20 => out.extend(char::from_u32(0x2400 + code)),
                0x7f => out.push('\u{2421}'),
                code => {
                    let _ = write!(out, "<U+{code:04X}>");
                }
            }
        }
        for byte in chunk.invalid() {
            replaced = true;
            let _ = write!(out, "<{byte:02X}>");
        }
    }
    replaced
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn plain_names_stay_and_others_are_quoted() {
        assert_eq!(name(b"src/main.rs"), "src/main.rs");
        assert_eq!(name("grün/日本".as_bytes()), "grün/日本");
        assert_eq!(name(b"a b"), "a b");
        assert_eq!(name(b"a\nb\x1b[2J\xff"), r#""a\nb\033[2J\377""#);
        assert_eq!(name("x\u{202e}y".as_bytes()), r#""x\342\200\256y""#);
        assert_eq!(name(b"\"q\\"), r#""\"q\\""#);
        assert_eq!(name("\u{9b}31m".as_bytes()), r#""\302\23331m""#);
    }

    /// An attacker would hide a line from whoever reviews the change, or have the terminal type for them.
    #[test]
    fn no_line_steers_a_terminal() {
        let mut out = String::new();
        assert!(line(
            b"rm -rf /\r\x1b[1A\x1b[2Kok\t\xc2\x9b\xff\x00\x7f",
            &mut out
        ));
        assert_eq!(out, "rm -rf /␍␛[1A␛[2Kok\t<U+009B><FF>␀␡");
        out.clear();
        assert!(line("if a\u{2066}".as_bytes(), &mut out));
        assert_eq!(out, "if a<U+2066>");
        out.clear();
        assert!(!line("plain: äöü".as_bytes(), &mut out));
    }

    proptest! {
        #[test]
        fn a_name_comes_back(bytes in proptest::collection::vec(any::<u8>(), 1..40)) {
            let shown = name(&bytes);
            prop_assert_eq!(parse_name(&shown), Some(bytes));
            prop_assert!(shown.chars().all(is_plain));
        }

        #[test]
        fn no_text_is_more_than_a_name(text in "\\PC*") {
            let _ = parse_name(&text);
        }

        #[test]
        fn lines_have_no_controls(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut out = String::new();
            line(&bytes, &mut out);
            prop_assert!(out.chars().all(|c| c == '\t' || is_plain(c)));
        }
    }
}
