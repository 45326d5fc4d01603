//! Commands: run to their end, or started, polled and signalled.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use super::{CommandId, EnvironmentId, excerpt::Excerpt};

/// What to execute.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum CommandLine {
    /// A line for `/bin/sh -c`.
    Shell(String),
    /// A program and its arguments, without a shell.
    Arguments(Vec<String>),
}

impl CommandLine {
    /// Program and arguments as they are executed. Empty only for an empty list of arguments.
    pub fn arguments(&self) -> Vec<String> {
        match self {
            Self::Shell(line) => vec!["/bin/sh".to_owned(), "-c".to_owned(), line.clone()],
            Self::Arguments(arguments) => arguments.clone(),
        }
    }
}

/// How a command is set up; the same for one that is waited for and for one that is not.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct CommandSetup {
    /// The environment in which it runs.
    pub environment: EnvironmentId,
    /// A string is run by /bin/sh -c; a list is a program with its arguments, run without a shell.
    pub command: CommandLine,
    /// Directory in which it starts; the default is the environment's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// Variables set for this command alone.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Names of secrets that the user keeps; each is put into the variable of its name, for this command alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<String>,
    /// Text for its standard input. Without it the input is empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdin: Option<String>,
    /// Seconds after which it is killed with all its descendants.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<u64>,
}

/// Run a command to its end.
// Unknown keys cannot be refused here: serde does not combine that with `flatten`. The server looks at the schema instead.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct CommandRun {
    /// What to run, where and how.
    #[serde(flatten)]
    pub setup: CommandSetup,
    /// Most bytes of each output in the answer, up to a million; the rest is left out in the middle and kept whole as a
    /// resource.
    #[serde(
        default = "default_output_bytes",
        deserialize_with = "at_most::<_, MOST_OUTPUT_BYTES>"
    )]
    pub output_bytes: u64,
}

/// Bytes of each output in an answer unless stated: about what fits a screen or two of a model's attention.
pub const DEFAULT_OUTPUT_BYTES: u64 = 16 * 1024;
/// Most bytes of each output in one answer.
pub const MOST_OUTPUT_BYTES: u64 = 1_000_000;
/// Longest wait of one poll, in seconds.
pub const MOST_WAIT_SECONDS: u64 = 600;

/// A number that is cut to the most there can be: asking for more is no mistake, and the answer says what it holds.
pub(super) fn at_most<'de, D: Deserializer<'de>, const MOST: u64>(
    deserializer: D,
) -> Result<u64, D::Error> {
    u64::deserialize(deserializer).map(|number| number.min(MOST))
}

fn default_output_bytes() -> u64 {
    DEFAULT_OUTPUT_BYTES
}

/// How a command stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It has not ended.
    Running,
    /// It ended by itself; `exit_code` says how.
    Exited,
    /// A signal ended it; `signal` says which.
    Signalled,
    /// It was killed because its time was over.
    TimedOut,
    /// It was killed because the environment's memory was used up.
    OutOfMemory,
    /// It was killed because the project's environments took more disk than they may, or the disk is nearly full.
    OutOfSpace,
}

/// How a command ended, or that it has not.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Status {
    /// How it stands.
    pub state: State,
    /// Its exit status, when it exited. Anything but 0 is the command's own verdict and not an error of the call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The signal that ended it, for instance `SIGSEGV`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<String>,
}

impl Status {
    /// It has not ended.
    pub const RUNNING: Self = Self {
        state: State::Running,
        exit_code: None,
        signal: None,
    };

    /// It ended by itself.
    pub fn exited(code: i32) -> Self {
        Self {
            state: State::Exited,
            exit_code: Some(code),
            signal: None,
        }
    }

    /// A signal ended it.
    pub fn signalled(name: impl Into<String>) -> Self {
        Self {
            state: State::Signalled,
            exit_code: None,
            signal: Some(name.into()),
        }
    }
}

/// A command that has ended.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct CommandEnded {
    /// Its handle: its output is kept under it until the environment is destroyed.
    pub command: CommandId,
    /// How it ended.
    #[serde(flatten)]
    pub status: Status,
    /// How long it ran, in milliseconds.
    pub duration_ms: u64,
    /// What it wrote to its standard output.
    pub stdout: Excerpt,
    /// What it wrote to its standard error.
    pub stderr: Excerpt,
    /// What to do about a command that a shell did not find.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// A terminal's size in characters.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TerminalSize {
    /// Lines.
    pub rows: u16,
    /// Columns.
    pub columns: u16,
}

/// Start a command and do not wait for it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct CommandStart {
    /// What to run, where and how.
    #[serde(flatten)]
    pub setup: CommandSetup,
    /// Whether its standard input stays open for command_signal to write to.
    #[serde(default)]
    pub keep_stdin_open: bool,
    /// Gives it a terminal of this size. Everything then comes out of stdout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminal: Option<TerminalSize>,
}

/// A command that was started.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct CommandStarted {
    /// Its handle, for command_poll and command_signal.
    pub command: CommandId,
    /// The environment in which it runs.
    pub environment: EnvironmentId,
}

/// See how a command stands and read its output from an offset.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CommandPoll {
    /// The command.
    pub command: CommandId,
    /// Where to begin in its standard output, in bytes: 0, or the next_offset of an earlier answer.
    #[serde(default)]
    pub stdout_offset: u64,
    /// Where to begin in its standard error, in bytes.
    #[serde(default)]
    pub stderr_offset: u64,
    /// Seconds to wait for more output or the end when there is none yet, up to 600.
    #[serde(default, deserialize_with = "at_most::<_, MOST_WAIT_SECONDS>")]
    pub wait_seconds: u64,
    /// Most bytes of each output in the answer, up to a million.
    #[serde(
        default = "default_output_bytes",
        deserialize_with = "at_most::<_, MOST_OUTPUT_BYTES>"
    )]
    pub output_bytes: u64,
}

/// A stretch of an output.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Stretch {
    /// The text; bytes that are not UTF-8 are replaced by U+FFFD.
    pub text: String,
    /// Where it begins, in bytes.
    pub offset: u64,
    /// Where to go on, in bytes.
    pub next_offset: u64,
    /// Bytes there are so far.
    pub total_bytes: u64,
}

/// How a command stands, and what it wrote since.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct CommandPolled {
    /// The command.
    pub command: CommandId,
    /// How it stands.
    #[serde(flatten)]
    pub status: Status,
    /// From its standard output.
    pub stdout: Stretch,
    /// From its standard error.
    pub stderr: Stretch,
}

/// A signal by name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Signal {
    /// Hang up.
    Hup,
    /// As Ctrl-C would.
    Int,
    /// As Ctrl-\ would.
    Quit,
    /// Kill, which cannot be caught. With all descendants.
    Kill,
    /// First user signal.
    Usr1,
    /// Second user signal.
    Usr2,
    /// Please end.
    Term,
    /// Stop until continued.
    Stop,
    /// Continue.
    Cont,
}

/// Write to a running command, resize its terminal, signal it: in this order, whatever is given.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CommandSignal {
    /// The command.
    pub command: CommandId,
    /// Text to write to its standard input, which must have been kept open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdin: Option<String>,
    /// Whether its standard input is to be closed (after writing).
    #[serde(default)]
    pub close_stdin: bool,
    /// A new size of its terminal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminal: Option<TerminalSize>,
    /// The signal to send to its process group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<Signal>,
}

/// What was done to a command.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct CommandSignalled {
    /// The command.
    pub command: CommandId,
    /// How it stood just afterwards.
    #[serde(flatten)]
    pub status: Status,
    /// Bytes written to its standard input.
    pub written_bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_string_goes_to_a_shell_and_a_list_does_not() {
        let shell: CommandLine = serde_json::from_str(r#""echo $HOME""#).expect("a string");
        assert_eq!(shell.arguments(), ["/bin/sh", "-c", "echo $HOME"]);
        let list: CommandLine = serde_json::from_str(r#"["echo", "$HOME"]"#).expect("a list");
        assert_eq!(list.arguments(), ["echo", "$HOME"]);
    }

    #[test]
    fn an_answer_never_grows_beyond_what_a_message_can_hold() {
        let command = CommandId::random();
        let poll: CommandPoll = serde_json::from_value(serde_json::json!({
            "command": command, "output_bytes": u64::MAX, "wait_seconds": u64::MAX,
        }))
        .expect("well-formed");
        assert_eq!(
            (poll.output_bytes, poll.wait_seconds),
            (MOST_OUTPUT_BYTES, MOST_WAIT_SECONDS)
        );
    }

    #[test]
    fn a_status_says_exactly_one_ending() {
        let json = serde_json::to_value(Status::exited(3)).expect("plain data");
        assert_eq!(json, serde_json::json!({"state": "exited", "exit_code": 3}));
        let json = serde_json::to_value(Status::signalled("SIGSEGV")).expect("plain data");
        assert_eq!(
            json,
            serde_json::json!({"state": "signalled", "signal": "SIGSEGV"})
        );
    }
}
