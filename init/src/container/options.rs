//! Command lines as getopt_long(3) of the GNU C library reads them.

use core::ffi::CStr;

use super::message::{Message, Value::Text};
use crate::sys::{Strings, Vector};

/// Which options there are.
#[derive(Debug)]
pub struct Grammar {
    /// Letters; one that takes a value has a colon behind it.
    pub letters: &'static [u8],
    /// Long names and the letters they stand for. Without any, `--name` is a cluster of letters.
    pub names: &'static [(&'static [u8], u8)],
}

impl Grammar {
    /// Whether a letter takes a value; `None` when there is no such option.
    fn takes_value(&self, letter: u8) -> Option<bool> {
        let at = self.letters.iter().position(|&known| known == letter)?;
        (letter != b':').then(|| self.letters.get(at + 1) == Some(&b':'))
    }
}

/// A piece of the command line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Word<'s> {
    /// An option by its letter, and its value if it takes one.
    Option(u8, &'s [u8]),
    /// Anything else.
    Operand(&'s CStr),
    /// Neither.
    Wrong(Mistake<'s>),
}

/// What is wrong with an option.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mistake<'s> {
    /// No option has this letter.
    UnknownLetter(u8),
    /// None has this name.
    UnknownName(&'s [u8]),
    /// Several have names that begin so.
    Ambiguous(&'s [u8]),
    /// This one takes a value.
    LetterWithoutValue(u8),
    /// And this one.
    NameWithoutValue(&'static [u8]),
    /// This one takes none.
    NameWithValue(&'static [u8]),
}

/// The pieces of a command line, in order.
#[derive(Clone, Debug)]
pub struct Words<'s> {
    rest: Strings<'s>,
    grammar: &'static Grammar,
    /// Whether options may come after operands.
    mixed: bool,
    /// Letters of the present word that are still to be read.
    cluster: &'s [u8],
    /// Whether only operands are left.
    ended: bool,
}

impl<'s> Words<'s> {
    /// The pieces of `arguments`, the first of which is passed over.
    pub fn new(arguments: &Vector<'s>, grammar: &'static Grammar, mixed: bool) -> Self {
        let mut rest = arguments.iter();
        rest.next();
        Words {
            rest,
            grammar,
            mixed,
            cluster: b"",
            ended: false,
        }
    }

    /// The option of a letter; `rest` is what follows it in its word.
    fn letter(&mut self, letter: u8, rest: &'s [u8]) -> Word<'s> {
        self.cluster = rest;
        match self.grammar.takes_value(letter) {
            None => Word::Wrong(Mistake::UnknownLetter(letter)),
            Some(false) => Word::Option(letter, b""),
            Some(true) if !rest.is_empty() => {
                self.cluster = b"";
                Word::Option(letter, rest)
            }
            Some(true) => match self.rest.next() {
                Some(value) => Word::Option(letter, value.to_bytes()),
                None => Word::Wrong(Mistake::LetterWithoutValue(letter)),
            },
        }
    }

    /// The option that a long name, or the beginning of just one, stands for.
    fn name(&mut self, text: &'s [u8]) -> Word<'s> {
        let mut halves = text.splitn(2, |&byte| byte == b'=');
        let given = halves.next().unwrap_or_default();
        let value = halves.next();
        let mut found: Option<(&'static [u8], u8)> = None;
        let mut several = false;
        for candidate in candidates(self.grammar, given) {
            several |= found.is_some_and(|(_, letter)| letter != candidate.1);
            found = Some(candidate);
            if candidate.0 == given {
                several = false;
                break;
            }
        }
        let (name, letter) = match found {
            Some(_) if several => return Word::Wrong(Mistake::Ambiguous(text)),
            Some(found) => found,
            None => return Word::Wrong(Mistake::UnknownName(text)),
        };
        match (self.grammar.takes_value(letter) == Some(true), value) {
            (false, None) => Word::Option(letter, b""),
            (false, Some(_)) => Word::Wrong(Mistake::NameWithValue(name)),
            (true, Some(value)) => Word::Option(letter, value),
            (true, None) => match self.rest.next() {
                Some(value) => Word::Option(letter, value.to_bytes()),
                None => Word::Wrong(Mistake::NameWithoutValue(name)),
            },
        }
    }
}

/// The long names that begin so, and their letters.
fn candidates(
    grammar: &'static Grammar,
    begin: &[u8],
) -> impl Iterator<Item = (&'static [u8], u8)> {
    let names = grammar.names.iter().copied();
    names.filter(move |(name, _)| name.starts_with(begin))
}

impl<'s> Iterator for Words<'s> {
    type Item = Word<'s>;

    fn next(&mut self) -> Option<Word<'s>> {
        if let [letter, rest @ ..] = self.cluster {
            return Some(self.letter(*letter, rest));
        }
        let word = self.rest.next()?;
        if self.ended {
            return Some(Word::Operand(word));
        }
        Some(match word.to_bytes() {
            b"--" => {
                self.ended = true;
                Word::Operand(self.rest.next()?)
            }
            [b'-', b'-', name @ ..] if !self.grammar.names.is_empty() => self.name(name),
            [b'-', letter, rest @ ..] => self.letter(*letter, rest),
            _ => {
                self.ended = !self.mixed;
                Word::Operand(word)
            }
        })
    }
}

impl Mistake<'_> {
    /// Tells of it on standard error.
    pub fn tell(self, called: &CStr, grammar: &'static Grammar) {
        let mut message = Message::to(2);
        message.add(b"%1: ", &[Text(called.to_bytes())]);
        match self {
            Mistake::UnknownLetter(letter) => {
                message.add(b"invalid option -- '%1'\n", &[Text(&[letter])]);
            }
            Mistake::UnknownName(name) => {
                message.add(b"unrecognized option '--%1'\n", &[Text(name)]);
            }
            Mistake::Ambiguous(name) => {
                message.add(b"option '--%1' is ambiguous; possibilities:", &[Text(name)]);
                for (candidate, _) in candidates(grammar, name) {
                    message.add(b" '--%1'", &[Text(candidate)]);
                }
                message.add(b"\n", &[]);
            }
            Mistake::LetterWithoutValue(letter) => {
                message.add(b"option requires an argument -- '%1'\n", &[Text(&[letter])]);
            }
            Mistake::NameWithoutValue(name) => {
                message.add(b"option '--%1' requires an argument\n", &[Text(name)]);
            }
            Mistake::NameWithValue(name) => {
                message.add(b"option '--%1' doesn't allow an argument\n", &[Text(name)]);
            }
        }
    }
}
