//! A text that people wrote, and what is wrong with it: file, line, column, the line itself with a caret, what to do.

use std::{
    fmt, fs,
    io::Read as _,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Bytes that a configuration file may have. Nobody writes more by hand; a device or a log file named by mistake does.
const SIZE_MAX: u64 = 1024 * 1024;
/// Characters of a line that are shown; a longer one is cut around the caret.
const WIDTH_MAX: usize = 120;

/// A text and where it is from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Source {
    /// The file, as messages name it.
    pub path: PathBuf,
    /// What is in it.
    pub text: Arc<str>,
}

/// One thing that is wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Diagnostic {
    /// Bytes of the text it is about.
    pub span: Range<usize>,
    /// What is wrong, naming the operand.
    pub message: String,
    /// What to do, if we know.
    pub help: Option<String>,
}

/// A file that could not be read, or could be and is wrong. Displays everything that was found.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be opened or read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is larger than any that people write.
    #[error("{} is over 1 MiB: that is no configuration file", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// The file is no UTF-8 text.
    #[error("{}:{line}:{column}: not UTF-8 text; save the file as UTF-8", path.display())]
    Encoding {
        /// The file.
        path: PathBuf,
        /// The line of the first bad byte, from 1.
        line: usize,
        /// Its column in characters, from 1.
        column: usize,
    },
    /// What it says is wrong.
    #[error("{}", render(source_text, diagnostics))]
    Wrong {
        /// The file.
        source_text: Source,
        /// What is wrong, in the order of the text. Never empty.
        diagnostics: Vec<Diagnostic>,
    },
}

impl Source {
    /// Reads a file.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let read = |source| ConfigError::Read {
            path: path.to_owned(),
            source,
        };
        let file = fs::File::open(path).map_err(read)?;
        // Room for the whole, and for seeing its end: else it is read in steps of 32 bytes.
        let size = file.metadata().map_err(read)?.len().min(SIZE_MAX);
        let mut bytes = Vec::with_capacity(size as usize + 64);
        file.take(SIZE_MAX + 1)
            .read_to_end(&mut bytes)
            .map_err(read)?;
        if bytes.len() as u64 > SIZE_MAX {
            return Err(ConfigError::TooLarge {
                path: path.to_owned(),
            });
        }
        Self::from_bytes(path, bytes)
    }

    /// Takes bytes that were read from `path`.
    pub fn from_bytes(path: &Path, bytes: Vec<u8>) -> Result<Self, ConfigError> {
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Self {
                path: path.to_owned(),
                text: text.into(),
            }),
            Err(e) => {
                let valid = e.utf8_error().valid_up_to();
                let before = String::from_utf8_lossy(&e.as_bytes()[..valid]).into_owned();
                let (line, column) = position(&before, valid);
                Err(ConfigError::Encoding {
                    path: path.to_owned(),
                    line,
                    column,
                })
            }
        }
    }

    /// An error about a part of the text, for those who find it wrong later (an unknown package, say).
    pub fn refuse(
        &self,
        span: Range<usize>,
        message: impl Into<String>,
        help: Option<String>,
    ) -> ConfigError {
        self.wrong(vec![Diagnostic {
            span,
            message: message.into(),
            help,
        }])
    }

    /// An error with several diagnostics, put in the order of the text.
    pub(crate) fn wrong(&self, mut diagnostics: Vec<Diagnostic>) -> ConfigError {
        diagnostics.sort_by_key(|d| (d.span.start, d.span.end));
        ConfigError::Wrong {
            source_text: self.clone(),
            diagnostics,
        }
    }

    /// Line and column (in characters) of a byte, both from 1.
    pub fn position(&self, byte: usize) -> (usize, usize) {
        position(&self.text, byte)
    }
}

/// Line and column of `byte` in `text`, from 1.
fn position(text: &str, byte: usize) -> (usize, usize) {
    let before = &text[..floor(text, byte)];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = before.matches('\n').count() + 1;
    (line, before[line_start..].chars().count() + 1)
}

/// The largest character boundary that is not after `byte`.
fn floor(text: &str, byte: usize) -> usize {
    let mut byte = byte.min(text.len());
    while !text.is_char_boundary(byte) {
        byte -= 1;
    }
    byte
}

/// All diagnostics, one block each, without a trailing newline.
fn render(source: &Source, diagnostics: &[Diagnostic]) -> String {
    let blocks: Vec<String> = diagnostics.iter().map(|d| block(source, d)).collect();
    blocks.join("\n\n")
}

fn block(source: &Source, diagnostic: &Diagnostic) -> String {
    let text = &source.text;
    let start = floor(text, diagnostic.span.start);
    let end = floor(text, diagnostic.span.end.max(start));
    let (line, column) = position(text, start);
    let line_start = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
    let line_end = text[start..].find('\n').map_or(text.len(), |n| start + n);
    let whole: Vec<char> = text[line_start..line_end]
        .trim_end_matches('\r')
        .chars()
        .map(printable)
        .collect();
    let marked = text[start..end.min(line_end)].chars().count().max(1);
    let first = (column + marked + 20)
        .saturating_sub(WIDTH_MAX)
        .min(column - 1);
    let last = whole.len().min(first + WIDTH_MAX);
    let cut = |yes: bool| if yes { "…" } else { "" };
    let shown: String = whole[first.min(last)..last].iter().collect();
    let number = line.to_string();
    let gutter = " ".repeat(number.len());
    let caret = "^".repeat(marked.min(WIDTH_MAX + 1 - (column - first).min(WIDTH_MAX)));
    let indent = " ".repeat(column - 1 - first + usize::from(first > 0));
    let mut out = format!(
        "{message}\n {gutter}--> {path}:{line}:{column}\n {gutter} |\n {number} | {before}{shown}{after}\n {gutter} | {indent}{caret}",
        message = diagnostic.message,
        path = source.path.display(),
        before = cut(first > 0),
        after = cut(last < whole.len()),
    );
    if let Some(help) = &diagnostic.help {
        out.push_str("\n  help: ");
        out.push_str(help);
    }
    out
}

/// A character as it is shown: the file may come from anyone, so it does not get to drive the terminal.
fn printable(c: char) -> char {
    match c {
        '\t' => ' ',
        c if c.is_control() => '\u{fffd}',
        // Bidirectional overrides make a line read as something it is not.
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
        c => c,
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source {
            path: "envd.toml".into(),
            text: text.into(),
        }
    }

    #[test]
    fn the_caret_is_below_what_it_is_about_even_after_tabs_and_wide_text() {
        let text = "\t# é\n\tkey = \"é\" # x\n";
        let at = text.find("\"é\"").unwrap();
        let error = source(text).refuse(at..at + 4, "bad", Some("better".into()));
        assert_eq!(
            error.to_string(),
            "bad\n  --> envd.toml:2:8\n   |\n 2 |  key = \"é\" # x\n   |        ^^^\n  help: better"
        );
    }

    #[test]
    fn a_long_line_is_cut_around_the_caret() {
        let text = format!("a = \"{}\" oops {}", "x".repeat(500), "y".repeat(500));
        let at = text.find("oops").unwrap();
        let shown = source(&text).refuse(at..at + 4, "bad", None).to_string();
        let lines: Vec<&str> = shown.lines().collect();
        let caret = lines[4].chars().position(|c| c == '^').unwrap();
        let under: String = lines[3].chars().skip(caret).take(4).collect();
        assert_eq!(under, "oops");
        assert!(lines.iter().all(|l| l.chars().count() < 140), "{shown}");
    }

    #[test]
    fn a_span_at_the_end_or_beyond_it_does_not_panic() {
        for text in ["", "a", "a\n", "é"] {
            for at in 0..text.len() + 3 {
                assert!(
                    !source(text)
                        .refuse(at..at + 2, "bad", None)
                        .to_string()
                        .is_empty()
                );
            }
        }
    }

    #[test]
    fn a_hostile_file_cannot_drive_the_terminal() {
        let shown = source("x = \"\u{1b}]0;owned\u{7}\u{202e}\"").refuse(0..1, "bad", None);
        assert!(!shown.to_string().contains(['\u{1b}', '\u{7}', '\u{202e}']));
    }

    #[test]
    fn text_that_is_not_utf8_is_placed() {
        let error = Source::from_bytes(Path::new("envd.toml"), b"[env]\nx = \"\xff\"".to_vec());
        assert!(
            error
                .unwrap_err()
                .to_string()
                .starts_with("envd.toml:2:6: not UTF-8")
        );
    }
}
