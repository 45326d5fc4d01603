//! Reads a TOML document key by key. What is asked for is what is known: a key nobody asked for is reported with the
//! nearest one that was, so the list of known keys cannot drift from the code that reads them. All faults are gathered,
//! so that one run shows every mistake.

use std::{ops::Range, time::Duration};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::source::{ConfigError, Diagnostic, Source};

/// Something wrong with a value: what, and what to write instead.
pub(crate) struct Fault {
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
}

/// Gathers what is wrong with one document.
pub(crate) struct Reader {
    diagnostics: Vec<Diagnostic>,
}

/// One table of the document, with the keys that were asked for.
pub(crate) struct TableReader<'t, 'i> {
    /// Dotted name, empty for the document itself.
    name: String,
    table: &'t DeTable<'i>,
    asked: Vec<&'static str>,
    span: Range<usize>,
}

impl Reader {
    /// Reads a whole document: `read` is given its top table.
    pub fn document<T>(
        source: &Source,
        read: impl FnOnce(&mut Self, &mut TableReader<'_, '_>) -> T,
    ) -> Result<T, ConfigError> {
        let document = DeTable::parse(&source.text).map_err(|e| {
            let span = e.span().unwrap_or(0..0);
            source.refuse(span, e.message().trim_end().replace('\n', ", "), None)
        })?;
        let mut reader = Self {
            diagnostics: Vec::new(),
        };
        let mut top = TableReader {
            name: String::new(),
            table: document.get_ref(),
            asked: Vec::new(),
            span: 0..0,
        };
        let value = read(&mut reader, &mut top);
        reader.finish(top);
        if reader.diagnostics.is_empty() {
            Ok(value)
        } else {
            Err(source.wrong(reader.diagnostics))
        }
    }

    /// Reports something wrong at `span`.
    pub fn report(&mut self, span: Range<usize>, fault: Fault) {
        self.diagnostics.push(Diagnostic {
            span,
            message: fault.message,
            help: fault.help,
        });
    }

    /// Reports the keys of `table` that nobody asked for.
    pub fn finish(&mut self, table: TableReader<'_, '_>) {
        for key in table.table.keys() {
            let known = &table.asked;
            if known.contains(&&**key.get_ref()) {
                continue;
            }
            let place = match &*table.name {
                "" => "at the top level".to_owned(),
                name => format!("in [{name}]"),
            };
            let help = match nearest(key.get_ref(), known) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("known {place}: {}", list(known)),
            };
            self.report(
                key.span(),
                Fault {
                    message: format!("unknown key `{}` {place}", key.get_ref().escape_debug()),
                    help: Some(help),
                },
            );
        }
    }

    /// Reports that `what` has the wrong type.
    pub fn wrong_type(
        &mut self,
        what: &str,
        value: &Spanned<DeValue<'_>>,
        wanted: &str,
        help: String,
    ) {
        self.report(
            value.span(),
            Fault {
                message: format!("`{what}` must be {wanted}, not {}", kind(value.get_ref())),
                help: Some(help),
            },
        );
    }

    /// A string.
    pub fn string(&mut self, what: &str, value: &Spanned<DeValue<'_>>) -> Option<Spanned<String>> {
        match value.get_ref() {
            DeValue::String(text) => Some(Spanned::new(value.span(), text.to_string())),
            other => {
                let help = match other {
                    DeValue::Integer(number) => format!("write \"{}\"", number.as_str()),
                    DeValue::Float(number) => format!("write \"{}\"", number.as_str()),
                    DeValue::Boolean(truth) => format!("write \"{truth}\""),
                    _ => "write a text in double quotes".to_owned(),
                };
                self.wrong_type(what, value, "a string", help);
                None
            }
        }
    }

    /// A truth value.
    pub fn boolean(&mut self, what: &str, value: &Spanned<DeValue<'_>>) -> Option<bool> {
        match value.get_ref() {
            DeValue::Boolean(truth) => Some(*truth),
            _ => {
                let help = "write true or false, without quotes".to_owned();
                self.wrong_type(what, value, "true or false", help);
                None
            }
        }
    }

    /// A whole number within `range`.
    pub fn number(
        &mut self,
        what: &str,
        value: &Spanned<DeValue<'_>>,
        range: std::ops::RangeInclusive<u32>,
    ) -> Option<u32> {
        let number = match value.get_ref() {
            DeValue::Integer(number) => u32::from_str_radix(number.as_str(), number.radix()).ok(),
            _ => None,
        };
        let number = number.filter(|number| range.contains(number));
        if number.is_none() {
            let wanted = format!("a whole number from {} to {}", range.start(), range.end());
            let message = format!("`{what}` must be {wanted}");
            self.report(
                value.span(),
                Fault {
                    message,
                    help: None,
                },
            );
        }
        number
    }

    /// A time with its unit: `"500ms"`, `"10s"`, `"2m"`, `"1h"`. Never zero.
    pub fn duration(&mut self, what: &str, value: &Spanned<DeValue<'_>>) -> Option<Duration> {
        let duration = match value.get_ref() {
            DeValue::String(text) => parse_duration(text),
            _ => None,
        };
        if duration.is_none() {
            let message = format!("`{what}` must be a time with its unit");
            let help = match value.get_ref() {
                DeValue::Integer(number) => format!("write \"{}s\" for seconds", number.as_str()),
                _ => "write \"500ms\", \"10s\", \"2m\" or \"1h\"".to_owned(),
            };
            let help = Some(help);
            self.report(value.span(), Fault { message, help });
        }
        duration
    }

    /// A number of bytes with its unit: `"500 MB"`, `"2 GiB"`. Never zero.
    pub fn size(&mut self, what: &str, value: &Spanned<DeValue<'_>>) -> Option<u64> {
        let size = match value.get_ref() {
            DeValue::String(text) => parse_size(text),
            _ => None,
        };
        if size.is_none() {
            let message = format!("`{what}` must be a size with its unit");
            let help = match value.get_ref() {
                DeValue::Integer(number) => {
                    format!("write \"{} MiB\" for mebibytes", number.as_str())
                }
                _ => "write \"500 MB\", \"512 MiB\" or \"2 GiB\"".to_owned(),
            };
            let help = Some(help);
            self.report(value.span(), Fault { message, help });
        }
        size
    }

    /// A number from a thousandth to a million, in thousandths.
    pub fn thousandths(&mut self, what: &str, value: &Spanned<DeValue<'_>>) -> Option<u64> {
        let number: Option<f64> = match value.get_ref() {
            DeValue::Integer(number) => number.as_str().parse().ok(),
            DeValue::Float(number) => number.as_str().parse().ok(),
            _ => None,
        };
        let number = number.filter(|number| (0.001..=1e6).contains(number));
        if number.is_none() {
            let message = format!("`{what}` must be a number such as 2 or 1.5");
            let help = None;
            self.report(value.span(), Fault { message, help });
        }
        number.map(|number| (number * 1000.0).round() as u64)
    }

    /// An array of strings.
    pub fn strings(
        &mut self,
        what: &str,
        value: &Spanned<DeValue<'_>>,
    ) -> Option<Vec<Spanned<String>>> {
        let DeValue::Array(items) = value.get_ref() else {
            let help = match value.get_ref() {
                DeValue::String(text) => format!("write [\"{}\"]", text.escape_debug()),
                _ => "write [\"one\", \"two\"]".to_owned(),
            };
            self.wrong_type(what, value, "an array of strings", help);
            return None;
        };
        let strings = items
            .iter()
            .filter_map(|item| self.string(&format!("{what}[]"), item));
        Some(strings.collect())
    }

    /// A table whose keys are known.
    pub fn table<'t, 'i>(
        &mut self,
        what: &str,
        value: &'t Spanned<DeValue<'i>>,
    ) -> Option<TableReader<'t, 'i>> {
        let DeValue::Table(table) = value.get_ref() else {
            let help = format!("write a line [{what}] and its keys below it");
            self.wrong_type(what, value, "a table", help);
            return None;
        };
        Some(TableReader {
            name: what.to_owned(),
            table,
            asked: Vec::new(),
            span: value.span(),
        })
    }
}

impl<'t, 'i> TableReader<'t, 'i> {
    /// The value of a key, which is thereby known.
    pub fn get(&mut self, key: &'static str) -> Option<&'t Spanned<DeValue<'i>>> {
        self.asked.push(key);
        self.table.get(key)
    }

    /// Where it is in the text.
    pub fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// All keys and values of a table whose keys people choose.
    pub fn entries(
        self,
    ) -> impl Iterator<
        Item = (
            &'t Spanned<std::borrow::Cow<'i, str>>,
            &'t Spanned<DeValue<'i>>,
        ),
    > {
        self.table.iter()
    }
}

/// At most nine digits, none of them a leading zero, a space or none, and a unit.
fn parse_size(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let usable = (1..=9).contains(&digits) && !number.starts_with('0');
    let number: u64 = number.parse().ok().filter(|_| usable)?;
    let unit: u64 = match unit.strip_prefix(' ').unwrap_or(unit) {
        "B" => 1,
        "kB" => 1000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => return None,
    };
    number.checked_mul(unit)
}

/// At most six digits, none of them a leading zero, and a unit.
fn parse_duration(text: &str) -> Option<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let usable = (1..=6).contains(&digits) && !number.starts_with('0');
    let number: u64 = number.parse().ok().filter(|_| usable)?;
    match unit {
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_secs(number * 60)),
        "h" => Some(Duration::from_secs(number * 3600)),
        _ => None,
    }
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) | DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

/// The candidate that was most likely meant by `word`, if any is near: at most a third of its letters are off.
pub(crate) fn nearest<'a>(word: &str, candidates: &[&'a str]) -> Option<&'a str> {
    let word = word.to_lowercase().replace('_', "-");
    candidates
        .iter()
        .map(|&candidate| (strsim::damerau_levenshtein(&word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= candidate.len().max(3) / 3)
        .min()
        .map(|(_, candidate)| candidate)
}

/// `a`, `b` and `c`.
fn list(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    match quoted.split_last() {
        None => "none".to_owned(),
        Some((only, [])) => only.clone(),
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
    }
}
