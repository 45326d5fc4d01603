//! `envd lease`

use std::{ffi::OsString, os::fd::AsFd as _, process::ExitCode, str::FromStr, time::Duration};

use super::{
    Context, Failure, Kind,
    entering::Inside,
    handing_over::{Ended, Handing, Wanted},
    operations::Operations,
};
use crate::daemon::{
    Place,
    message::{Ending, Request},
};

/// The exit code when the time is over, as timeout(1) has it.
const TIME_OVER: u8 = 124;
/// The exit code when the owner is gone: as if it had taken the command with it.
const OWNER_GONE: u8 = 137;

/// Run a command that ends with its time or its owner
///
/// The environment is the project's daemon's, which is started if need be. Whatever the command started ends with it. The
/// command has no terminal of its own.
#[derive(clap::Args, Clone, PartialEq, Eq, Debug)]
#[command(
    after_help = "Examples\n  envd lease --ttl 10m -- make test\n  envd lease --owner-pid $PPID -- ./serve\n\nExit codes: 124 when the time was over, 137 when the owner was gone, else the command's."
)]
pub struct Arguments {
    /// End it after this time: 90s, 10m, 2h
    #[arg(long, value_name = "TIME")]
    pub ttl: Option<Time>,
    /// End it when this process ends
    #[arg(long, value_name = "PID")]
    pub owner_pid: Option<u32>,
    /// The command and its arguments
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "COMMAND"
    )]
    pub command: Vec<OsString>,
    /// About the inside
    #[command(flatten)]
    pub inside: Inside,
}

/// A length of time, as people write it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Time(pub Duration);

/// A text that is no length of time.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("write a number and a unit: 500ms, 90s, 10m, 2h or 1d")]
pub struct NoTime;

impl FromStr for Time {
    type Err = NoTime;

    fn from_str(text: &str) -> Result<Self, NoTime> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let unit = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(NoTime),
        };
        let number = number.parse::<u64>().map_err(|_| NoTime)?;
        let time = number.checked_mul(unit).ok_or(NoTime)?;
        Ok(Self(Duration::from_millis(time)))
    }
}

/// Runs the command.
pub fn run(
    arguments: &Arguments,
    context: &Context,
    operations: &dyn Operations,
) -> Result<ExitCode, Failure> {
    if !Handing::is_possible(&arguments.inside) {
        let message = "--require, --home and --print-plan are not for leases";
        return Err(Failure::new(Kind::Usage, message).help("leave it out, or use `envd run`"));
    }
    let owner = arguments.owner_pid.map(process).transpose()?;
    let project = context.project()?;
    let place = Place::of(&context.settings, context.uid, &project.root);
    let handing = Handing {
        context,
        operations,
        project: &project,
        place: &place,
        inside: &arguments.inside,
        wanted: Wanted::Command(&arguments.command),
    };
    // Before the time runs.
    handing.realise()?;
    let client = handing.connect_or_start()?;
    let time = arguments.ttl.map(|time| time.0.as_millis() as u64);
    let descriptors: Vec<_> = owner.iter().map(|owner| owner.as_fd()).collect();
    client.ask_with(Request::Lease { time }, &descriptors)?;
    match handing.run(client)? {
        Some(Ended::Exit(exit)) => Ok(exit.into()),
        Some(Ended::Lease(why)) => {
            let (code, message) = match why {
                Ending::Time => (TIME_OVER, "the time of the lease is over"),
                Ending::Owner => (OWNER_GONE, "the owner of the lease is gone"),
                Ending::Stop => (OWNER_GONE, "the daemon was stopped"),
            };
            context.output.warn(message);
            Ok(code.into())
        }
        None => Err(
            Failure::new(Kind::Host, "the project's daemon cannot run it")
                .help("`envd daemon logs` has why"),
        ),
    }
}

fn process(pid: u32) -> Result<std::os::fd::OwnedFd, Failure> {
    use rustix::process::{Pid, PidfdFlags, pidfd_open};
    let opened = i32::try_from(pid)
        .ok()
        .and_then(Pid::from_raw)
        .ok_or(rustix::io::Errno::SRCH)
        .and_then(|pid| pidfd_open(pid, PidfdFlags::empty()));
    opened.map_err(|error| {
        Failure::new(Kind::Usage, format!("--owner-pid {pid}: {error}"))
            .help("name a process that runs")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_unit() {
        let time = |text: &str| text.parse::<Time>().map(|time| time.0);
        assert_eq!(time("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(time("10m"), Ok(Duration::from_secs(600)));
        assert_eq!(time("2h"), Ok(Duration::from_secs(7200)));
        assert_eq!(time("500ms"), Ok(Duration::from_millis(500)));
        for wrong in ["", "10", "m", "1.5h", "-1s", "1 s", "99999999999999999d"] {
            assert_eq!(time(wrong), Err(NoTime), "{wrong}");
        }
    }
}
