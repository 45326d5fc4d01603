//! What a program in an environment writes, made fit for a terminal: colours pass, what would steer the terminal does not.

use envd_agents::service::excerpt::whole_characters;

/// Bytes of an escape sequence that may still become a colour.
const LONGEST: usize = 32;

/// Makes text fit, piece by piece.
#[derive(Default, Debug)]
pub(super) struct Plain {
    /// A character or an escape sequence whose end has not come yet.
    held: Vec<u8>,
}

impl Plain {
    /// The next piece.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.held.extend_from_slice(bytes);
        let whole = whole_characters(&self.held);
        let rest = self.held.split_off(whole);
        let text = String::from_utf8_lossy(&self.held).into_owned();
        self.held = rest;
        let (shown, left) = shown(&text);
        if !left.is_empty() {
            self.held.splice(0..0, left.bytes());
        }
        shown.into_bytes()
    }

    /// What is left at the end.
    pub(super) fn finish(&mut self) -> Vec<u8> {
        let held = std::mem::take(&mut self.held);
        let text = String::from_utf8_lossy(&held);
        text.chars().map(sign).collect::<String>().into_bytes()
    }
}

/// All that is complete, and the beginning of a sequence that is not.
fn shown(text: &str) -> (String, &str) {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        if character == '\u{1b}' {
            match harmless(rest) {
                Sequence::Whole(length) => {
                    shown.push_str(&rest[..length]);
                    rest = &rest[length..];
                    continue;
                }
                Sequence::Begun => return (shown, rest),
                Sequence::Other => {}
            }
        }
        shown.push(sign(character));
        rest = &rest[character.len_utf8()..];
    }
    (shown, rest)
}

enum Sequence {
    /// One that sets colours or clears the rest of a line, of so many bytes.
    Whole(usize),
    /// It may become one.
    Begun,
    Other,
}

fn harmless(text: &str) -> Sequence {
    let bytes = text.as_bytes();
    match bytes.get(1) {
        None => return Sequence::Begun,
        Some(b'[') => {}
        Some(_) => return Sequence::Other,
    }
    let parameters = bytes[2..]
        .iter()
        .take_while(|byte| byte.is_ascii_digit() || **byte == b';')
        .count();
    match bytes.get(2 + parameters) {
        Some(b'm' | b'K') => Sequence::Whole(3 + parameters),
        None if bytes.len() < LONGEST => Sequence::Begun,
        _ => Sequence::Other,
    }
}

/// A control character as a sign of its own.
fn sign(character: char) -> char {
    match character {
        '\n' | '\t' | '\r' | '\u{8}' => character,
        '\0'..='\u{1f}' => char::from_u32(0x2400 + character as u32).unwrap_or('\u{fffd}'),
        '\u{7f}' => '\u{2421}',
        '\u{80}'..='\u{9f}' => '\u{fffd}',
        _ => character,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(pieces: &[&[u8]]) -> String {
        let mut plain = Plain::default();
        let mut shown = Vec::new();
        for piece in pieces {
            shown.extend(plain.push(piece));
        }
        shown.extend(plain.finish());
        String::from_utf8(shown).unwrap()
    }

    #[test]
    fn colours_and_progress_pass() {
        let text = "\u{1b}[1;31merror\u{1b}[0m\r50 %\u{1b}[K\n\tä€\n";
        assert_eq!(plain(&[text.as_bytes()]), text);
        for at in 0..text.len() {
            let (one, other) = text.as_bytes().split_at(at);
            assert_eq!(plain(&[one, other]), text, "cut at {at}");
        }
    }

    #[test]
    fn what_steers_a_terminal_is_shown_and_not_done() {
        for evil in [
            "\u{1b}]52;c;cm0gLXJm\u{7}",
            "\u{1b}]0;title\u{1b}\\",
            "\u{1b}[2J",
            "\u{1b}[?1049h",
            "\u{1b}[6n",
            "\u{1b}c",
            "\u{9b}2J",
            "\u{1b}P$q\u{1b}\\",
            "\u{1b}",
            "\u{1b}[11111111111111111111111111111111111111",
        ] {
            for at in 0..=evil.len() {
                let (one, other) = evil.as_bytes().split_at(at);
                let shown = plain(&[one, other]);
                assert!(
                    !shown.contains(['\u{1b}', '\u{7}', '\u{9b}']),
                    "{shown:?} of {evil:?} cut at {at}"
                );
            }
        }
        assert!(!plain(&[b"\x9b2J"]).contains('\u{9b}'), "no UTF-8");
    }
}
