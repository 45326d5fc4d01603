//! What is printed and where: results to standard output, everything else to standard error.

use std::{
    io::{self, IsTerminal as _, Write},
    process::ExitCode,
};

use serde::Serialize;
use serde_json::json;

use super::{Color, Failure, Global, Kind};
use crate::settings::{HostVariables, variable};

/// How to print.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Output {
    /// For machines.
    pub json: bool,
    /// Errors only.
    pub quiet: bool,
    color: Color,
    no_color: bool,
}

impl Output {
    /// As the command line and the environment have it. Terminals are looked for only when something is printed.
    pub fn new(global: &Global, variables: &HostVariables) -> Self {
        Self {
            json: global.json,
            quiet: global.quiet,
            color: global.color,
            no_color: variables.set(variable::NO_COLOR).is_some()
                || variables.get("TERM").is_some_and(|term| term == "dumb"),
        }
    }

    /// Prints a result: as JSON for machines, else as `text` has it.
    pub fn result<T: Serialize + ?Sized>(
        &self,
        value: &T,
        text: impl FnOnce(&mut dyn Write, Style) -> io::Result<()>,
    ) -> Result<(), Failure> {
        let style = Style::on(self.wants_color(io::stdout().is_terminal()));
        let mut out = io::BufWriter::new(io::stdout().lock());
        let printed = if self.json {
            serde_json::to_writer_pretty(&mut out, value)
                .map_err(io::Error::from)
                .and_then(|()| out.write_all(b"\n"))
        } else {
            text(&mut out, style)
        };
        printed.and_then(|()| out.flush()).map_err(output_failure)
    }

    /// Prints a text as it is, whatever the format.
    pub fn raw(&self, text: &str) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())
            .and_then(|()| out.flush())
            .map_err(output_failure)
    }

    /// Tells what was done or is to be known, to people only.
    pub fn note(&self, text: &str) {
        if !self.quiet && !self.json {
            self.error_line(text);
        }
    }

    /// Warns of something that does not stop the command.
    pub fn warn(&self, text: &str) {
        if self.json {
            self.event(&json!({"event": "warning", "message": text}));
        } else if !self.quiet {
            let style = self.error_style();
            self.error_line(&format!("{}{text}", style.warning("warning: ")));
        }
    }

    /// Prints one line of JSON to standard error.
    pub(super) fn event(&self, event: &serde_json::Value) {
        self.error_line(&event.to_string());
    }

    /// Says why the command failed, and gives its exit code.
    pub fn fail(&self, failure: &Failure) -> ExitCode {
        let code = failure.kind.code();
        if failure.kind == Kind::BrokenPipe {
            return code.into();
        }
        if self.json {
            self.event(&json!({
                "event": "error",
                "kind": failure.kind,
                "code": code,
                "message": failure.message,
                "causes": failure.causes,
                "help": failure.help,
            }));
        } else {
            self.error_line(&render(failure, self.error_style()));
        }
        code.into()
    }

    /// The style of standard error.
    fn error_style(&self) -> Style {
        Style::on(self.wants_color(io::stderr().is_terminal()))
    }

    fn wants_color(&self, terminal: bool) -> bool {
        match self.color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => terminal && !self.no_color,
        }
    }

    fn error_line(&self, line: &str) {
        // Nobody is left to be told that standard error is closed.
        let _ = writeln!(io::stderr().lock(), "{line}");
    }
}

/// A failure as people read it.
pub(super) fn render(failure: &Failure, style: Style) -> String {
    let mut text = format!("{}{}", style.error("error: "), failure.message);
    for cause in &failure.causes {
        text.push_str(&format!("\n  caused by: {}", cause.replace('\n', "\n    ")));
    }
    if let Some(help) = &failure.help {
        text.push_str(&format!(
            "\n  {}{}",
            style.strong("help: "),
            help.replace('\n', "\n        ")
        ));
    }
    text
}

fn output_failure(error: io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::new(Kind::BrokenPipe, "nobody reads the output"),
        _ => Failure::of(Kind::Other, &OutputError(error)),
    }
}

#[derive(Debug, thiserror::Error)]
#[error("cannot write to standard output")]
struct OutputError(#[source] io::Error);

/// Colours, or none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Style {
    on: bool,
}

impl Style {
    /// With colours or without.
    pub fn on(on: bool) -> Self {
        Self { on }
    }

    fn wrap(self, code: &str, text: &str) -> String {
        match self.on {
            true => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
            false => text.to_owned(),
        }
    }

    /// Names and headings.
    pub fn strong(self, text: &str) -> String {
        self.wrap("1", text)
    }

    /// What matters less.
    pub fn faint(self, text: &str) -> String {
        self.wrap("2", text)
    }

    /// What is well.
    pub fn good(self, text: &str) -> String {
        self.wrap("32", text)
    }

    /// What may be wrong.
    pub fn warning(self, text: &str) -> String {
        self.wrap("1;33", text)
    }

    /// What is wrong.
    pub fn error(self, text: &str) -> String {
        self.wrap("1;31", text)
    }
}

/// A size as people read it, in units of 1024 bytes.
pub fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut unit = "B";
    for next in ["KiB", "MiB", "GiB", "TiB"] {
        if value < 1023.95 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    match unit {
        "B" => format!("{bytes} B"),
        _ => format!("{value:.1} {unit}"),
    }
}

/// Text from an archive or a file, fit for a terminal.
pub fn plain(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short_and_never_four_digits() {
        let shown = [0, 1023, 1024, 1_500_000, 1024 * 1024 - 1, 1 << 40].map(size);
        assert_eq!(
            shown,
            ["0 B", "1023 B", "1.0 KiB", "1.4 MiB", "1.0 MiB", "1.0 TiB"]
        );
    }

    #[test]
    fn a_failure_is_read_from_top_to_bottom() {
        let mut failure =
            Failure::new(Kind::Fetch, "cannot download hello").help("check the network");
        failure.causes = vec!["connection refused".into()];
        assert_eq!(
            render(&failure, Style::on(false)),
            "error: cannot download hello\n  caused by: connection refused\n  help: check the network"
        );
        assert!(
            render(&failure, Style::on(true)).starts_with("\u{1b}[1;31merror: \u{1b}[0mcannot")
        );
    }

    #[test]
    fn colours_follow_the_wish_then_the_variable_then_the_terminal() {
        let with = |color, pairs: &[(&str, &str)]| {
            let global = Global {
                color,
                ..Global::default()
            };
            Output::new(&global, &pairs.iter().copied().collect())
        };
        assert!(with(Color::Auto, &[]).wants_color(true));
        assert!(!with(Color::Auto, &[]).wants_color(false));
        assert!(!with(Color::Auto, &[("NO_COLOR", "1")]).wants_color(true));
        assert!(with(Color::Auto, &[("NO_COLOR", "")]).wants_color(true));
        assert!(!with(Color::Auto, &[("TERM", "dumb")]).wants_color(true));
        assert!(with(Color::Always, &[("NO_COLOR", "1")]).wants_color(false));
    }
}
