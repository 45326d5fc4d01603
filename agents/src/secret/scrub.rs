//! Takes the values of secrets out of what passes by, whatever the pieces in which it comes.

use std::borrow::Cow;

use memchr::memmem::Finder;
use zeroize::Zeroizing;

use super::Secret;

/// A line of a value that has several is looked for on its own from this length on: a terminal or a program that prints line by
/// line breaks the whole.
const LONG_LINE: usize = 16;

/// What is looked for: values, and what is written in their place.
#[derive(Default)]
pub struct Patterns {
    /// The longest first, so that of two that begin at the same place the one that hides more is taken.
    all: Vec<Pattern>,
}

struct Pattern {
    value: Zeroizing<Vec<u8>>,
    /// Has a copy of the value, which is not overwritten at the end.
    finder: Finder<'static>,
    /// For each prefix the length of the longest shorter one that is also its end (Knuth, Morris, Pratt).
    borders: Vec<usize>,
    instead: String,
}

impl std::fmt::Debug for Patterns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "[{} patterns]", self.all.len())
    }
}

impl Pattern {
    fn new(name: &str, value: &[u8]) -> Self {
        let mut borders = vec![0; value.len()];
        let mut length = 0;
        for at in 1..value.len() {
            while length > 0 && value[at] != value[length] {
                length = borders[length - 1];
            }
            length += usize::from(value[at] == value[length]);
            borders[at] = length;
        }
        Self {
            value: Zeroizing::new(value.to_vec()),
            finder: Finder::new(value).into_owned(),
            borders,
            instead: format!("[secret {name}]"),
        }
    }

    /// How many of the last bytes may be the beginning of the value. The value itself is not in them.
    fn open(&self, bytes: &[u8]) -> usize {
        let near = &bytes[bytes.len().saturating_sub(self.value.len() - 1)..];
        let mut length = 0;
        for &byte in near {
            while length > 0 && byte != self.value[length] {
                length = self.borders[length - 1];
            }
            length += usize::from(byte == self.value[length]);
        }
        length
    }
}

/// The values in a text, in order and without overlaps: of those that overlap the one that begins first, of those that begin
/// together the longest. Each pattern goes over the text once.
struct Found<'p, 't> {
    patterns: &'p [Pattern],
    text: &'t [u8],
    /// Where the search goes on.
    from: usize,
    /// Where each pattern is next, as far as that is known.
    next: Vec<Next>,
}

#[derive(Clone, Copy)]
enum Next {
    /// Not looked for from there on.
    Unknown,
    At(usize),
    Nowhere,
}

impl<'p> Iterator for Found<'p, '_> {
    type Item = (usize, &'p Pattern);

    fn next(&mut self) -> Option<Self::Item> {
        let mut first: Option<Self::Item> = None;
        for (pattern, next) in self.patterns.iter().zip(&mut self.next) {
            let stale = match *next {
                Next::Unknown => true,
                Next::At(at) => at < self.from,
                Next::Nowhere => false,
            };
            if stale {
                let found = pattern.finder.find(&self.text[self.from..]);
                *next = found.map_or(Next::Nowhere, |at| Next::At(self.from + at));
            }
            // Those before it are longer.
            if let Next::At(at) = *next
                && first.is_none_or(|(best, _)| at < best)
            {
                first = Some((at, pattern));
            }
        }
        let (at, pattern) = first?;
        self.from = at + pattern.value.len();
        Some((at, pattern))
    }
}

impl Patterns {
    /// For these secrets by name.
    pub fn of<'s>(secrets: impl IntoIterator<Item = (&'s str, &'s Secret)>) -> Self {
        let mut all = Vec::new();
        for (name, secret) in secrets {
            let value = secret.reveal();
            all.push(Pattern::new(name, value));
            // What frames a key in PEM is no secret.
            let lines = value.split(|&byte| byte == b'\n').filter(|line| {
                line.len() >= LONG_LINE && line.len() < value.len() && !line.starts_with(b"-----")
            });
            all.extend(lines.map(|line| Pattern::new(name, line.trim_ascii_end())));
        }
        all.retain(|pattern| !pattern.value.is_empty());
        all.sort_by_key(|pattern| std::cmp::Reverse(pattern.value.len()));
        Self { all }
    }

    /// Whether there is nothing to look for.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    fn find<'p, 't>(&'p self, text: &'t [u8]) -> Found<'p, 't> {
        Found {
            patterns: &self.all,
            text,
            from: 0,
            next: vec![Next::Unknown; self.all.len()],
        }
    }

    /// A whole text without values.
    pub fn scrub(&self, text: &[u8]) -> Vec<u8> {
        let mut clean = Vec::with_capacity(text.len());
        let mut from = 0;
        for (at, pattern) in self.find(text) {
            clean.extend_from_slice(&text[from..at]);
            clean.extend_from_slice(pattern.instead.as_bytes());
            from = at + pattern.value.len();
        }
        clean.extend_from_slice(&text[from..]);
        clean
    }

    /// The same for text.
    pub fn scrub_text(&self, text: &mut String) {
        if self.occurs(text.as_bytes()) {
            *text = String::from_utf8_lossy(&self.scrub(text.as_bytes())).into_owned();
        }
    }

    /// Whether a value is in there.
    pub fn occurs(&self, text: &[u8]) -> bool {
        self.find(text).next().is_some()
    }

    /// How many of the last bytes may be the beginning of a value.
    fn open(&self, bytes: &[u8]) -> usize {
        let open = self.all.iter().map(|pattern| pattern.open(bytes));
        open.max().unwrap_or(0)
    }

    /// The length of the longest value.
    fn longest(&self) -> usize {
        self.all.first().map_or(0, |pattern| pattern.value.len())
    }
}

/// How a value is taken out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Manner {
    /// Named in its place.
    Name,
    /// Overwritten with as many asterisks, so that lengths that were stated before hold.
    Mask,
}

/// Takes values out of a stream. What may be the beginning of one is held back until it is clear.
#[derive(Debug)]
pub struct Scrubber {
    manner: Manner,
    held: Zeroizing<Vec<u8>>,
}

impl Scrubber {
    /// One that names what it takes out.
    pub fn naming() -> Self {
        Self {
            manner: Manner::Name,
            held: Zeroizing::default(),
        }
    }

    /// One that changes no lengths.
    pub fn masking() -> Self {
        Self {
            manner: Manner::Mask,
            held: Zeroizing::default(),
        }
    }

    /// Takes more in; `pass` gets what can go on.
    pub fn push(&mut self, patterns: &Patterns, bytes: &[u8], mut pass: impl FnMut(&[u8])) {
        if self.held.is_empty() && patterns.is_empty() {
            pass(bytes);
            return;
        }
        let mut whole = std::mem::take(&mut self.held);
        whole.extend_from_slice(bytes);
        let mut from = 0;
        for (at, pattern) in patterns.find(&whole) {
            // Another that begins no later may still come to its end.
            let near = whole.len() - at < patterns.longest();
            if near && whole.len() - patterns.open(&whole[from..]) <= at {
                break;
            }
            pass(&whole[from..at]);
            self.manner.hide(pattern, &mut pass);
            from = at + pattern.value.len();
        }
        let rest = &whole[from..];
        let (clear, held) = rest.split_at(rest.len() - patterns.open(rest));
        pass(clear);
        self.held = Zeroizing::new(held.to_vec());
    }

    /// Takes more in; what can go on.
    pub fn clean<'b>(&mut self, patterns: &Patterns, bytes: &'b [u8]) -> Cow<'b, [u8]> {
        if self.held.is_empty() && patterns.is_empty() {
            return Cow::Borrowed(bytes);
        }
        let mut clean = Vec::with_capacity(bytes.len());
        self.push(patterns, bytes, |bytes| clean.extend_from_slice(bytes));
        Cow::Owned(clean)
    }

    /// The end: what was held back.
    pub fn rest(&mut self, patterns: &Patterns) -> Vec<u8> {
        let mut rest = Vec::new();
        self.finish(patterns, |bytes| rest.extend_from_slice(bytes));
        rest
    }

    /// The end: `pass` gets what was held back.
    pub fn finish(&mut self, patterns: &Patterns, mut pass: impl FnMut(&[u8])) {
        let held = std::mem::take(&mut self.held);
        let mut from = 0;
        for (at, pattern) in patterns.find(&held) {
            pass(&held[from..at]);
            self.manner.hide(pattern, &mut pass);
            from = at + pattern.value.len();
        }
        if from < held.len() {
            pass(&held[from..]);
        }
    }
}

impl Manner {
    fn hide(self, pattern: &Pattern, pass: &mut impl FnMut(&[u8])) {
        match self {
            Self::Name => pass(pattern.instead.as_bytes()),
            Self::Mask => pass(&vec![b'*'; pattern.value.len()]),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;

    fn patterns(values: &[(&str, &str)]) -> Arc<Patterns> {
        let secrets: Vec<_> = values
            .iter()
            .map(|(name, value)| (*name, Secret::new(*value)))
            .collect();
        Arc::new(Patterns::of(
            secrets.iter().map(|(name, secret)| (*name, secret)),
        ))
    }

    fn stream(mut scrubber: Scrubber, patterns: &Arc<Patterns>, pieces: &[&[u8]]) -> Vec<u8> {
        let mut out = Vec::new();
        for piece in pieces {
            scrubber.push(patterns, piece, |bytes| out.extend_from_slice(bytes));
        }
        scrubber.finish(patterns, |bytes| out.extend_from_slice(bytes));
        out
    }

    #[test]
    fn a_value_is_taken_out_wherever_it_is_cut() {
        let patterns = patterns(&[("T", "hush hush")]);
        let text = b"a hush hush hush b hush hus";
        for cut in 0..=text.len() {
            let (head, tail) = text.split_at(cut);
            let named = stream(Scrubber::naming(), &patterns, &[head, tail]);
            assert_eq!(named, b"a [secret T] hush b hush hus", "{cut}");
            let masked = stream(Scrubber::masking(), &patterns, &[head, tail]);
            assert_eq!(masked, b"a ********* hush b hush hus", "{cut}");
        }
    }

    #[test]
    fn of_two_the_one_that_hides_more_is_taken() {
        let patterns = patterns(&[("SHORT", "12345678"), ("LONG", "12345678-90")]);
        let scrub = |text: &str| String::from_utf8(patterns.scrub(text.as_bytes())).unwrap();
        assert_eq!(scrub("x12345678-90x"), "x[secret LONG]x");
        assert_eq!(scrub("x12345678-9x"), "x[secret SHORT]-9x");
        // Also where the longer one has not come to its end yet.
        let pieces: [&[u8]; 2] = [b"x12345678", b"-90x"];
        let streamed = stream(Scrubber::naming(), &patterns, &pieces);
        assert_eq!(streamed, b"x[secret LONG]x");
    }

    #[test]
    fn each_line_of_a_key_is_taken_out_by_itself() {
        let key = "-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG\nshort\n-----END KEY-----\n";
        let patterns = patterns(&[("KEY", key)]);
        let terminal = key.replace('\n', "\r\n");
        let clean = String::from_utf8(patterns.scrub(terminal.as_bytes())).unwrap();
        assert_eq!(
            clean,
            "-----BEGIN KEY-----\r\n[secret KEY]\r\nshort\r\n-----END KEY-----\r\n"
        );
        assert_eq!(patterns.scrub(key.as_bytes()), b"[secret KEY]");
    }

    #[test]
    fn what_cannot_become_a_value_is_not_held_back() {
        let patterns = patterns(&[("T", "hush hush")]);
        let mut scrubber = Scrubber::naming();
        let mut out = Vec::new();
        scrubber.push(&patterns, b"Password: ", |bytes| {
            out.extend_from_slice(bytes)
        });
        assert_eq!(out, b"Password: ");
    }

    #[test]
    fn nothing_shows_a_value() {
        let secret = Secret::new("hush hush");
        let patterns = Patterns::of([("T", &secret)]);
        assert_eq!(format!("{secret:?} {patterns:?}"), "[secret] [1 patterns]");
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(
            values in proptest::collection::vec("[ab]{8,12}", 1..4),
            text in "[abc]{0,120}",
            cuts in proptest::collection::vec(0_usize..120, 0..8),
        ) {
            let secrets: Vec<Secret> = values.iter().map(|value| Secret::new(value.as_str())).collect();
            let patterns = Arc::new(Patterns::of(secrets.iter().map(|secret| ("T", secret))));
            let mut cuts: Vec<usize> = cuts.into_iter().filter(|cut| *cut <= text.len()).collect();
            cuts.sort_unstable();
            let mut pieces = Vec::new();
            let mut from = 0;
            for cut in cuts {
                pieces.push(&text.as_bytes()[from..cut]);
                from = cut;
            }
            pieces.push(&text.as_bytes()[from..]);
            let masked = stream(Scrubber::masking(), &patterns, &pieces);
            prop_assert_eq!(masked.len(), text.len());
            let named = stream(Scrubber::naming(), &patterns, &pieces);
            for clean in [&masked, &named] {
                for value in &values {
                    let found = clean.windows(value.len()).any(|part| part == value.as_bytes());
                    prop_assert!(!found, "{} in {}", value, String::from_utf8_lossy(clean));
                }
            }
            let whole = stream(Scrubber::naming(), &patterns, &[text.as_bytes()]);
            prop_assert_eq!(named, whole);
        }
    }
}
