//! From a command line that was understood to a program that runs.

use super::{
    child::{Restored, start},
    event::{Event, tell},
    settings::{Command, Placement, Settings},
    watch::{Duty, watch},
};
use crate::sys::{self, Descriptor, Disposition, Errno, Mask, SignalSet, constant::*};

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
    }
    if directory.is_none()
        && let Err(error) = sys::change_directory(c"/")
    {
        tell(settings, Event::NoRoot(error));
    }
    // The program has what was passed to this process; held here as well, no reader would ever see its end.
    directory.into_iter().for_each(sys::close);
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
