//! Timing: interleaved runs, medians, peak memory.

use std::{
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use nix::sys::resource::{UsageWho, getrusage};

/// What every command here returns.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// A run of one command.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// From before the process is made until it is reaped.
    pub time: Duration,
    /// Largest resident set of any process it waited for, in bytes; 0 when not asked for.
    pub peak: u64,
}

/// Times one run; output is thrown away, a failure is an error with what was said.
pub fn time(command: &mut Command) -> Result<Sample> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let start = Instant::now();
    let output = command
        .spawn()
        .and_then(std::process::Child::wait_with_output)
        .map_err(|error| format!("cannot run {:?}: {error}", command.get_program()))?;
    let time = start.elapsed();
    if output.status.success() {
        return Ok(Sample { time, peak: 0 });
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{command:?} ended with {}:\n{said}", output.status).into())
}

/// Times one run and takes its peak memory, by way of a second instance of this program that has no other children.
pub fn time_and_peak(command: &Command) -> Result<Sample> {
    let mut wrapper = Command::new(std::env::current_exe()?);
    wrapper
        .arg("measured")
        .arg(command.get_program())
        .args(command.get_args())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    if let Some(directory) = command.get_current_dir() {
        wrapper.current_dir(directory);
    }
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => wrapper.env(name, value),
            None => wrapper.env_remove(name),
        };
    }
    let output = wrapper.output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut words = text.split_whitespace();
    let mut number = || words.next().and_then(|word| word.parse::<u64>().ok());
    match (output.status.success(), number(), number()) {
        (true, Some(nanoseconds), Some(peak)) => Ok(Sample {
            time: Duration::from_nanos(nanoseconds),
            peak,
        }),
        _ => {
            let said = String::from_utf8_lossy(&output.stderr);
            Err(format!("{command:?} ended with {}:\n{said}", output.status).into())
        }
    }
}

/// The inner side of [`time_and_peak`]: runs a command, prints nanoseconds and the bytes of the largest process.
pub fn measured(words: &[&str]) -> Result<()> {
    let (program, arguments) = words.split_first().ok_or("measured: which command?")?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    let start = Instant::now();
    let status = command.status()?;
    let time = start.elapsed();
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    if !status.success() {
        return Err(format!("ended with {status}").into());
    }
    // ru_maxrss is in KiB on Linux (getrusage(2)).
    println!("{} {}", time.as_nanos(), usage.max_rss() * 1024);
    Ok(())
}

/// Runs every measurement once a round, so that a busy moment of the machine hits all alike; returns a list each.
pub fn interleaved<const N: usize>(
    rounds: usize,
    mut measurements: [&mut dyn FnMut() -> Result<Sample>; N],
) -> Result<[Vec<Sample>; N]> {
    let mut samples = [const { Vec::new() }; N];
    for _ in 0..rounds {
        for (measurement, list) in measurements.iter_mut().zip(&mut samples) {
            list.push(measurement()?);
        }
    }
    Ok(samples)
}

/// The middle of the times.
pub fn median(samples: &[Sample]) -> Duration {
    let mut times: Vec<_> = samples.iter().map(|sample| sample.time).collect();
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// The largest peak.
pub fn peak(samples: &[Sample]) -> u64 {
    samples.iter().map(|sample| sample.peak).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A wrong median would be a wrong promise.
    #[test]
    fn the_median_is_the_middle() {
        let samples: Vec<_> = [9, 1, 5]
            .map(|seconds| Sample {
                time: Duration::from_secs(seconds),
                peak: seconds,
            })
            .into();
        assert_eq!(median(&samples), Duration::from_secs(5));
        assert_eq!(peak(&samples), 9);
    }

    #[test]
    fn a_failure_is_no_measurement() {
        assert!(time(&mut Command::new("false")).is_err());
        assert!(time(&mut Command::new("true")).is_ok());
    }
}
