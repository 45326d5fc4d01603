//! Names as file systems that fold them see them.
//!
//! A name that is not `.git` for us may be for the file system the owner keeps the project on: ext4 and F2FS with `casefold`,
//! APFS, HFS+, NTFS and CIFS. What these take for the same is taken for the same here, and on every file system: a rule must
//! not depend on where the next copy of the project lies.

use crate::changes::escape::is_invisible;

/// A component as ASCII patterns are compared with: lower case, without what shows as nothing, and without what NTFS ignores at
/// the end.
pub(super) fn fold(component: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(component.len());
    for chunk in component.utf8_chunks() {
        for c in chunk.valid().chars().filter(|&c| !is_invisible(c)) {
            match ascii(c) {
                Some(text) => out.extend(text.bytes()),
                None if c.is_ascii() => out.push(c.to_ascii_lowercase() as u8),
                None => out.extend(c.to_lowercase().collect::<String>().into_bytes()),
            }
        }
        out.extend(chunk.invalid());
    }
    // NTFS: "name:stream" is a part of "name".
    if let Some(colon) = out.iter().position(|&b| b == b':') {
        out.truncate(colon);
    }
    while matches!(out.last(), Some(b' ' | b'.')) {
        out.pop();
    }
    out
}

/// The letters beyond ASCII that case folding (CaseFolding.txt, C and F) or canonical decomposition makes ASCII. There are no
/// more.
fn ascii(c: char) -> Option<&'static str> {
    Some(match c {
        '\u{212a}' => "k",
        '\u{17f}' => "s",
        '\u{df}' | '\u{1e9e}' => "ss",
        '\u{fb00}' => "ff",
        '\u{fb01}' => "fi",
        '\u{fb02}' => "fl",
        '\u{fb03}' => "ffi",
        '\u{fb04}' => "ffl",
        '\u{fb05}' | '\u{fb06}' => "st",
        '\u{37e}' => ";",
        '\u{1fef}' => "`",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An attacker would write to `.git` under a name that no rule knows.
    #[test]
    fn what_a_file_system_takes_for_the_same_is_the_same() {
        for name in [
            ".git",
            ".GIT",
            ".gIt ",
            ".git. .",
            ".git::$INDEX_ALLOCATION",
            ".g\u{200c}it",
            "\u{feff}.git",
            ".gi\u{2060}t",
        ] {
            assert_eq!(fold(name.as_bytes()), b".git", "{name:?}");
        }
        assert_eq!(fold("hoo\u{212a}\u{17f}".as_bytes()), b"hooks");
        assert_eq!(fold("con\u{fb01}g".as_bytes()), b"config");
        assert_eq!(fold(b"\xff.GIT"), b"\xff.git");
        assert_ne!(fold(b"_git"), b".git");
    }
}
