//! The command line of `envd run`, read without clap.
//!
//! Building clap's description of seventeen commands takes as long as a good part of a whole warm run. So the plain forms of
//! the one command that editors, hooks and test suites start thousands of times are read by hand; whatever is not plain
//! (help, a mistake, `--option=value`, an unknown word) is left to clap, which says what is wrong. A test holds the two to
//! the same answers.

use std::ffi::OsString;

use super::{Arguments, Command, Global, entering::Inside, run};

/// Reads `envd [global options] run [options] [--] COMMAND…`; `None` if clap should.
pub(super) fn run(arguments: &[OsString]) -> Option<Arguments> {
    let mut global = Global::default();
    let mut inside = Inside::default();
    let mut words = arguments.get(1..)?.iter();
    let mut seen_run = false;
    let mut no_daemon = false;
    loop {
        let word = words.next()?;
        let Some(option) = word.to_str() else {
            return if seen_run {
                finish(global, inside, no_daemon, Some(word), words.as_slice())
            } else {
                None
            };
        };
        match option {
            "run" if !seen_run => seen_run = true,
            "--" if seen_run => return finish(global, inside, no_daemon, None, words.as_slice()),
            "--project" if global.project.is_none() => {
                global.project = Some(value(words.next()?)?.into())
            }
            "--offline" if !global.offline => global.offline = true,
            "--json" if !global.json => global.json = true,
            "--quiet" | "-q" if !global.quiet => global.quiet = true,
            "--env" if seen_run => inside.variables.push(value(words.next()?)?.clone()),
            "--no-daemon" if seen_run && !no_daemon => no_daemon = true,
            "--as-root" if seen_run && !inside.as_root => inside.as_root = true,
            "--no-network" if seen_run && !inside.no_network => inside.no_network = true,
            "--strict" if seen_run && !inside.strict => inside.strict = true,
            "--print-plan" if seen_run && !inside.print_plan => inside.print_plan = true,
            option if option.starts_with('-') || !seen_run => return None,
            _ => return finish(global, inside, no_daemon, Some(word), words.as_slice()),
        }
    }
}

/// An option's value; one that looks like an option is for clap to judge.
fn value(word: &OsString) -> Option<&OsString> {
    (!word.is_empty() && !word.as_encoded_bytes().starts_with(b"-")).then_some(word)
}

fn finish(
    global: Global,
    inside: Inside,
    no_daemon: bool,
    first: Option<&OsString>,
    rest: &[OsString],
) -> Option<Arguments> {
    let command: Vec<OsString> = first.into_iter().chain(rest).cloned().collect();
    if command.is_empty() {
        return None;
    }
    Some(Arguments {
        global,
        command: Command::Run(run::Arguments {
            inside,
            no_daemon,
            start_daemon: false,
            ready: false,
            command,
        }),
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use proptest::prelude::*;

    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    fn by_clap(arguments: &[OsString]) -> Option<(Global, run::Arguments)> {
        parts(Arguments::try_parse_from(arguments).ok()?)
    }

    fn parts(arguments: Arguments) -> Option<(Global, run::Arguments)> {
        match arguments.command {
            Command::Run(run) => Some((arguments.global, run)),
            _ => None,
        }
    }

    #[test]
    fn the_lines_that_matter_are_read_by_hand() {
        for line in [
            "envd run -- true",
            "envd run true",
            "envd run make -j4 test",
            "envd --project /p run -- python3 main.py",
            "envd run --project /p --offline -- cargo test -- --nocapture",
            "envd run --env A=1 --env B --no-network --strict --as-root -- env",
            "envd run --no-daemon -- true",
        ] {
            let line = words(line);
            let ours = run(&line).and_then(parts);
            assert!(ours.is_some(), "{line:?}");
            assert_eq!(ours, by_clap(&line), "{line:?}");
        }
    }

    #[test]
    fn what_is_not_plain_is_left_to_clap() {
        for line in [
            "envd",
            "envd run",
            "envd run --",
            "envd run --help",
            "envd run --env=A=1 -- true",
            "envd run --unknown -- true",
            "envd run --strict --strict -- true",
            "envd lock",
            "envd enter",
            "envd true run",
            "envd -- run true",
        ] {
            assert!(run(&words(line)).is_none(), "{line}");
        }
    }

    proptest! {
        /// Whatever is read by hand, clap reads the same.
        #[test]
        fn both_readers_agree(words in proptest::collection::vec(
            prop::sample::select(vec![
                "run", "--", "--project", "/p", "--offline", "--json", "-q", "--quiet", "--env", "A=1", "B",
                "--as-root", "--no-network", "--strict", "--no-daemon", "--print-plan", "true", "-x", "--help", "", "-", "lock",
            ]),
            0..8,
        )) {
            let line: Vec<OsString> = std::iter::once("envd").chain(words).map(OsString::from).collect();
            if let Some(ours) = run(&line) {
                prop_assert_eq!(parts(ours), by_clap(&line));
            }
        }
    }
}
