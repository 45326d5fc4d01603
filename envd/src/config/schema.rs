//! The shape of `envd.toml` as a JSON Schema, for editors: `envd schema`. A test holds it to what [`super::Manifest`] accepts.

use std::collections::BTreeMap;

use envd_supervision::Signal;
use schemars::{JsonSchema, Schema, generate::SchemaSettings};

/// The name of a service, a task or a port.
const NAME: &str = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,47}$";
/// A time with its unit.
const DURATION: &str = r"^[1-9][0-9]{0,5}(ms|s|m|h)$";

/// A number of bytes with its unit.
const SIZE: &str = r"^[1-9][0-9]{0,8} ?([kMGT]B|[KMGT]iB|B)$";

/// A project's environment, as envd makes it.
#[derive(JsonSchema)]
#[schemars(rename = "envd.toml", deny_unknown_fields)]
#[allow(dead_code, reason = "the fields are read by the derive")]
struct Document {
    /// What the environment is made of, and how it is entered.
    env: EnvironmentTable,
    /// What runs beside people's commands for as long as the environment is up: `envd up`.
    #[schemars(default, extend("propertyNames" = {"pattern": NAME}))]
    service: BTreeMap<String, ServiceTable>,
    /// What people run again and again: `envd task NAME`.
    #[schemars(default, extend("propertyNames" = {"pattern": NAME}))]
    task: BTreeMap<String, TaskTable>,
    /// What agents may do in environments that are lent to them. It can only tighten what the user allows.
    #[schemars(default)]
    agent: AgentTable,
}

/// What the environment is made of, and how it is entered.
#[derive(JsonSchema)]
#[schemars(rename = "env", deny_unknown_fields, rename_all = "kebab-case")]
#[allow(dead_code, reason = "the fields are read by the derive")]
struct EnvironmentTable {
    /// Where packages come from, in order of preference: PROVIDER:SUITE, or PROVIDER:SUITE@SNAPSHOT.
    #[schemars(
        default = "default_channels",
        length(min = 1),
        inner(regex(pattern = r"^debian:[a-z][a-z0-9.-]*(@[0-9]{8}T[0-9]{6}Z)?$"))
    )]
    channels: Vec<String>,
    /// Packages: NAME, NAME@CONSTRAINT, NAME+recommends.
    #[schemars(default, inner(regex(pattern = r"^[^\s@]\S*$")))]
    packages: Vec<String>,
    /// Environment variables inside.
    #[schemars(default)]
    vars: BTreeMap<String, String>,
    /// Whether the packages that Debian calls essential are in the environment, asked for or not.
    #[schemars(default = "yes")]
    essential: bool,
    /// Suites whose index is accepted when locking though it has expired; true for all.
    #[schemars(default)]
    accept_expired: AcceptExpired,
    /// What $HOME is inside.
    #[schemars(default)]
    home: Home,
}

/// A service.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, rename_all = "kebab-case")]
#[allow(dead_code, reason = "the fields are read by the derive")]
struct ServiceTable {
    /// What is run: a line for /bin/sh, or a program with its arguments. `{port.NAME}` is a free port.
    run: CommandLine,
    /// Services that must be up before it, and without which it cannot be.
    #[schemars(default, inner(regex(pattern = NAME)))]
    needs: Vec<String>,
    /// Services that it waits for if they are on their way up.
    #[schemars(default, inner(regex(pattern = NAME)))]
    after: Vec<String>,
    /// How it shows that it can be used.
    #[schemars(default)]
    ready: Ready,
    /// When it is started again after it has ended.
    #[schemars(default)]
    restart: Restart,
    /// What it is asked to end with.
    #[schemars(default = "stop_signal", extend("enum" = Signal::names().collect::<Vec<_>>()))]
    stop_signal: String,
    /// How long after that it is killed: a number and ms, s, m or h.
    #[schemars(default = "stop_timeout", regex(pattern = DURATION))]
    stop_timeout: String,
    /// How long it may take to be ready; one minute by default, and without limit when it is ready by ending.
    #[schemars(regex(pattern = DURATION))]
    start_timeout: Option<String>,
    /// How often it has to say `WATCHDOG=1` on its notification socket once it is ready.
    #[schemars(regex(pattern = DURATION))]
    watchdog: Option<String>,
    /// Environment variables on top of those of the environment.
    #[schemars(default)]
    env: BTreeMap<String, String>,
    /// Where it runs, relative to the project.
    #[schemars(length(min = 1))]
    directory: Option<String>,
}

/// A task.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, rename_all = "kebab-case")]
#[allow(dead_code, reason = "the fields are read by the derive")]
struct TaskTable {
    /// What is run: a line for /bin/sh, or a program with its arguments. `{port.NAME}` is a free port.
    run: CommandLine,
    /// Tasks that go before it.
    #[schemars(default, inner(regex(pattern = NAME)))]
    needs: Vec<String>,
    /// Services that are up while it runs.
    #[schemars(default, inner(regex(pattern = NAME)))]
    services: Vec<String>,
    /// The files it depends on: while they are as they were, it is skipped. A directory is all below it; * and ? are any part of a
    /// name, ** any number of directories. Without this key it always runs.
    #[schemars(inner(length(min = 1)))]
    inputs: Option<Vec<String>>,
    /// The files and directories it makes: while one is missing, it is not skipped.
    #[schemars(default, inner(length(min = 1)))]
    outputs: Vec<String>,
    /// Environment variables on top of those of the environment.
    #[schemars(default)]
    env: BTreeMap<String, String>,
}

/// What agents may do in environments that are lent to them. It can only tighten what the user allows.
#[derive(JsonSchema, serde::Serialize, Default)]
#[schemars(rename = "agent", deny_unknown_fields, rename_all = "kebab-case")]
#[serde(rename_all = "kebab-case")]
#[allow(dead_code, reason = "the fields are read by the derive")]
struct AgentTable {
    /// What they may reach: nothing, these host names (ports 80 and 443 unless one is stated), or whatever the machine reaches.
    network: Option<AgentNetwork>,
    /// Whether they may have packages beside those of the lock.
    packages: Option<bool>,
    /// Whether they may publish ports of environments on 127.0.0.1: at ports that are free, and at these.
    publish: Option<AgentPublish>,
    /// Memory of all processes of an environment together: a number and B, kB, MB, GB, TB, KiB, MiB, GiB or TiB.
    #[schemars(regex(pattern = SIZE))]
    memory: Option<String>,
    /// Processes and threads of an environment.
    #[schemars(range(min = 1, max = 1_000_000))]
    processes: Option<u32>,
    /// Processor time of an environment, in processors.
    #[schemars(range(min = 0.001, max = 1_000_000))]
    processors: Option<f64>,
    /// What an environment writes, as `memory`.
    #[schemars(regex(pattern = SIZE))]
    disk: Option<String>,
    /// How long an environment is lent: a number and ms, s, m or h.
    #[schemars(regex(pattern = DURATION))]
    time_to_live: Option<String>,
    /// Environments at a time.
    #[schemars(range(min = 1, max = 1_000_000))]
    environments: Option<u32>,
    /// The only ones of the user's secrets that may be used.
    #[schemars(inner(regex(pattern = r"^[A-Za-z_][A-Za-z0-9_]{0,63}$")))]
    secrets: Option<Vec<String>>,
    /// Paths whose changes are not applied, beside those that never are: names, at the top with a slash before them; * is any part.
    #[schemars(inner(regex(pattern = r"^/?[\x20-\x2e\x30-\x7e]+(/[\x20-\x2e\x30-\x7e]+)*$")))]
    protect: Option<Vec<String>>,
    /// Mechanisms of the machine, as `envd doctor` names them, without which nothing is lent.
    require: Option<Vec<String>>,
}

/// What may be published.
#[derive(JsonSchema, serde::Serialize)]
#[schemars(inline)]
#[serde(untagged)]
#[allow(dead_code, reason = "the variants are read by the derive")]
enum AgentPublish {
    /// Nothing, or at ports that are free.
    Whether(bool),
    /// At ports that are free, and at these.
    At(#[schemars(inner(range(min = 1, max = 65535)))] Vec<u16>),
}

/// What may be reached.
#[derive(JsonSchema, serde::Serialize)]
#[schemars(inline)]
#[serde(untagged)]
#[allow(dead_code, reason = "the variants are read by the derive")]
enum AgentNetwork {
    /// Nothing, or whatever the machine reaches.
    Word(AgentNetworkWord),
    /// These host names.
    Names(
        #[schemars(inner(regex(
            pattern = r"^(\*\.)?([A-Za-z0-9_-]+\.)+[A-Za-z0-9-]+(:[1-9][0-9]{0,4}(/tcp)?)?$"
        )))]
        Vec<String>,
    ),
}

#[derive(JsonSchema, serde::Serialize)]
#[schemars(inline)]
#[serde(rename_all = "kebab-case")]
#[allow(dead_code, reason = "the variants are read by the derive")]
enum AgentNetworkWord {
    None,
    Host,
}

/// What is run.
#[derive(JsonSchema, serde::Serialize)]
#[schemars(inline)]
#[serde(untagged)]
#[allow(dead_code, reason = "the variants are read by the derive")]
enum CommandLine {
    /// A line for /bin/sh.
    Shell(#[schemars(regex(pattern = r"\S"))] String),
    /// A program and its arguments.
    Exec(#[schemars(length(min = 1))] Vec<String>),
}

/// How a service shows that it can be used.
#[derive(JsonSchema, serde::Serialize)]
#[schemars(inline)]
#[serde(untagged)]
#[allow(dead_code, reason = "the variants are read by the derive")]
enum Ready {
    /// By having been started, by READY=1 on its notification socket, or by ending with status 0.
    Word(ReadyWord),
    /// By accepting connections on a port of the loopback interface.
    Tcp(ReadyTcp),
    /// By writing to a descriptor, or closing it.
    Descriptor(ReadyDescriptor),
    /// By the success of a command, tried again and again.
    Command(ReadyCommand),
}

impl Default for Ready {
    fn default() -> Self {
        Self::Word(ReadyWord::Started)
    }
}

#[derive(JsonSchema, serde::Serialize)]
#[schemars(inline)]
#[serde(rename_all = "kebab-case")]
#[allow(dead_code, reason = "the variants are read by the derive")]
enum ReadyWord {
    Started,
    Notify,
    Exit,
}

#[derive(JsonSchema, serde::Serialize)]
#[schemars(inline, deny_unknown_fields)]
#[allow(dead_code, reason = "the fields are read by the derive")]
struct ReadyTcp {
    /// The port, or "{port.NAME}" for a free one.
    tcp: Port,
}

#[derive(JsonSchema, serde::Serialize)]
#[schemars(inline)]
#[serde(untagged)]
#[allow(dead_code, reason = "the variants are read by the derive")]
enum Port {
    Number(#[schemars(range(min = 1, max = 65535))] u16),
    Free(#[schemars(regex(pattern = r"^\{port\.[A-Za-z0-9][A-Za-z0-9._-]{0,47}\}$"))] String),
}

#[derive(JsonSchema, serde::Serialize)]
#[schemars(inline, deny_unknown_fields)]
#[allow(dead_code, reason = "the fields are read by the derive")]
struct ReadyDescriptor {
    /// The descriptor's number.
    #[schemars(range(min = 3, max = super::service::DESCRIPTOR_MAX))]
    descriptor: u32,
}

#[derive(JsonSchema, serde::Serialize)]
#[schemars(inline, deny_unknown_fields)]
#[allow(dead_code, reason = "the fields are read by the derive")]
struct ReadyCommand {
    /// The command.
    command: CommandLine,
}

/// When a service is started again.
#[derive(JsonSchema, serde::Serialize, Default)]
#[schemars(inline)]
#[serde(rename_all = "kebab-case")]
#[allow(dead_code, reason = "the variants are read by the derive")]
enum Restart {
    /// Never.
    Never,
    /// When it has failed.
    #[default]
    OnFailure,
    /// Whenever it has ended.
    Always,
}

/// Suites whose index is accepted when locking though it has expired; true for all.
#[derive(JsonSchema, serde::Serialize)]
#[schemars(inline)]
#[serde(untagged)]
#[allow(dead_code, reason = "the variants are read by the derive")]
enum AcceptExpired {
    /// All, or none.
    Every(bool),
    /// These.
    Suites(Vec<String>),
}

impl Default for AcceptExpired {
    fn default() -> Self {
        Self::Every(false)
    }
}

/// What $HOME is inside.
#[derive(JsonSchema, serde::Serialize, Default)]
#[schemars(inline)]
#[serde(rename_all = "kebab-case")]
#[allow(dead_code, reason = "the variants are read by the derive")]
enum Home {
    /// A fresh directory with the tool caches that persist in the store.
    #[default]
    Private,
    /// The caller's own, readable; what is written is gone at the end.
    Host,
    /// A fresh directory and nothing else.
    Empty,
}

fn stop_signal() -> String {
    Signal::TERMINATE.to_string()
}

fn stop_timeout() -> String {
    format!("{}s", super::service::STOP_TIMEOUT.as_secs())
}

fn default_channels() -> Vec<String> {
    vec![super::manifest::DEFAULT_CHANNEL.to_owned()]
}

fn yes() -> bool {
    true
}

/// The schema.
pub fn schema() -> Schema {
    SchemaSettings::draft07()
        .with(|settings| settings.inline_subschemas = true)
        .into_generator()
        .into_root_schema_for::<Document>()
}
