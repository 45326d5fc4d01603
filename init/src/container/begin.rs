//! From a command line that was understood to a program that runs.

use super::{
    activation,
    event::{Event, tell},
    search,
    settings::{Command, Placement, Settings, variable},
    watch::{Duty, watch},
};
use crate::sys::{
    self, Descriptor, Disposition, Errno, Mask, Pid, Region, SignalSet, Vector, constant::*,
};

/// Exit code when the program cannot even be tried.
const FAILED: i32 = 1;

/// Starts the program and looks after it; gives the exit code. `before` is the set of blocked signals that this process was
/// started with.
pub fn begin(settings: &Settings, command: &Command<'_>, before: SignalSet) -> i32 {
    match prepare(settings, command, before) {
        Ok(duty) => watch(settings, &duty),
        Err(error) => {
            tell(settings, Event::NotStarted(error));
            FAILED
        }
    }
}

fn prepare(settings: &Settings, command: &Command<'_>, before: SignalSet) -> Result<Duty, Errno> {
    let parent = sys::parent_pid();
    let watched = SignalSet(!settings.own.0);
    sys::mask_signals(Mask::Set, watched)?;
    let signals = sys::signal_descriptor(watched)?;
    // Where SIGCHLD is ignored, children vanish with their status.
    let ignored_children = sys::is_ignored(SIGCHLD);
    sys::set_disposition(SIGCHLD, Disposition::Default)?;
    let mut duty = Duty {
        child: 0,
        signals,
        early: SignalSet(0),
    };
    if settings.parent_death != 0 {
        match sys::set_parent_death_signal(settings.parent_death) {
            Err(error) => tell(settings, Event::NoParentDeathSignal(error)),
            // The parent was faster.
            Ok(()) if sys::parent_pid() != parent => {
                duty.early = duty.early.with(settings.parent_death);
            }
            Ok(()) => {}
        }
    }
    adopt(settings);
    let directory = leave_directory();
    if !settings.pause {
        if settings.placement == Placement::Session {
            leave_terminal(settings, &mut duty);
        }
        let restored = Restored {
            mask: before,
            ignored_children,
            directory,
        };
        duty.child = start(settings, command, &restored)?;
        tell(
            settings,
            Event::Started(duty.child, command.program().to_bytes()),
        );
    }
    if directory.is_none()
        && let Err(error) = sys::change_directory(c"/")
    {
        tell(settings, Event::NoRoot(error));
    }
    // The program has them; held here as well, no reader would ever see their end.
    sys::close_from(3, signals);
    Ok(duty)
}

/// Makes orphans fall to this process where that was asked for, and tells when they do not.
fn adopt(settings: &Settings) {
    if sys::own_pid() == 1 {
        return;
    }
    if settings.subreaper {
        tell(
            settings,
            match sys::become_subreaper() {
                Ok(()) => Event::Reaper,
                Err(error) => Event::NoReaper(error),
            },
        );
    } else if sys::is_subreaper() != Ok(true) {
        tell(settings, Event::NotReaper);
    }
}

/// Goes to `/`, so that the directory this was started in can be unmounted, and gives that directory, for the program to start
/// in. Done before there is a program: it may look. `None` where it cannot be come back to.
fn leave_directory() -> Option<Descriptor> {
    let directory = sys::open_at(AT_FDCWD, c".", sys::DIRECTORY, 0).ok()?;
    sys::change_directory(c"/").ok()?;
    Some(directory)
}

/// Gives up the terminal, for the program's own session to take.
fn leave_terminal(settings: &Settings, duty: &mut Duty) {
    let caused = SignalSet::of(&[SIGHUP, SIGCONT]);
    match sys::leave_terminal(0) {
        Ok(()) if sys::leads_session() => tell(settings, Event::LeftTerminal),
        Ok(()) => return tell(settings, Event::LeftTerminalOnly),
        Err(error) => return tell(settings, Event::HeldTerminal(error)),
    }
    // They came while the call was made, and as if from this process itself. Had somebody sent the same before, the kernel
    // would have kept that one alone.
    let Ok(descriptor) = sys::signal_descriptor(caused) else {
        return;
    };
    while let Some(received) = sys::next_signal(descriptor) {
        if received.from_kernel || received.sender == sys::own_pid() {
            tell(settings, Event::Received(received.signal));
            tell(settings, Event::HandOff(received.signal));
        } else {
            duty.early = duty.early.with(received.signal);
        }
    }
    sys::close(descriptor);
}

/// What the program gets back of what this process was started with.
struct Restored {
    mask: SignalSet,
    ignored_children: bool,
    directory: Option<Descriptor>,
}

fn start(settings: &Settings, command: &Command<'_>, restored: &Restored) -> Result<Pid, Errno> {
    let arguments = command.operands().count() + 1;
    let variables = command.environment.iter().count() + 1;
    // Pointers for the child to arrange; made here, since what the child makes in shared memory would stay.
    let words = arguments * 2 + 1 + variables;
    let mut room = Region::new((words * size_of::<usize>()).next_multiple_of(4096))?;
    sys::spawn(&mut || {
        let (first, rest) = room.words_mut().split_at_mut(arguments);
        let (second, third) = rest.split_at_mut(arguments + 1);
        let error = match Vector::within(first, command.operands()) {
            Ok(arguments) => match become_program(settings, restored) {
                Ok(()) => execute(command, &arguments, second, third),
                Err(code) => return code,
            },
            Err(error) => error,
        };
        let program = command.program().to_bytes();
        tell(settings, Event::NotExecuted(error, program));
        (settings.refused)(error)
    })
}

/// In the child: takes the place that the program runs in. Fails with an exit code.
fn become_program(settings: &Settings, restored: &Restored) -> Result<(), i32> {
    match settings.placement {
        Placement::Group => {
            let parents = sys::own_group();
            if let Err(error) = sys::new_group() {
                tell(settings, Event::NoGroup(error));
                return Err(FAILED);
            }
            take_foreground(settings, parents);
        }
        Placement::Session => {
            if let Err(error) = sys::new_session() {
                tell(settings, Event::NoSession(error));
                return Err(FAILED);
            }
            if let Err(error) = sys::take_terminal(0, false) {
                tell(settings, Event::NoTerminal(error));
            }
            tell(settings, Event::Session);
        }
        Placement::Beside => {}
    }
    if let Some(directory) = restored.directory {
        // It was left a moment ago, and by the same user.
        let _ = sys::change_directory_to(directory);
    }
    restore_signals(settings, restored);
    Ok(())
}

/// Makes this process's new group the foreground of the terminal, if the group it comes from was: a program that was started
/// in the background stays there. The terminal is found by its own name too, for standard input may be something else.
fn take_foreground(settings: &Settings, before: Pid) {
    let opened = sys::open_at(AT_FDCWD, c"/dev/tty", O_RDWR | O_NOCTTY, 0).ok();
    let terminal = opened.unwrap_or(0);
    let taken = match sys::terminal_group(terminal) {
        Ok(group) if group == before => sys::give_terminal(terminal, sys::own_group()),
        Ok(_) => Ok(()),
        Err(error) => Err(error),
    };
    if let Err(error) = taken {
        tell(settings, Event::NoTerminal(error));
    }
    if let Some(terminal) = opened {
        sys::close(terminal);
    }
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

/// In the child: executes the program.
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
