//! A name's command line: what is its own is data, reading it is the same for all.

use core::ffi::CStr;

use super::{
    message::{
        Message,
        Value::{self, Number, Text},
    },
    options::{Grammar, Word, Words},
    settings::{Command, Settings, variable},
};
use crate::sys::{self, Descriptor, Start, Vector};

/// How a name takes its command line. Texts refer to the name as it was called as `%1`, to the last component of that as `%2`,
/// to this process's id as `%3`.
#[derive(Debug)]
pub struct Dialect {
    /// What it is called by; by anything when there are none.
    pub names: &'static [&'static [u8]],
    /// What there is to say about how to look after a program, before anything is asked for.
    pub settings: Settings,
    /// The options.
    pub grammar: Grammar,
    /// Whether they may come after operands, unless POSIXLY_CORRECT is in the environment.
    pub mixed: bool,
    /// Takes an option by its letter, with its value.
    pub option: fn(&mut Settings, u8, &[u8]) -> Step,
    /// Takes the environment, and settles what depends on all options.
    pub settle: fn(&mut Settings, &Vector<'static>),
    /// The answer to `--version` where it is no option but may be the only argument; empty otherwise.
    pub version: &'static str,
    /// Follows the message about a wrong option.
    pub mistaken: &'static str,
    /// Says that an option (`%4`) has a wrong value (`%5`).
    pub wrong_value: &'static str,
    /// Says that no program was given.
    pub no_program: &'static str,
    /// The exit code after all of these.
    pub wrong: i32,
}

/// What an option comes to.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// It was taken.
    Taken,
    /// Its value is wrong.
    Wrong,
    /// This is to be printed there, and that is all.
    Print(Descriptor, &'static str),
}

impl Step {
    /// Taken, if there was something to take.
    pub fn taken(what: Option<()>) -> Self {
        if what.is_some() {
            Step::Taken
        } else {
            Step::Wrong
        }
    }
}

impl Dialect {
    /// Changes `settings` as the command line and the environment say, and gives what to run; otherwise gives the exit code.
    pub fn parse<'s>(
        &'static self,
        start: &'s Start,
        settings: &mut Settings,
    ) -> Result<Command<'s>, i32> {
        let called = start.arguments.iter().next().unwrap_or_default();
        let print = |to, text, values: [&[u8]; 2]| self.print(to, text, called, values);
        let mut behind = start.arguments.iter().skip(1);
        if !self.version.is_empty() && (behind.next(), behind.next()) == (Some(c"--version"), None)
        {
            print(1, self.version, [b""; 2]);
            return Err(0);
        }
        let mixed = self.mixed && variable(&start.environment, b"POSIXLY_CORRECT").is_none();
        let words = Words::new(&start.arguments, &self.grammar, mixed);
        let mut program = false;
        for word in words.clone() {
            match word {
                Word::Operand(_) => program = true,
                Word::Option(letter, value) => match (self.option)(settings, letter, value) {
                    Step::Taken => {}
                    Step::Wrong => {
                        print(2, self.wrong_value, [&[letter], value]);
                        return Err(self.wrong);
                    }
                    Step::Print(to, text) => {
                        print(to, text, [b""; 2]);
                        return Err(0);
                    }
                },
                Word::Wrong(mistake) => {
                    mistake.tell(called, &self.grammar);
                    print(2, self.mistaken, [b""; 2]);
                    return Err(self.wrong);
                }
            }
        }
        if !program && !settings.pause {
            print(2, self.no_program, [b""; 2]);
            return Err(self.wrong);
        }
        (self.settle)(settings, &start.environment);
        Ok(Command::new(words, start))
    }

    #[inline(never)]
    fn print(&self, to: Descriptor, text: &'static str, called: &CStr, values: [&[u8]; 2]) {
        let called = called.to_bytes();
        let values: [Value<'_>; 5] = [
            Text(called),
            Text(last_component(called)),
            Number(sys::own_pid()),
            Text(values[0]),
            Text(values[1]),
        ];
        Message::to(to).add(text.as_bytes(), &values);
    }
}

/// What is behind the last slash.
pub fn last_component(path: &[u8]) -> &[u8] {
    path.rsplit(|&byte| byte == b'/').next().unwrap_or_default()
}
