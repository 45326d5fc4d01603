//! `[task.NAME]`: what people run again and again, and what it depends on.

use std::collections::BTreeMap;

use envd_supervision::Name;
use toml::{Spanned, de::DeValue};

use super::{
    command::{CommandLine, read_variables},
    names::{check_order, check_references, read_sections},
    pattern::Pattern,
    reader::{Fault, Reader, TableReader},
    service::{self, report_no_run},
    template::Template,
};

/// `[task.NAME]`.
#[derive(Clone, PartialEq, Debug)]
pub struct TaskSection {
    /// What is run.
    pub run: CommandLine,
    /// Tasks that go before it.
    pub needs: Vec<Spanned<Name>>,
    /// Services that must be up while it runs.
    pub services: Vec<Spanned<Name>>,
    /// The files it depends on. `None`: nobody knows, so it always runs.
    pub inputs: Option<Vec<Spanned<Pattern>>>,
    /// The files and directories it makes, relative to the project. Without them it is not up to date.
    pub outputs: Vec<String>,
    /// Variables on top of the environment's.
    pub variables: BTreeMap<String, Template>,
}

impl TaskSection {
    /// The names of the ports that it asks for.
    pub fn ports(&self) -> impl Iterator<Item = &Name> {
        let variables = self.variables.values().flat_map(Template::ports);
        self.run.ports().chain(variables)
    }
}

/// Reads `[task]`, and how the tasks belong together and to the services.
pub(super) fn read(
    reader: &mut Reader,
    value: &Spanned<DeValue<'_>>,
    services: &[Name],
) -> BTreeMap<Name, TaskSection> {
    let tasks = read_sections(reader, "task", value, |reader, what, table| {
        if table.get("run").is_none() {
            report_no_run(reader, what, table.span());
        }
        read_section(reader, what, table)
    });
    let needs: BTreeMap<&str, Vec<&Spanned<Name>>> = tasks
        .read
        .iter()
        .map(|(name, task)| (name.as_str(), task.needs.iter().collect()))
        .collect();
    let all = needs.values().flatten().copied();
    check_references(reader, "task", all, &tasks.named);
    check_order(reader, "task", &needs);
    let wanted = tasks.read.values().flat_map(|task| &task.services);
    check_references(reader, "service", wanted, services);
    tasks.read
}

fn read_section(
    reader: &mut Reader,
    what: &str,
    table: &mut TableReader<'_, '_>,
) -> Option<TaskSection> {
    let run = table
        .get("run")
        .and_then(|value| CommandLine::read(reader, &format!("{what}.run"), value));
    let needs = service::names(reader, what, table, "needs");
    let services = service::names(reader, what, table, "services");
    let inputs = table
        .get("inputs")
        .map(|value| read_patterns(reader, &format!("{what}.inputs"), value));
    let outputs = table
        .get("outputs")
        .map(|value| read_outputs(reader, &format!("{what}.outputs"), value));
    let variables = table
        .get("env")
        .map(|value| read_variables(reader, &format!("{what}.env"), value));
    Some(TaskSection {
        run: run?,
        needs,
        services,
        inputs,
        outputs: outputs.unwrap_or_default(),
        variables: variables.unwrap_or_default(),
    })
}

fn read_patterns(
    reader: &mut Reader,
    what: &str,
    value: &Spanned<DeValue<'_>>,
) -> Vec<Spanned<Pattern>> {
    let mut patterns = Vec::new();
    for text in reader.strings(what, value).unwrap_or_default() {
        match Pattern::parse(text.get_ref()) {
            Ok(pattern) => patterns.push(Spanned::new(text.span(), pattern)),
            Err(error) => {
                let message = error.to_string();
                reader.report(
                    text.span(),
                    Fault {
                        message,
                        help: None,
                    },
                );
            }
        }
    }
    patterns
}

fn read_outputs(reader: &mut Reader, what: &str, value: &Spanned<DeValue<'_>>) -> Vec<String> {
    let mut outputs = Vec::new();
    for pattern in read_patterns(reader, what, value) {
        match pattern.get_ref().literal() {
            Some(path) if !path.is_empty() => outputs.push(path),
            _ => {
                let message = format!("{:?} is no file or directory to be made", pattern.get_ref());
                let help = Some("write the path of one, without `*` and `?`".to_owned());
                reader.report(pattern.span(), Fault { message, help });
            }
        }
    }
    outputs
}
