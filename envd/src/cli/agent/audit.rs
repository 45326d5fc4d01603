//! `envd agent audit`

use std::{
    io::Write,
    process::ExitCode,
    time::{Duration, SystemTime},
};

use envd_agents::audit::{Record, read, timestamp, utc};

use super::super::{Context, Failure, Kind, output::Style};
use crate::agents::audit_directory;

/// Print what agents did: one line a call, oldest first
///
/// What each line has with --json is told in agents/src/audit/AUDIT.md.
#[derive(clap::Args, Clone, Debug, Default)]
#[command(
    after_help = "Examples\n  envd agent audit --since 1h\n  envd agent audit --json --failed | jq -r .failure"
)]
pub struct Arguments {
    /// Calls since then: a time such as 30m, 2h or 7d, or a moment such as 2026-11-26 or 2026-11-26T18:00:00Z
    #[arg(long, value_name = "WHEN", value_parser = parse_since)]
    pub since: Option<Since>,
    /// Calls about this environment; the beginning of its handle is enough
    #[arg(long, value_name = "ENVIRONMENT")]
    pub environment: Option<String>,
    /// Calls of this method, such as command_run
    #[arg(long, value_name = "METHOD")]
    pub method: Option<String>,
    /// Calls of this owner, as lines name it
    #[arg(long, value_name = "OWNER")]
    pub owner: Option<String>,
    /// Calls that failed or were cancelled, hit a limit, or whose environment was refused a connection
    #[arg(long)]
    pub failed: bool,
}

/// A moment, or how long ago one was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Since {
    /// So long ago.
    Ago(Duration),
    /// Then.
    At(SystemTime),
}

fn parse_since(text: &str) -> Result<Since, String> {
    if let Some(moment) = utc(text) {
        return Ok(Since::At(moment));
    }
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => 0,
    };
    let seconds = number.parse::<u32>().ok().map(u64::from);
    match seconds.map(|seconds| seconds * unit) {
        Some(seconds @ 1..) => Ok(Since::Ago(Duration::from_secs(seconds))),
        _ => Err(
            "write a time such as 30m, 2h or 7d, or a moment such as 2026-11-26T18:00:00Z"
                .to_owned(),
        ),
    }
}

impl Arguments {
    fn wants(&self, record: &Record, since: Option<&str>) -> bool {
        let is = |wanted: &Option<String>, found: &str| {
            wanted.as_deref().is_none_or(|wanted| wanted == found)
        };
        let about = self.environment.as_deref().is_none_or(|wanted| {
            let mut all = record.environment.iter().chain(&record.made);
            all.any(|environment| environment.starts_with(wanted))
        });
        since.is_none_or(|since| &*record.time >= since)
            && about
            && is(&self.method, &record.method)
            && is(&self.owner, &record.owner)
            && (!self.failed || has_failed(record))
    }
}

fn has_failed(record: &Record) -> bool {
    record.verdict != "ok" || !record.limits.is_empty() || !record.refused.is_empty()
}

/// Runs the command.
pub(super) fn run(arguments: &Arguments, context: &Context) -> Result<ExitCode, Failure> {
    let since = arguments.since.map(|since| match since {
        Since::At(moment) => timestamp(moment),
        Since::Ago(time) => timestamp(
            context
                .started
                .checked_sub(time)
                .unwrap_or(SystemTime::UNIX_EPOCH),
        ),
    });
    let directory = audit_directory(&context.settings.store);
    let logged = read(&directory, |record| {
        arguments.wants(record, since.as_deref())
    });
    let logged = logged.map_err(|error| {
        Failure::of(Kind::Store, &error).help(format!("{} cannot be read", directory.display()))
    })?;
    if logged.unreadable > 0 {
        let lines = logged.unreadable;
        context
            .output
            .note(&format!("{lines} lines of the record cannot be read"));
    }
    if context.output.json {
        // As in the files: a line a call, so that they can be read while they come.
        let lines: Vec<u8> = logged.records.iter().flat_map(Record::line).collect();
        context.output.raw(&String::from_utf8_lossy(&lines))?;
        return Ok(ExitCode::SUCCESS);
    }
    context.output.result(&logged.records, |out, style| {
        print(out, style, &logged.records)
    })?;
    Ok(ExitCode::SUCCESS)
}

fn print(out: &mut dyn Write, style: Style, records: &[Record]) -> std::io::Result<()> {
    for record in records {
        let verdict = match &*record.verdict {
            "ok" => style.good("ok"),
            verdict => style.error(verdict),
        };
        let short = |id: &str| id.chars().take(12).collect::<String>();
        let environment = record
            .environment
            .as_deref()
            .map_or_else(|| "-".to_owned(), short);
        write!(
            out,
            "{}  {environment:12}  {:20}  {verdict}",
            record.time.get(..19).unwrap_or(&record.time),
            plain(&record.method),
        )?;
        if let Some(subject) = &record.subject {
            write!(out, "  {}", plain(subject))?;
        }
        writeln!(out)?;
        let details = [
            record.failure.as_deref().map(plain),
            (!record.limits.is_empty())
                .then(|| format!("limits: {}", plain(&record.limits.join(", ")))),
            (!record.secrets.is_empty())
                .then(|| format!("secrets: {}", plain(&record.secrets.join(", ")))),
            (record.lost > 0).then(|| format!("{} lines before this one were lost", record.lost)),
        ];
        for detail in details.iter().flatten() {
            writeln!(out, "    {detail}")?;
        }
        for refused in &record.refused {
            let host = refused.host.as_deref().unwrap_or("?");
            let port = refused
                .port
                .map_or_else(|| "?".to_owned(), |port| port.to_string());
            writeln!(
                out,
                "    refused: {}:{port}: {} ({} times)",
                plain(host),
                refused.reason,
                refused.count
            )?;
        }
    }
    Ok(())
}

/// A text that does not drive the terminal.
fn plain(text: &str) -> String {
    let shown = |c: char| match c {
        c if c.is_control() => '\u{fffd}',
        '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
        c => c,
    };
    text.chars().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_and_a_moment_are_told_apart() {
        let ago = |seconds| Ok(Since::Ago(Duration::from_secs(seconds)));
        assert_eq!(parse_since("30m"), ago(1800));
        assert_eq!(parse_since("7d"), ago(7 * 86_400));
        assert!(matches!(parse_since("2026-11-26"), Ok(Since::At(_))));
        for text in [
            "",
            "5",
            "0s",
            "m",
            "yesterday",
            "2026-13-01",
            "99999999999s",
        ] {
            assert!(parse_since(text).is_err(), "{text}");
        }
    }

    #[test]
    fn lines_are_picked_and_do_not_drive_the_terminal() {
        let record = Record {
            time: "2026-11-26T18:45:55.123456Z".to_owned(),
            method: "command_run".to_owned(),
            verdict: "denied".to_owned(),
            environment: Some("env_0123456789abcdef".to_owned()),
            subject: Some("echo \u{1b}]0;owned\u{7}\u{202e}".to_owned()),
            failure: Some("denied by the rule".to_owned()),
            ..Record::default()
        };
        let mut out = Vec::new();
        print(&mut out, Style::on(false), std::slice::from_ref(&record)).unwrap();
        insta::assert_snapshot!(String::from_utf8(out).unwrap(), @"
        2026-11-26T18:45:55  env_01234567  command_run           denied  echo \u{fffd}]0;owned\u{fffd}\u{fffd}
            denied by the rule
        ");
        let wants = |arguments: Arguments, since: Option<&str>| arguments.wants(&record, since);
        assert!(wants(
            Arguments {
                failed: true,
                ..Arguments::default()
            },
            None
        ));
        assert!(wants(
            Arguments::default(),
            Some("2026-11-26T18:45:55.000000Z")
        ));
        assert!(!wants(
            Arguments::default(),
            Some("2026-11-26T18:45:56.000000Z")
        ));
        let about = |id: &str| Arguments {
            environment: Some(id.to_owned()),
            ..Arguments::default()
        };
        assert!(wants(about("env_0123"), None) && !wants(about("env_1"), None));
    }
}
