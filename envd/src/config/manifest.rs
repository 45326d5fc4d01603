//! What `envd.toml` says, validated. A value of [`Manifest`] has well-formed channels, distinct packages, usable variables, and
//! services and tasks that find each other; whether the packages exist is for the resolver to find, which gets their spans to say so.

use std::{collections::BTreeMap, ops::Range, path::Path, str::FromStr};

use envd_agents::policy::{Layer, Widening};
use envd_supervision::Name;
use serde::{Deserialize, Serialize};
use toml::{Spanned, de::DeValue};

use super::{
    ConfigError, Diagnostic, ServiceSection, Source, TaskSection, agent,
    reader::{Fault, Reader, TableReader, nearest},
    service, task,
};
use crate::provider::Channel;

/// The file's name.
pub const NAME: &str = "envd.toml";
/// The channel of a project that names none: Debian's current stable.
pub const DEFAULT_CHANNEL: &str = "debian:trixie";
/// The ending of a requirement that asks for its Recommends, too.
const RECOMMENDS: &str = "+recommends";

/// A project's file.
#[derive(Clone, PartialEq, Debug)]
pub struct Manifest {
    /// `[env]`.
    pub environment: EnvironmentSection,
    /// `[service.NAME]`. Their needs are of each other and end somewhere.
    pub services: BTreeMap<Name, ServiceSection>,
    /// `[task.NAME]`. So are these.
    pub tasks: BTreeMap<Name, TaskSection>,
    /// `[agent]`, a layer of the policy that can only tighten.
    pub agent: Layer,
    source: Source,
}

/// `[env]`: what the environment is made of, and how it is entered.
#[derive(Clone, PartialEq, Debug)]
pub struct EnvironmentSection {
    /// Where packages come from, in order of preference. Never empty, no channel twice.
    pub channels: Vec<Spanned<Channel>>,
    /// What is asked for, as written: `python3@3.11`, `git+recommends`. No name twice.
    pub packages: Vec<Spanned<String>>,
    /// `[env.vars]`.
    pub variables: BTreeMap<String, String>,
    /// Whether the packages that Debian calls essential are in it, asked for or not.
    pub essential: bool,
    /// Indexes that may be used when locking though they say they have expired.
    pub accept_expired: AcceptExpired,
    /// What `$HOME` is inside.
    pub home: Home,
}

/// Indexes past their `Valid-Until` that are accepted when locking.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum AcceptExpired {
    /// None.
    #[default]
    No,
    /// All.
    All,
    /// Those of these suites, each of which is a channel's.
    Suites(Vec<String>),
}

impl AcceptExpired {
    /// Whether an expired index of `suite` is accepted.
    pub fn accepts(&self, suite: &str) -> bool {
        match self {
            Self::No => false,
            Self::All => true,
            Self::Suites(suites) => suites.iter().any(|accepted| accepted == suite),
        }
    }
}

/// What `$HOME` is inside an environment. Its path is the caller's own in each case.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Home {
    /// A fresh directory in memory with the tool caches (cargo, pip, npm, …) that persist in the store.
    #[default]
    Private,
    /// The caller's own, readable; what is written to it is gone at the end. The tool caches persist.
    Host,
    /// A fresh directory in memory and nothing else, as on a machine that was never used.
    Empty,
}

impl Home {
    /// Every value's name.
    pub const NAMES: [&str; 3] = ["private", "host", "empty"];
}

/// A text that names no home policy.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no home policy: write \"private\", \"host\" or \"empty\"")]
pub struct HomeError(String);

impl FromStr for Home {
    type Err = HomeError;

    fn from_str(text: &str) -> Result<Self, HomeError> {
        match text {
            "private" => Ok(Self::Private),
            "host" => Ok(Self::Host),
            "empty" => Ok(Self::Empty),
            _ => Err(HomeError(text.to_owned())),
        }
    }
}

impl Manifest {
    /// Reads and validates a file.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::parse(Source::load(path)?)
    }

    /// Validates a text.
    pub fn parse(source: Source) -> Result<Self, ConfigError> {
        let (environment, services, tasks, agent) = Reader::document(&source, |reader, top| {
            let environment = read_environment(reader, top);
            let services = top.get("service").map(|value| service::read(reader, value));
            let (services, named) = match services {
                Some(services) => (services.read, services.named),
                None => (BTreeMap::new(), Vec::new()),
            };
            let tasks = match top.get("task") {
                Some(value) => task::read(reader, value, &named),
                None => BTreeMap::new(),
            };
            let agent = top
                .get("agent")
                .map(|value| agent::read(reader, &source, agent::Whose::Project, value));
            (environment, services, tasks, agent.unwrap_or_default())
        })?;
        // `document` has refused every text for which the section is missing.
        let environment = environment.unwrap_or_else(|| EnvironmentSection::one_off(Vec::new()));
        Ok(Self {
            environment,
            services,
            tasks,
            agent,
            source,
        })
    }

    /// The file's text.
    pub fn text(&self) -> &str {
        &self.source.text
    }

    /// An error about a part of the file, for those who find it wrong later: an unknown package, say.
    pub fn refuse(
        &self,
        span: Range<usize>,
        message: impl Into<String>,
        help: Option<String>,
    ) -> ConfigError {
        self.source.refuse(span, message, help)
    }

    /// An error about what `[agent]` would widen, with where it would have to be instead.
    pub fn refuse_widening(&self, widenings: &[Widening]) -> ConfigError {
        let diagnostics = widenings.iter().map(|widening| Diagnostic {
            span: widening.place.span(),
            message: widening.to_string(),
            help: Some(format!(
                "leave it out, or allow it first: `{}` under [agent] in the user's config.toml of envd",
                widening.instead
            )),
        });
        self.source.wrong(diagnostics.collect())
    }
}

fn read_environment(
    reader: &mut Reader,
    top: &mut TableReader<'_, '_>,
) -> Option<EnvironmentSection> {
    let Some(value) = top.get("env") else {
        let message = "there is no [env] section".to_owned();
        let help = "start the file with a line [env]; `envd init` writes one".to_owned();
        reader.report(
            0..0,
            Fault {
                message,
                help: Some(help),
            },
        );
        return None;
    };
    let mut table = reader.table("env", value)?;
    let section = EnvironmentSection::read(reader, &mut table);
    reader.finish(table);
    Some(section)
}

impl EnvironmentSection {
    /// An environment of these packages and nothing else said, as `envd x` makes it: default channel, Essential left out.
    pub fn one_off(packages: Vec<String>) -> Self {
        Self {
            channels: vec![Spanned::new(0..0, default_channel())],
            packages: packages
                .into_iter()
                .map(|p| Spanned::new(0..0, p))
                .collect(),
            variables: BTreeMap::new(),
            essential: false,
            accept_expired: AcceptExpired::No,
            home: Home::Private,
        }
    }

    fn read(reader: &mut Reader, table: &mut TableReader<'_, '_>) -> Self {
        let channels = match table.get("channels") {
            Some(value) => read_channels(reader, value),
            None => vec![Spanned::new(0..0, default_channel())],
        };
        let packages = match table.get("packages") {
            Some(value) => read_packages(reader, value),
            None => Vec::new(),
        };
        let variables = match table.get("vars") {
            Some(value) => read_variables(reader, value),
            None => BTreeMap::new(),
        };
        let essential = match table.get("essential") {
            Some(value) => reader.boolean("env.essential", value).unwrap_or(true),
            None => true,
        };
        let accept_expired = match table.get("accept-expired") {
            Some(value) => read_accept_expired(reader, value, &channels),
            None => AcceptExpired::No,
        };
        let home = match table.get("home") {
            Some(value) => read_home(reader, value),
            None => Home::default(),
        };
        Self {
            channels,
            packages,
            variables,
            essential,
            accept_expired,
            home,
        }
    }
}

fn default_channel() -> Channel {
    Channel {
        provider: "debian".to_owned(),
        suite: "trixie".to_owned(),
        snapshot: None,
    }
}

fn read_channels(reader: &mut Reader, value: &Spanned<DeValue<'_>>) -> Vec<Spanned<Channel>> {
    let Some(texts) = reader.strings("env.channels", value) else {
        return Vec::new();
    };
    if texts.is_empty() && value.get_ref().as_array().is_some_and(|a| a.is_empty()) {
        let message = "`env.channels` is empty: there is nowhere to take packages from".to_owned();
        let help = Some(format!(
            "write [\"{DEFAULT_CHANNEL}\"], or leave the key out"
        ));
        reader.report(value.span(), Fault { message, help });
    }
    let mut channels: Vec<Spanned<Channel>> = Vec::new();
    for text in texts {
        match text.get_ref().parse::<Channel>() {
            Ok(channel) => {
                if channels.iter().any(|c| *c.get_ref() == channel) {
                    let message = format!("the channel \"{channel}\" is listed twice");
                    let help = Some("remove one of the two".to_owned());
                    reader.report(text.span(), Fault { message, help });
                } else {
                    channels.push(Spanned::new(text.span(), channel));
                }
            }
            Err(e) => {
                let message = e.to_string();
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
    channels
}

fn read_packages(reader: &mut Reader, value: &Spanned<DeValue<'_>>) -> Vec<Spanned<String>> {
    let texts = reader.strings("env.packages", value).unwrap_or_default();
    let mut packages: Vec<Spanned<String>> = Vec::new();
    for text in texts {
        let fault = match unusable_requirement(text.get_ref()) {
            Some(fault) => Some(fault),
            None => {
                let name = package_name(text.get_ref());
                let twin = packages.iter().find(|p| package_name(p.get_ref()) == name);
                twin.map(|twin| Fault {
                    message: format!("the package `{name}` is listed twice"),
                    help: Some(format!(
                        "keep one of \"{}\" and \"{}\"",
                        twin.get_ref(),
                        text.get_ref()
                    )),
                })
            }
        };
        match fault {
            Some(fault) => reader.report(text.span(), fault),
            None => packages.push(text),
        }
    }
    packages
}

/// What no requirement of any provider can be. The resolver knows the rest.
fn unusable_requirement(text: &str) -> Option<Fault> {
    let fault = |message: String, help: &str| {
        Some(Fault {
            message,
            help: Some(help.to_owned()),
        })
    };
    if text.trim().is_empty() {
        return fault("a package has no name".to_owned(), "remove the empty text");
    }
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        let help = "write one package a text, with its constraint behind an @: \"python3@>=3.11\"";
        return fault(
            format!("{text:?} contains a space or a control character"),
            help,
        );
    }
    if package_name(text).is_empty() {
        return fault(
            format!("{text:?} has no name before its constraint"),
            "write NAME@CONSTRAINT",
        );
    }
    None
}

/// The name that a requirement is about: `python3` of `debian:python3@3.11+recommends`, `npm:@scope/tool` of `npm:@scope/tool@1`.
pub fn package_name(requirement: &str) -> &str {
    let plain = requirement.strip_suffix(RECOMMENDS).unwrap_or(requirement);
    // An @ right behind the ecosystem's colon opens a scope, not a constraint.
    let scope = plain.find(":@").map_or(0, |colon| colon + 2);
    let name = match plain[scope..].find('@') {
        Some(at) => &plain[..scope + at],
        None => plain,
    };
    let name = name.strip_suffix(RECOMMENDS).unwrap_or(name);
    // Written out or not, it is the same universe.
    name.strip_prefix("debian:").unwrap_or(name)
}

fn read_variables(reader: &mut Reader, value: &Spanned<DeValue<'_>>) -> BTreeMap<String, String> {
    let Some(table) = reader.table("env.vars", value) else {
        return BTreeMap::new();
    };
    let mut variables = BTreeMap::new();
    for (key, value) in table.entries() {
        let name = key.get_ref();
        if let Some(problem) = unusable_variable(name) {
            let message = format!("{:?} {problem}", &**name);
            reader.report(
                key.span(),
                Fault {
                    message,
                    help: None,
                },
            );
        }
        let Some(text) = reader.string(&format!("env.vars.{name}"), value) else {
            continue;
        };
        if text.get_ref().contains('\0') {
            let message = format!("the variable `{name}` contains a NUL character");
            reader.report(
                text.span(),
                Fault {
                    message,
                    help: None,
                },
            );
        }
        variables.insert(name.to_string(), text.into_inner());
    }
    variables
}

/// Why a name cannot be an environment variable's (environ(7)), or would silently have no effect.
pub(crate) fn unusable_variable(name: &str) -> Option<&'static str> {
    if name.is_empty() || name.contains(['=', '\0']) {
        return Some("cannot be a variable's name: it must not be empty nor contain = or NUL");
    }
    None
}

fn read_accept_expired(
    reader: &mut Reader,
    value: &Spanned<DeValue<'_>>,
    channels: &[Spanned<Channel>],
) -> AcceptExpired {
    match value.get_ref() {
        DeValue::Boolean(true) => return AcceptExpired::All,
        DeValue::Boolean(false) => return AcceptExpired::No,
        DeValue::Array(_) => {}
        _ => {
            let message =
                "`env.accept-expired` must be true, false or an array of suites".to_owned();
            let help = Some("write [\"sid\"] to accept an expired index of sid".to_owned());
            reader.report(value.span(), Fault { message, help });
            return AcceptExpired::No;
        }
    }
    let texts = reader
        .strings("env.accept-expired", value)
        .unwrap_or_default();
    let known: Vec<&str> = channels.iter().map(|c| &*c.get_ref().suite).collect();
    let mut suites = Vec::new();
    for text in texts {
        if known.contains(&text.get_ref().as_str()) {
            suites.push(text.into_inner());
        } else {
            let message = format!("no channel is of the suite `{}`", text.get_ref());
            let help = nearest(text.get_ref(), &known)
                .map(|near| format!("did you mean \"{near}\"?"))
                .or_else(|| Some(format!("the channels are of {}", known.join(", "))));
            reader.report(text.span(), Fault { message, help });
        }
    }
    AcceptExpired::Suites(suites)
}

fn read_home(reader: &mut Reader, value: &Spanned<DeValue<'_>>) -> Home {
    let Some(text) = reader.string("env.home", value) else {
        return Home::default();
    };
    text.get_ref().parse().unwrap_or_else(|e: HomeError| {
        let message = e.to_string();
        let help =
            nearest(text.get_ref(), &Home::NAMES).map(|near| format!("did you mean \"{near}\"?"));
        reader.report(text.span(), Fault { message, help });
        Home::default()
    })
}
