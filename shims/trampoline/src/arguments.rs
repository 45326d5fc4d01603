//! The command line of `envd run`, as far as it is plain.

use core::ffi::CStr;

use envd_init::sys::Strings;

/// Have no network.
pub const NO_NETWORK: u32 = 1;
/// Do not trust what runs inside.
pub const STRICT: u32 = 2;
/// Be uid 0 inside.
pub const AS_ROOT: u32 = 4;

/// Variables of the command line at most.
pub(crate) const MOST_VARIABLES: usize = 16;

/// What is to be run, and where.
#[derive(Clone, Debug)]
pub struct Invocation<'i> {
    /// The project's directory, if it is named.
    pub project: Option<&'i CStr>,
    /// [`NO_NETWORK`] and the others.
    pub inside: u32,
    /// Whether a daemon may be asked.
    pub daemon: bool,
    /// `NAME=VALUE`, each.
    pub variables: [Option<&'i CStr>; MOST_VARIABLES],
    /// The program and its arguments.
    pub command: Strings<'i>,
}

/// Reads `envd [global options] run [options] [--] COMMAND…`. `None` for whatever is not plain (help, a mistake, another
/// command, an option that asks for more): the whole of envd says what is wrong, or does it.
pub fn run<'i>(arguments: Strings<'i>) -> Option<Invocation<'i>> {
    let mut words = arguments;
    words.next()?;
    let mut seen_run = false;
    let mut invocation = Invocation {
        project: None,
        inside: 0,
        daemon: true,
        variables: [None; MOST_VARIABLES],
        command: words.clone(),
    };
    let mut variables = invocation.variables.iter_mut();
    loop {
        invocation.command = words.clone();
        let word = words.next()?.to_bytes();
        match word {
            b"run" if !seen_run => seen_run = true,
            b"--" if seen_run => {
                invocation.command = words.clone();
                break;
            }
            b"--project" if invocation.project.is_none() => {
                invocation.project = Some(value(words.next()?)?);
            }
            // Only of interest to what is not ready.
            b"--offline" | b"--quiet" | b"-q" => {}
            b"--no-daemon" if seen_run => invocation.daemon = false,
            b"--env" if seen_run => {
                let variable = value(words.next()?)?;
                // One to take along is for the whole of envd to find.
                let at = variable.to_bytes().iter().position(|byte| *byte == b'=');
                at.filter(|at| *at > 0)?;
                *variables.next()? = Some(variable);
            }
            b"--as-root" if seen_run => set(&mut invocation.inside, AS_ROOT)?,
            b"--no-network" if seen_run => set(&mut invocation.inside, NO_NETWORK)?,
            b"--strict" if seen_run => set(&mut invocation.inside, STRICT)?,
            word if word.starts_with(b"-") || !seen_run => return None,
            _ => break,
        }
    }
    let first = invocation.command.clone().next()?;
    (!first.is_empty()).then_some(invocation)
}

/// One given twice is a mistake.
fn set(flags: &mut u32, flag: u32) -> Option<()> {
    let given = *flags & flag != 0;
    *flags |= flag;
    (!given).then_some(())
}

/// An option's value; one that looks like an option is not plain.
fn value(word: &CStr) -> Option<&CStr> {
    (!word.is_empty() && !word.to_bytes().starts_with(b"-")).then_some(word)
}
