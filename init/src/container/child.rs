//! In the child: from a copy of this process to the program.
//!
//! It shares the memory of its parent, which waits for it to be the program. So it leaves nothing mapped, and lets its parent
//! tell what happened: a message to a reader that has gone would cost it its life.

use super::{
    activation,
    event::{Event, tell},
    search,
    settings::{Command, Placement, Settings, variable},
};
use crate::sys::{
    self, Descriptor, Disposition, Errno, Mask, Pid, Region, SignalSet, Vector, constant::*,
};

/// Exit code when the program cannot even be tried.
const FAILED: i32 = 1;

/// What the program gets back of what this process was started with.
pub struct Restored {
    /// The blocked signals.
    pub mask: SignalSet,
    /// Whether SIGCHLD is ignored.
    pub ignored_children: bool,
    /// The directory.
    pub directory: Option<Descriptor>,
}

/// What is to be told, in order.
struct Notes<'n> {
    events: [Option<Event<'n>>; 3],
}

impl<'n> Notes<'n> {
    fn add(&mut self, event: Event<'n>) {
        if let Some(place) = self.events.iter_mut().find(|place| place.is_none()) {
            *place = Some(event);
        }
    }
}

/// Bytes of stack for the moment between clone and exec.
const STACK: usize = 64 * 1024;

/// Starts the program and tells how that went.
pub fn start(
    settings: &Settings,
    command: &Command<'_>,
    restored: &Restored,
) -> Result<Pid, Errno> {
    let arguments = command.operands().count() + 1;
    let variables = command.environment.iter().count() + 1;
    let program = command.program().to_bytes();
    // Pointers to arrange; mapped here, since what the child maps would stay.
    let words = arguments * 2 + 1 + variables;
    let mut room = Region::new((words * size_of::<usize>()).next_multiple_of(4096))?;
    let mut notes = Notes { events: [None; 3] };
    let mut stack = Region::new(STACK)?;
    let child = sys::spawn(&mut stack, &mut || {
        if !place(settings, restored, &mut notes) {
            return FAILED;
        }
        let (first, rest) = room.words_mut().split_at_mut(arguments);
        let (second, third) = rest.split_at_mut(arguments + 1);
        let error = match Vector::within(first, command.operands()) {
            Ok(arguments) => execute(command, &arguments, second, third),
            Err(error) => error,
        };
        notes.add(Event::NotExecuted(error, program));
        (settings.refused)(error)
    });
    notes
        .events
        .into_iter()
        .flatten()
        .for_each(|event| tell(settings, event));
    let child = child?;
    tell(settings, Event::Started(child, program));
    Ok(child)
}

/// Takes the place that the program runs in; whether that succeeded.
fn place(settings: &Settings, restored: &Restored, notes: &mut Notes<'_>) -> bool {
    match settings.placement {
        Placement::Group => {
            let before = sys::own_group();
            if let Err(error) = sys::new_group() {
                notes.add(Event::NoGroup(error));
                return false;
            }
            if let Err(error) = take_foreground(before) {
                notes.add(Event::NoTerminal(error));
            }
        }
        Placement::Session => {
            if let Err(error) = sys::new_session() {
                notes.add(Event::NoSession(error));
                return false;
            }
            if let Err(error) = sys::take_terminal(0, false) {
                notes.add(Event::NoTerminal(error));
            }
            notes.add(Event::Session);
        }
        Placement::Beside => {}
    }
    if let Some(directory) = restored.directory {
        // It was left a moment ago, and by the same user.
        let _ = sys::change_directory_to(directory);
    }
    restore_signals(settings, restored);
    true
}

/// Makes this process's new group the foreground of the terminal, if the group it comes from was: a program that was started
/// in the background stays there. The terminal is found by its own name too, for standard input may be something else.
fn take_foreground(before: Pid) -> Result<(), Errno> {
    let opened = sys::open_at(AT_FDCWD, c"/dev/tty", O_RDWR | O_NOCTTY, 0).ok();
    let terminal = opened.unwrap_or(0);
    let taken = match sys::terminal_group(terminal) {
        Ok(group) if group == before => sys::give_terminal(terminal, sys::own_group()),
        other => other.map(drop),
    };
    opened.into_iter().for_each(sys::close);
    taken
}

fn restore_signals(settings: &Settings, restored: &Restored) {
    if settings.fresh_signals {
        for signal in 1..32 {
            // Of two it cannot be said, and need not.
            let _ = sys::set_disposition(signal, Disposition::Default);
        }
        let _ = sys::mask_signals(Mask::Set, SignalSet(0));
        return;
    }
    if restored.ignored_children {
        let _ = sys::set_disposition(SIGCHLD, Disposition::Ignore);
    }
    let _ = sys::mask_signals(Mask::Set, restored.mask);
}

/// Executes the program.
fn execute(
    command: &Command<'_>,
    arguments: &Vector<'_>,
    room: &mut [usize],
    room_of_environment: &mut [usize],
) -> Errno {
    let path = variable(command.environment, b"PATH");
    let program = command.program();
    let mut text = [0; 32];
    match activation::rewritten(command, &mut text, room_of_environment) {
        Some(environment) => search::execute(program, arguments, &environment, path, room),
        None => search::execute(program, arguments, command.environment, path, room),
    }
}
