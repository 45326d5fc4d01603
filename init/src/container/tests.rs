use std::{ffi::CStr, vec::Vec};

use super::{
    catatonit, dumb_init, names, numbers,
    options::{Mistake, Word, Words},
    plain,
    settings::{Codes, Rewrites},
    tini,
};
use crate::sys::{self, Vector, constant::*};

/// What the words of a command line are, in the grammar of our own name.
fn words<'a>(arguments: &'a [&'a CStr], mixed: bool) -> Vec<Word<'a>> {
    let vector = Vector::new(arguments.iter().copied()).unwrap();
    Words::new(&vector, &plain::DIALECT.grammar, mixed).collect()
}

#[test]
fn options_are_letters_clusters_and_names() {
    assert_eq!(
        words(
            &[
                c"me",
                c"-gve7",
                c"-e",
                c"8",
                c"--expect=9",
                c"--exp",
                c"10",
                c"--group",
                c"x"
            ],
            false
        ),
        [
            Word::Option(b'g', b""),
            Word::Option(b'v', b""),
            Word::Option(b'e', b"7"),
            Word::Option(b'e', b"8"),
            Word::Option(b'e', b"9"),
            Word::Option(b'e', b"10"),
            Word::Option(b'g', b""),
            Word::Operand(c"x"),
        ]
    );
}

#[test]
fn what_is_not_an_option_is_an_operand() {
    let arguments = [c"me", c"-", c"-g", c"--", c"-v"];
    assert_eq!(
        words(&arguments, false),
        [
            Word::Operand(c"-"),
            Word::Operand(c"-g"),
            Word::Operand(c"--"),
            Word::Operand(c"-v"),
        ]
    );
    assert_eq!(
        words(&arguments, true),
        [
            Word::Operand(c"-"),
            Word::Option(b'g', b""),
            Word::Operand(c"-v"),
        ]
    );
    assert_eq!(words(&[c"me", c"--"], true), []);
    assert_eq!(words(&[], true), []);
}

#[test]
fn mistakes_are_told_apart() {
    for (argument, mistake) in [
        (c"-:", Mistake::UnknownLetter(b':')),
        (c"-e", Mistake::LetterWithoutValue(b'e')),
        (c"--ve", Mistake::Ambiguous(b"ve")),
        (c"--nothing=1", Mistake::UnknownName(b"nothing=1")),
        (c"--rewrite", Mistake::NameWithoutValue(b"rewrite")),
        (c"--help=x", Mistake::NameWithValue(b"help")),
    ] {
        assert_eq!(words(&[c"me", argument], false), [Word::Wrong(mistake)]);
    }
}

#[test]
fn numbers_are_read_as_the_c_library_reads_them() {
    assert_eq!(numbers::leading(b" +15:2"), Some((15, &b":2"[..])));
    assert_eq!(numbers::leading(b"-3"), Some((-3, &b""[..])));
    assert_eq!(numbers::leading(b"x"), None);
    assert_eq!(numbers::leading(b"-"), None);
    assert_eq!(numbers::whole(b"99999999999999999999"), Some(i32::MAX));
    assert_eq!(numbers::code(b"255"), Some(255));
    for wrong in [&b"256"[..], b"-1", b"", b"3x"] {
        assert_eq!(numbers::code(wrong), None);
    }
    for number in [0, 7, 4_194_304, u32::MAX] {
        let text = number.to_string();
        assert_eq!(numbers::decimal(&mut [0; 10], number), text.as_bytes());
    }
}

#[test]
fn signals_have_names_and_numbers() {
    assert_eq!(numbers::signal(b"TERM"), Some(SIGTERM));
    assert_eq!(numbers::signal(b"SIGSYS"), Some(SIGSYS));
    assert_eq!(numbers::signal(b"64"), Some(64));
    for wrong in [&b"0"[..], b"65", b"", b"SIG", b"term"] {
        assert_eq!(numbers::signal(wrong), None);
    }
}

/// The lists are counted, not keyed: one line too few shifts all that follow.
#[test]
fn words_for_signals_and_errors_are_the_systems() {
    for (signal, words) in [
        (SIGHUP, "Hangup"),
        (SIGCHLD, "Child exited"),
        (SIGSYS, "Bad system call"),
        (32, ""),
        (0, ""),
    ] {
        assert_eq!(names::description(signal), words.as_bytes());
    }
    for number in [
        EPERM,
        ENOENT,
        ENXIO,
        E2BIG,
        ENOEXEC,
        EAGAIN,
        ENOMEM,
        EACCES,
        ENODEV,
        ENOTDIR,
        EINVAL,
        ENOTTY,
        ENAMETOOLONG,
        ENOSYS,
        ELOOP,
    ] {
        let system = std::io::Error::from_raw_os_error(number).to_string();
        let ours = core::str::from_utf8(names::error(number)).unwrap();
        assert_eq!(format!("{ours} (os error {number})"), system);
    }
    assert!(names::error(0).is_empty() && names::error(1000).is_empty());
}

#[test]
fn rewrites_and_codes_are_those_that_were_asked_for() {
    let mut rewrites = plain::DIALECT.settings.rewrites;
    assert_eq!(rewrites.get(SIGTERM), None);
    rewrites.set(SIGTSTP, SIGINT);
    rewrites.set(SIGTERM, 0);
    Rewrites::stop_sessions(&mut rewrites);
    assert_eq!(rewrites.get(SIGTERM), Some(0));
    assert_eq!(rewrites.get(SIGTSTP), Some(SIGINT));
    assert_eq!(rewrites.get(SIGTTOU), Some(SIGSTOP));
    assert_eq!(rewrites.get(40), None);
    let mut codes: Codes = plain::DIALECT.settings.forgiven;
    for code in [0, 63, 64, 255] {
        assert!(!codes.has(code));
        codes.add(code);
        assert!(codes.has(code));
    }
    assert!(!codes.has(1));
}

/// A text that refers to what it does not get would say nothing in its place.
#[test]
fn texts_refer_to_what_they_get() {
    let refers_below = |text: &str, limit: usize| {
        text.split('%').skip(1).all(|behind| {
            let digit = behind.chars().next().and_then(|digit| digit.to_digit(10));
            digit.is_some_and(|digit| (1..=limit).contains(&(digit as usize)))
        })
    };
    for dialect in [
        &tini::DIALECT,
        &dumb_init::DIALECT,
        &catatonit::DIALECT,
        &plain::DIALECT,
    ] {
        for text in [dialect.mistaken, dialect.no_program, dialect.version] {
            assert!(refers_below(text, 3), "{text}");
        }
        assert!(refers_below(dialect.wrong_value, 5));
        assert!(refers_below(dialect.settings.voice.words, 3));
        let words = dialect.settings.voice.words;
        let mut letters: Vec<_> = words
            .split_terminator('\0')
            .filter_map(|entry| entry.chars().next())
            .collect();
        let count = letters.len();
        letters.sort_unstable();
        letters.dedup();
        assert_eq!(letters.len(), count, "an event has words twice");
    }
}

#[test]
fn a_vector_within_a_room_ends_where_it_must() {
    let mut room = [usize::MAX; 3];
    let vector = Vector::within(&mut room, [c"a", c"b"].into_iter()).unwrap();
    assert!(vector.iter().eq([c"a", c"b"]));
    let refused = Vector::within(&mut room, [c"a", c"b", c"c"].into_iter());
    assert_eq!(refused.err(), Some(sys::Errno(E2BIG)));
}
