//! The table of tools: name, what it tells a model, hints, schemas, and which method of the service it is.

use std::{pin::Pin, sync::LazyLock};

use rmcp::model::{JsonObject, Tool, ToolAnnotations};
use schemars::JsonSchema;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{schema, text::Tell};
use crate::service::{Answer, Call, Failure, ResourceUri, Service};

/// What a tool does to the world, so that a client knows what to ask its user about.
#[derive(Clone, Copy)]
enum Effect {
    /// Looks, and changes nothing.
    Looks,
    /// Adds something; nothing that was there is lost.
    Adds,
    /// The same, and a second call adds nothing more.
    AddsOnce,
    /// Something that was there may be lost.
    Loses,
    /// The same, and a second call changes nothing more.
    LosesOnce,
}

/// Whether something beyond the sandbox and the machine is reached.
#[derive(Clone, Copy, PartialEq)]
enum World {
    /// Everything happens in the sandbox and the project.
    Closed,
    /// Package archives, or whatever a command reaches over the network it was allowed.
    Open,
}

/// The result of a tool, in both forms.
pub struct Reply {
    /// For programs.
    pub structured: Value,
    /// For models.
    pub text: String,
    /// What is kept whole elsewhere because it is cut here.
    pub whole: Vec<ResourceUri>,
}

type Replying<'a> = Pin<Box<dyn Future<Output = Result<Reply, Failure>> + Send + 'a>>;
type Invoke =
    Box<dyn for<'a> Fn(&'a dyn Service, &'a Call, JsonObject) -> Replying<'a> + Send + Sync>;

/// A tool: what clients are told of it, and how to call it.
pub struct Entry {
    /// What clients are told.
    pub tool: Tool,
    invoke: Invoke,
}

impl Entry {
    /// Carries out a call. Dropping the future cancels it.
    pub fn call<'a>(
        &'a self,
        service: &'a dyn Service,
        call: &'a Call,
        arguments: JsonObject,
    ) -> Replying<'a> {
        (self.invoke)(service, call, arguments)
    }
}

/// The tool of that name.
pub fn find(name: &str) -> Option<&'static Entry> {
    TOOLS.iter().find(|entry| entry.tool.name == name)
}

/// All tools, in the order in which they are listed.
pub fn all() -> &'static [Entry] {
    &TOOLS
}

fn entry<Q, A>(
    name: &'static str,
    title: &'static str,
    (effect, world): (Effect, World),
    method: for<'a> fn(&'a (dyn Service + 'static), &'a Call, Q) -> Answer<'a, A>,
    description: &'static str,
) -> Entry
where
    Q: DeserializeOwned + JsonSchema + Send + 'static,
    A: Serialize + JsonSchema + Tell + Send + 'static,
{
    let (read_only, destructive, idempotent) = match effect {
        Effect::Looks => (true, false, true),
        Effect::Adds => (false, false, false),
        Effect::AddsOnce => (false, false, true),
        Effect::Loses => (false, true, false),
        Effect::LosesOnce => (false, true, true),
    };
    let request_schema = schema::of_request::<Q>();
    let known = request_schema.clone();
    let tool = Tool::new(name, description, request_schema)
        .with_title(title)
        .with_raw_output_schema(schema::of_answer::<A>())
        .with_annotations(
            ToolAnnotations::with_title(title)
                .read_only(read_only)
                .destructive(destructive)
                .idempotent(idempotent)
                .open_world(world == World::Open),
        );
    let invoke: Invoke = Box::new(move |service, call, arguments| {
        let request = parse::<Q>(arguments, &known);
        Box::pin(async move {
            let answer = method(service, call, request?).await?;
            Ok(Reply {
                text: answer.tell(),
                whole: answer.whole().into_iter().cloned().collect(),
                structured: serde_json::to_value(&answer).map_err(|error| Failure::Internal {
                    step: format!("writing the result of {name}"),
                    reason: error.to_string(),
                })?,
            })
        })
    });
    Entry { tool, invoke }
}

/// Arguments as the request's type, or a failure that names the argument at fault and what it should have been.
fn parse<Q: DeserializeOwned>(arguments: JsonObject, schema: &JsonObject) -> Result<Q, Failure> {
    let properties = schema.get("properties").and_then(Value::as_object);
    let known: Vec<&str> = properties
        .map(|properties| properties.keys().map(String::as_str).collect())
        .unwrap_or_default();
    if let Some(unknown) = arguments.keys().find(|key| !known.contains(&key.as_str())) {
        return Err(Failure::Invalid {
            field: unknown.clone(),
            problem: "there is no such argument".to_owned(),
            expected: if known.is_empty() {
                "no arguments".to_owned()
            } else {
                format!("only these: {}", known.join(", "))
            },
        });
    }
    let problem = match serde_json::from_value::<Q>(Value::Object(arguments.clone())) {
        Ok(request) => return Ok(request),
        Err(error) => error.to_string(),
    };
    // The argument at fault is the one without which the problem is another.
    let culprit = arguments.keys().find(|key| {
        let mut rest = arguments.clone();
        rest.remove(*key);
        serde_json::from_value::<Q>(Value::Object(rest))
            .err()
            .is_none_or(|error| error.to_string() != problem)
    });
    let described = culprit
        .and_then(|key| properties?.get(key)?.get("description")?.as_str())
        .map(|description| format!("this in its place: {description}"));
    Err(Failure::Invalid {
        field: culprit.cloned().unwrap_or_else(|| "arguments".to_owned()),
        problem,
        expected: described.unwrap_or_else(|| "all required arguments".to_owned()),
    })
}

static TOOLS: LazyLock<Vec<Entry>> = LazyLock::new(|| {
    use Effect::{Adds, AddsOnce, Looks, Loses, LosesOnce};
    use World::{Closed, Open};
    vec![
        entry(
            "environment_create",
            "Create an environment",
            (Adds, Open),
            <dyn Service>::environment_create,
            "Get a throwaway environment with exact toolchains: the project's own, or a list of packages, or none. \
             The project's files are in it at their usual path and can be changed freely; nothing outside changes before \
             changes_apply. It is destroyed with this session at the latest.",
        ),
        entry(
            "environment_list",
            "List environments",
            (Looks, Closed),
            <dyn Service>::environment_list,
            "List the environments that this session was lent.",
        ),
        entry(
            "environment_destroy",
            "Destroy an environment",
            (LosesOnce, Closed),
            <dyn Service>::environment_destroy,
            "Destroy an environment with its processes, files and kept outputs. Changes that were not applied are lost.",
        ),
        entry(
            "environment_fork",
            "Fork an environment",
            (Adds, Closed),
            <dyn Service>::environment_fork,
            "Make copies of an environment that share everything until they change it, to try several things at once. \
             Costs next to nothing, or a copy of the changed files while commands run in it. Running commands are not copied.",
        ),
        entry(
            "environment_snapshot",
            "Snapshot an environment",
            (Adds, Closed),
            <dyn Service>::environment_snapshot,
            "Freeze an environment's files, to come back to them with environment_restore.",
        ),
        entry(
            "environment_restore",
            "Restore a snapshot",
            (Loses, Closed),
            <dyn Service>::environment_restore,
            "Put an environment's files back as they were in a snapshot (its running commands are killed and later changes \
             lost), or make a new environment from it.",
        ),
        entry(
            "command_run",
            "Run a command",
            (Loses, Open),
            <dyn Service>::command_run,
            "Run a command in an environment and wait for its end. An exit code other than 0 is an ordinary result. Long \
             output is cut in the middle and kept whole: read more with command_poll, search it with file_search. For \
             servers and long work use command_start.",
        ),
        entry(
            "command_start",
            "Start a command",
            (Loses, Open),
            <dyn Service>::command_start,
            "Start a command in an environment without waiting for it. Follow it with command_poll, write to it or end it \
             with command_signal.",
        ),
        entry(
            "command_poll",
            "Follow a command",
            (Looks, Closed),
            <dyn Service>::command_poll,
            "See whether a command has ended and read its output from an offset, waiting a while if there is none yet. Works \
             for commands that have ended, too.",
        ),
        entry(
            "command_signal",
            "Signal a command",
            (Loses, Closed),
            <dyn Service>::command_signal,
            "Write to a running command's standard input, close it, resize its terminal or send it a signal.",
        ),
        entry(
            "file_read",
            "Read a file",
            (Looks, Closed),
            <dyn Service>::file_read,
            "Read a file of an environment, whole or some of its lines.",
        ),
        entry(
            "file_write",
            "Write a file",
            (LosesOnce, Closed),
            <dyn Service>::file_write,
            "Write a file of an environment whole. Directories above it are made.",
        ),
        entry(
            "file_edit",
            "Edit a file",
            (Loses, Closed),
            <dyn Service>::file_edit,
            "Replace text in a file of an environment: each old text must be there exactly once, or all is true. All edits are \
             made or none.",
        ),
        entry(
            "file_list",
            "List a directory",
            (Looks, Closed),
            <dyn Service>::file_list,
            "List a directory of an environment.",
        ),
        entry(
            "file_search",
            "Search files",
            (Looks, Closed),
            <dyn Service>::file_search,
            "Search the files of an environment, or the kept output of a command, for a regular expression.",
        ),
        entry(
            "changes_diff",
            "See changes",
            (Looks, Closed),
            <dyn Service>::changes_diff,
            "See what an environment changed in its project: a list of paths and a unified diff.",
        ),
        entry(
            "changes_apply",
            "Apply changes",
            (LosesOnce, Closed),
            <dyn Service>::changes_apply,
            "Bring an environment's changes into the project outside: all that was asked for, or nothing and the reasons. Paths \
             that could act on the user's machine (hooks, agent settings, continuous integration) need the user.",
        ),
        entry(
            "package_search",
            "Search packages",
            (Looks, Open),
            <dyn Service>::package_search,
            "Find packages by words of their name or description, or by a command that they bring.",
        ),
        entry(
            "package_add",
            "Add packages",
            (AddsOnce, Open),
            <dyn Service>::package_add,
            "Give a live environment more packages. Its files stay, and what runs in it goes on and finds them, too.",
        ),
        entry(
            "port_publish",
            "Publish a port",
            (AddsOnce, Closed),
            <dyn Service>::port_publish,
            "Let the user's machine reach a server that listens on the loopback of an environment (127.0.0.1, ::1 or all \
             addresses inside), at a port of 127.0.0.1 outside, which is in the answer. Start the server with command_start. \
             It ends with the environment. Forks have none.",
        ),
        entry(
            "port_withdraw",
            "Withdraw a port",
            (LosesOnce, Closed),
            <dyn Service>::port_withdraw,
            "Publish a port no more. Connections to it end; what listens inside goes on.",
        ),
    ]
});

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::{EnvironmentId, command::CommandRun};

    #[test]
    fn every_tool_says_all_that_clients_ask_before_they_call_it() {
        assert_eq!(all().len(), 21);
        for Entry { tool, .. } in all() {
            let name = &tool.name;
            let annotations = tool.annotations.as_ref().expect("annotations");
            for (hint, value) in [
                ("readOnly", annotations.read_only_hint),
                ("destructive", annotations.destructive_hint),
                ("idempotent", annotations.idempotent_hint),
                ("openWorld", annotations.open_world_hint),
            ] {
                assert!(value.is_some(), "{name} has no {hint}Hint");
            }
            assert!(
                annotations.read_only_hint != Some(true)
                    || annotations.destructive_hint == Some(false),
                "{name} only looks and yet destroys"
            );
            let output = tool.output_schema.as_ref().expect("an output schema");
            assert_eq!(output["type"], "object", "{name}");
            assert_eq!(tool.input_schema["type"], "object", "{name}");
            let properties = tool.input_schema["properties"].as_object().expect(name);
            for (key, property) in properties {
                assert!(
                    property.get("description").is_some(),
                    "{name}: {key} is not described"
                );
            }
        }
    }

    fn refused(arguments: Value) -> (String, String) {
        let Value::Object(arguments) = arguments else {
            panic!("arguments are an object");
        };
        let schema = schema::of_request::<CommandRun>();
        match parse::<CommandRun>(arguments, &schema) {
            Err(Failure::Invalid {
                field, expected, ..
            }) => (field, expected),
            other => panic!("expected a refusal, got {other:?}"),
        }
    }

    #[test]
    fn a_wrong_argument_is_named_with_what_it_should_have_been() {
        let environment = EnvironmentId::random();
        let (field, expected) =
            refused(serde_json::json!({"environment": environment, "command": 5}));
        assert_eq!(field, "command");
        assert!(expected.contains("/bin/sh"), "{expected}");
        let (field, _) = refused(
            serde_json::json!({"environment": environment, "command": "ls", "timeout_seconds": "5"}),
        );
        assert_eq!(field, "timeout_seconds");
        let (field, _) = refused(serde_json::json!({"environment": "env_1", "command": "ls"}));
        assert_eq!(field, "environment");
    }

    #[test]
    fn an_unknown_argument_is_refused_with_the_known_ones() {
        let environment = EnvironmentId::random();
        let (field, expected) =
            refused(serde_json::json!({"environment": environment, "command": "ls", "timeout": 5}));
        assert_eq!(field, "timeout");
        assert!(expected.contains("timeout_seconds"), "{expected}");
    }
}
