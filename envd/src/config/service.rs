//! `[service.NAME]`: what runs beside people's commands for as long as the environment is up.

use std::{collections::BTreeMap, ops::Range, path::PathBuf, time::Duration};

use envd_supervision::{Name, Policy, Readiness, Restart, Service, Signal};
use toml::{Spanned, de::DeValue};

use super::{
    command::{CommandLine, read_template, read_variables},
    names::{Sections, check_order, check_references, read_references, read_sections},
    reader::{Fault, Reader, TableReader, nearest},
    template::Template,
};

/// How long a service has to end, unless it says otherwise.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a service has to be ready, unless it says otherwise.
pub const START_TIMEOUT: Duration = Duration::from_secs(60);
/// The highest number that a readiness descriptor may have: PID 1 hands over no higher ones.
pub const DESCRIPTOR_MAX: u32 = 15;
/// Restart policies by name.
const POLICIES: [(&str, Policy); 3] = [
    ("never", Policy::Never),
    ("on-failure", Policy::OnFailure),
    ("always", Policy::Always),
];
/// Kinds of readiness that are words.
const READY_WORDS: [&str; 3] = ["started", "notify", "exit"];

/// `[service.NAME]`.
#[derive(Clone, PartialEq, Debug)]
pub struct ServiceSection {
    /// What is run.
    pub run: CommandLine,
    /// Services that must be up before it.
    pub needs: Vec<Spanned<Name>>,
    /// Services that it waits for if they are on their way.
    pub after: Vec<Spanned<Name>>,
    /// How it shows that it can be used.
    pub ready: Ready,
    /// When it is started again.
    pub restart: Policy,
    /// What it is asked to end with.
    pub stop_signal: Signal,
    /// How long after that it is killed.
    pub stop_timeout: Duration,
    /// How long it may take to be ready; `None` for as long as it likes.
    pub start_timeout: Option<Duration>,
    /// Once ready, it has to say that it is alive this often.
    pub watchdog: Option<Duration>,
    /// Variables on top of the environment's.
    pub variables: BTreeMap<String, Template>,
    /// Where it runs, relative to the project, which it is when absent.
    pub directory: Option<PathBuf>,
}

/// How a service shows that it can be used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ready {
    /// By having been started.
    Started,
    /// By `READY=1` on its notification socket.
    Notify,
    /// By ending with status 0.
    Exit,
    /// By accepting connections on a port of the loopback interface.
    Tcp(Port),
    /// By writing to this descriptor, or closing it.
    Descriptor(u32),
    /// By the success of a command.
    Command(CommandLine),
}

/// A port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Port {
    /// This one.
    Number(u16),
    /// The free one of this name.
    Free(Name),
}

impl Port {
    /// Its number, for ports that `port` knows.
    pub fn number(&self, mut port: impl FnMut(&Name) -> u16) -> u16 {
        match self {
            Self::Number(number) => *number,
            Self::Free(name) => port(name),
        }
    }
}

impl ServiceSection {
    /// What a supervisor has to know, with the ports that `port` knows.
    pub fn service(&self, name: Name, port: impl FnMut(&Name) -> u16) -> Service {
        let plain = |names: &[Spanned<Name>]| names.iter().map(|n| n.get_ref().clone()).collect();
        Service {
            name,
            needs: plain(&self.needs),
            after: plain(&self.after),
            readiness: match &self.ready {
                Ready::Started => Readiness::Started,
                Ready::Notify => Readiness::Notify,
                Ready::Exit => Readiness::Exit,
                Ready::Tcp(number) => Readiness::Tcp(number.number(port)),
                Ready::Descriptor(number) => Readiness::Descriptor(*number),
                Ready::Command(_) => Readiness::Command,
            },
            restart: Restart {
                policy: self.restart,
                ..Restart::default()
            },
            stop_signal: self.stop_signal,
            stop_timeout: self.stop_timeout,
            start_timeout: self.start_timeout,
            watchdog: self.watchdog,
        }
    }

    /// The names of the ports that it asks for.
    pub fn ports(&self) -> impl Iterator<Item = &Name> {
        let (ready, command) = match &self.ready {
            Ready::Tcp(Port::Free(name)) => (Some(name), None),
            Ready::Command(command) => (None, Some(command)),
            _ => (None, None),
        };
        self.run
            .ports()
            .chain(self.variables.values().flat_map(Template::ports))
            .chain(ready)
            .chain(command.into_iter().flat_map(CommandLine::ports))
    }
}

/// Reads `[service]`, and how the services belong together.
pub(super) fn read(reader: &mut Reader, value: &Spanned<DeValue<'_>>) -> Sections<ServiceSection> {
    let services = read_sections(reader, "service", value, read_section);
    let before: BTreeMap<&str, Vec<&Spanned<Name>>> = services
        .read
        .iter()
        .map(|(name, service)| {
            let before = service.needs.iter().chain(&service.after);
            (name.as_str(), before.collect())
        })
        .collect();
    let all = before.values().flatten().copied();
    check_references(reader, "service", all, &services.named);
    check_order(reader, "service", &before);
    services
}

fn read_section(
    reader: &mut Reader,
    what: &str,
    table: &mut TableReader<'_, '_>,
) -> Option<ServiceSection> {
    let run = match table.get("run") {
        Some(value) => CommandLine::read(reader, &format!("{what}.run"), value),
        None => {
            report_no_run(reader, what, table.span());
            None
        }
    };
    let needs = names(reader, what, table, "needs");
    let after = names(reader, what, table, "after");
    let ready = match table.get("ready") {
        Some(value) => {
            read_ready(reader, &format!("{what}.ready"), value).unwrap_or(Ready::Started)
        }
        None => Ready::Started,
    };
    let restart = table.get("restart").map(|value| {
        let policy = read_policy(reader, &format!("{what}.restart"), value);
        if ready == Ready::Exit && policy == Policy::Always {
            let message = format!(
                "`{what}` is ready when it has ended, and is to be started again whenever it ends"
            );
            let help = Some("write restart = \"on-failure\" or another `ready`".to_owned());
            reader.report(value.span(), Fault { message, help });
        }
        policy
    });
    let stop_signal = table
        .get("stop-signal")
        .and_then(|value| read_signal(reader, &format!("{what}.stop-signal"), value));
    let mut duration = |key: &'static str| {
        let value = table.get(key)?;
        reader.duration(&format!("{what}.{key}"), value)
    };
    let stop_timeout = duration("stop-timeout");
    let start_timeout = duration("start-timeout");
    let watchdog = duration("watchdog");
    let variables = table
        .get("env")
        .map(|value| read_variables(reader, &format!("{what}.env"), value));
    let directory = table
        .get("directory")
        .and_then(|value| read_directory(reader, &format!("{what}.directory"), value));
    // A task takes the time that it takes.
    let patience = (ready != Ready::Exit).then_some(START_TIMEOUT);
    Some(ServiceSection {
        run: run?,
        needs,
        after,
        ready,
        restart: restart.unwrap_or_default(),
        stop_signal: stop_signal.unwrap_or(Signal::TERMINATE),
        stop_timeout: stop_timeout.unwrap_or(STOP_TIMEOUT),
        start_timeout: start_timeout.or(patience),
        watchdog,
        variables: variables.unwrap_or_default(),
        directory,
    })
}

/// Reports that a section has nothing to run.
pub(super) fn report_no_run(reader: &mut Reader, what: &str, span: Range<usize>) {
    let message = format!("[{what}] has no `run`");
    let help = Some("write run = \"a line for the shell\" below it".to_owned());
    reader.report(span, Fault { message, help });
}

/// An array of names under `key`.
pub(super) fn names(
    reader: &mut Reader,
    what: &str,
    table: &mut TableReader<'_, '_>,
    key: &'static str,
) -> Vec<Spanned<Name>> {
    match table.get(key) {
        Some(value) => read_references(reader, &format!("{what}.{key}"), value),
        None => Vec::new(),
    }
}

fn read_ready(reader: &mut Reader, what: &str, value: &Spanned<DeValue<'_>>) -> Option<Ready> {
    const KINDS: &str = "\"started\", \"notify\", \"exit\", { tcp = 5432 }, { descriptor = 3 } or { command = \"…\" }";
    let fault = |reader: &mut Reader, message: String, help: String| {
        let help = Some(help);
        reader.report(value.span(), Fault { message, help });
    };
    if let DeValue::String(_) = value.get_ref() {
        let text = reader.string(what, value)?;
        return match &**text.get_ref() {
            "started" => Some(Ready::Started),
            "notify" => Some(Ready::Notify),
            "exit" => Some(Ready::Exit),
            other => {
                let message = format!("{other:?} is no kind of readiness");
                let help = match nearest(other, &READY_WORDS) {
                    Some(near) => format!("did you mean \"{near}\"?"),
                    None => format!("write {KINDS}"),
                };
                fault(reader, message, help);
                None
            }
        };
    }
    if !matches!(value.get_ref(), DeValue::Table(_)) {
        reader.wrong_type(what, value, "a string or a table", format!("write {KINDS}"));
        return None;
    }
    let mut table = reader.table(what, value)?;
    let (tcp, descriptor, command) = (
        table.get("tcp"),
        table.get("descriptor"),
        table.get("command"),
    );
    reader.finish(table);
    match (tcp, descriptor, command) {
        (Some(value), None, None) => {
            read_port(reader, &format!("{what}.tcp"), value).map(Ready::Tcp)
        }
        (None, Some(value), None) => reader
            .number(&format!("{what}.descriptor"), value, 3..=DESCRIPTOR_MAX)
            .map(Ready::Descriptor),
        (None, None, Some(value)) => {
            CommandLine::read(reader, &format!("{what}.command"), value).map(Ready::Command)
        }
        _ => {
            let message = format!("`{what}` must say one thing to wait for");
            fault(reader, message, format!("write {KINDS}"));
            None
        }
    }
}

fn read_port(reader: &mut Reader, what: &str, value: &Spanned<DeValue<'_>>) -> Option<Port> {
    if !matches!(value.get_ref(), DeValue::String(_)) {
        let number = reader.number(what, value, 1..=u32::from(u16::MAX))?;
        return u16::try_from(number).ok().map(Port::Number);
    }
    let text = reader.string(what, value)?;
    let template = read_template(reader, what, &text)?;
    if template.as_port().is_none() {
        let message = format!("`{what}` must be a port");
        let help = Some("write 5432, or \"{port.NAME}\" for a free one".to_owned());
        reader.report(value.span(), Fault { message, help });
    }
    template.as_port().cloned().map(Port::Free)
}

fn read_policy(reader: &mut Reader, what: &str, value: &Spanned<DeValue<'_>>) -> Policy {
    let Some(text) = reader.string(what, value) else {
        return Policy::default();
    };
    let text = text.get_ref();
    if let Some((_, policy)) = POLICIES.iter().find(|(name, _)| name == text) {
        return *policy;
    }
    let message = format!("{text:?} is no restart policy");
    let help = match nearest(text, &POLICIES.map(|(name, _)| name)) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => "write \"never\", \"on-failure\" or \"always\"".to_owned(),
    };
    let help = Some(help);
    reader.report(value.span(), Fault { message, help });
    Policy::default()
}

fn read_signal(reader: &mut Reader, what: &str, value: &Spanned<DeValue<'_>>) -> Option<Signal> {
    let text = reader.string(what, value)?;
    let text = text.get_ref();
    let Err(error) = text.parse::<Signal>() else {
        return text.parse().ok();
    };
    let full = format!("SIG{}", text.trim_start_matches("SIG").to_uppercase());
    let help = full
        .parse::<Signal>()
        .ok()
        .map(|signal| format!("did you mean \"{signal}\"?"));
    let message = error.to_string();
    reader.report(value.span(), Fault { message, help });
    None
}

fn read_directory(
    reader: &mut Reader,
    what: &str,
    value: &Spanned<DeValue<'_>>,
) -> Option<PathBuf> {
    let text = reader.string(what, value)?;
    if text.get_ref().is_empty() || text.get_ref().contains('\0') {
        let message = format!("`{what}` must be a directory's path");
        let help = Some("leave the key out to run in the project's directory".to_owned());
        reader.report(value.span(), Fault { message, help });
        return None;
    }
    Some(text.into_inner().into())
}
