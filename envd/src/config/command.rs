//! Commands as `envd.toml` writes them: a line for the shell, or a list that is executed as it is.

use std::collections::BTreeMap;

use envd_supervision::Name;
use toml::{Spanned, de::DeValue};

use super::{
    manifest::unusable_variable,
    reader::{Fault, Reader},
    template::Template,
};

/// What is run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CommandLine {
    /// A line for `/bin/sh -c`.
    Shell(Template),
    /// A program and its arguments. Never empty.
    Exec(Vec<Template>),
}

impl CommandLine {
    /// The program and its arguments, with the ports that `port` knows.
    pub fn arguments(&self, mut port: impl FnMut(&Name) -> u16) -> Vec<String> {
        match self {
            Self::Shell(line) => vec!["/bin/sh".into(), "-c".into(), line.fill(port)],
            Self::Exec(words) => words.iter().map(|word| word.fill(&mut port)).collect(),
        }
    }

    /// The words as they were written.
    pub fn as_written(&self) -> Vec<&str> {
        match self {
            Self::Shell(line) => vec!["/bin/sh", "-c", line.as_written()],
            Self::Exec(words) => words.iter().map(Template::as_written).collect(),
        }
    }

    /// The names of the ports it asks for.
    pub fn ports(&self) -> impl Iterator<Item = &Name> {
        let words = match self {
            Self::Shell(line) => std::slice::from_ref(line),
            Self::Exec(words) => words,
        };
        words.iter().flat_map(Template::ports)
    }

    /// Reads a command.
    pub(super) fn read(
        reader: &mut Reader,
        what: &str,
        value: &Spanned<DeValue<'_>>,
    ) -> Option<Self> {
        match value.get_ref() {
            DeValue::String(_) => {
                let text = reader.string(what, value)?;
                let line = read_template(reader, what, &text)?;
                if text.get_ref().trim().is_empty() {
                    report_empty(reader, what, value);
                    return None;
                }
                Some(Self::Shell(line))
            }
            DeValue::Array(_) => {
                let words = reader.strings(what, value)?;
                if words
                    .first()
                    .is_none_or(|program| program.get_ref().is_empty())
                {
                    report_empty(reader, what, value);
                    return None;
                }
                let words: Option<Vec<Template>> = words
                    .iter()
                    .map(|word| read_template(reader, what, word))
                    .collect();
                words.map(Self::Exec)
            }
            _ => {
                let help = "write \"a line for the shell\" or [\"program\", \"argument\"]";
                reader.wrong_type(
                    what,
                    value,
                    "a string or an array of strings",
                    help.to_owned(),
                );
                None
            }
        }
    }
}

fn report_empty(reader: &mut Reader, what: &str, value: &Spanned<DeValue<'_>>) {
    let message = format!("`{what}` is empty: there is nothing to run");
    let help = "write \"a line for the shell\" or [\"program\", \"argument\"]".to_owned();
    reader.report(
        value.span(),
        Fault {
            message,
            help: Some(help),
        },
    );
}

/// A text with ports, and without what no argument or variable can have.
pub(super) fn read_template(
    reader: &mut Reader,
    what: &str,
    text: &Spanned<String>,
) -> Option<Template> {
    let message = if text.get_ref().contains('\0') {
        format!("`{what}` contains a NUL character")
    } else {
        match Template::parse(text.get_ref()) {
            Ok(template) => return Some(template),
            Err(error) => error.to_string(),
        }
    };
    reader.report(
        text.span(),
        Fault {
            message,
            help: None,
        },
    );
    None
}

/// Variables that a service or a task has on top of the environment's.
pub(super) fn read_variables(
    reader: &mut Reader,
    what: &str,
    value: &Spanned<DeValue<'_>>,
) -> BTreeMap<String, Template> {
    let Some(table) = reader.table(what, value) else {
        return BTreeMap::new();
    };
    let mut variables = BTreeMap::new();
    for (key, value) in table.entries() {
        let name = key.get_ref();
        if let Some(problem) = unusable_variable(name) {
            reader.report(
                key.span(),
                Fault {
                    message: format!("{:?} {problem}", &**name),
                    help: None,
                },
            );
        }
        let what = format!("{what}.{name}");
        if let Some(text) = reader.string(&what, value)
            && let Some(template) = read_template(reader, &what, &text)
        {
            variables.insert(name.to_string(), template);
        }
    }
    variables
}
