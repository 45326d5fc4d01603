//! The project's daemon, asked for what it lends.

use std::{
    pin::Pin,
    sync::{Mutex, MutexGuard, PoisonError},
};

use envd_agents::service::{
    self, Answer, Call, CommandId, EnvironmentId, Owner, ResourceList, ResourceUri, SnapshotId,
    environment::{Environment, Environments, Snapshot},
    remote::{Channel, Remote},
};
use futures_util::FutureExt as _;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{
    super::{Context, Failure, Kind, operations::Operations},
    failure::{no_such, told},
};
use crate::{
    cli::handing_over::Handing,
    daemon::{
        Place,
        client::{Client, ClientError},
        lending,
        message::{Lent, Reason, Request},
    },
};

/// Characters of a handle from which on its beginning stands for it: `env_` and four digits, say.
const SHORTEST: usize = 8;

/// What the daemon lends, with a connection to ask it.
pub(super) struct Sessions {
    pub(super) place: Place,
    remote: Remote<Line>,
    call: Call,
}

/// What an operand stands for where it may be either.
pub(super) enum Which {
    Environment(EnvironmentId),
    Snapshot(SnapshotId),
}

/// A connection on which one question waits for its answer.
struct Line {
    client: Mutex<Client>,
    /// Why the last question has no answer, as the command line says it.
    failed: Mutex<Option<Failure>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Line {
    fn ask(&self, method: &str, arguments: Value) -> Result<Value, service::Failure> {
        let asked = lock(&self.client).ask(Request::Agent {
            method: method.to_owned(),
            arguments,
        });
        answer(asked).unwrap_or_else(|failure| {
            let message = failure.message.clone();
            *lock(&self.failed) = Some(failure);
            Err(service::Failure::Internal {
                step: "asking the daemon".to_owned(),
                reason: message,
            })
        })
    }
}

/// What the daemon made of a question about what it lends.
pub(super) fn answer(
    asked: Result<Value, ClientError>,
) -> Result<Result<Value, service::Failure>, Failure> {
    let value = match asked {
        Ok(value) => value,
        Err(ClientError::Refused(refusal)) if refusal.kind == Reason::OtherVersion => {
            let help = "`envd daemon stop` ends it and everything that it lends";
            return Err(Failure::new(Kind::Host, refusal.message).help(help));
        }
        Err(error) => return Err(error.into()),
    };
    match serde_json::from_value(value) {
        Ok(Lent::Answer(answer)) => Ok(Ok(answer)),
        Ok(Lent::Failure(failure)) => Ok(Err(failure)),
        Err(error) => Err(ClientError::Answer(error.to_string()).into()),
    }
}

impl Channel for Line {
    /// Blocks: there is nothing else to do meanwhile.
    fn exchange<'a>(
        &'a self,
        _: &'a Call,
        method: &'static str,
        request: Value,
    ) -> Answer<'a, Value> {
        Box::pin(async move { self.ask(method, request) })
    }

    fn release<'a>(&'a self, _: &'a Owner) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(async move { drop(self.ask(lending::RELEASE, Value::Null)) })
    }
}

impl Sessions {
    fn new(place: Place, client: Client) -> Self {
        Self {
            place,
            remote: Remote(Line {
                client: Mutex::new(client),
                failed: Mutex::default(),
            }),
            // The daemon knows who asks.
            call: Call::quiet(Owner::random()),
        }
    }

    /// What is lent; `None` where no daemon runs, and so nothing is.
    pub(super) fn existing(context: &Context) -> Result<Option<Self>, Failure> {
        let project = context.project()?;
        let place = Place::of(&context.settings, context.uid, &project.root);
        let client = Client::connect(&place)?;
        Ok(client.map(|client| Self::new(place, client)))
    }

    /// The same with a daemon that is started if need be.
    pub(super) fn started(context: &Context, operations: &dyn Operations) -> Result<Self, Failure> {
        let project = context.project()?;
        let place = Place::of(&context.settings, context.uid, &project.root);
        let handing = Handing::of_project(context, operations, &project, &place);
        let client = handing.connect_or_start()?;
        Ok(Self::new(place, client))
    }

    /// One of [`service::Service`]'s methods.
    pub(super) fn try_ask<T>(
        &self,
        ask: impl for<'a> FnOnce(&'a dyn service::Service, &'a Call) -> Answer<'a, T>,
    ) -> Result<Result<T, service::Failure>, Failure> {
        let answered = ask(&self.remote, &self.call).now_or_never();
        if let Some(failure) = lock(&self.remote.0.failed).take() {
            return Err(failure);
        }
        // The line blocks until there is an answer.
        answered.ok_or_else(|| Failure::from(ClientError::Ended))
    }

    /// The same where every failure ends the command.
    pub(super) fn ask<T>(
        &self,
        ask: impl for<'a> FnOnce(&'a dyn service::Service, &'a Call) -> Answer<'a, T>,
    ) -> Result<T, Failure> {
        self.try_ask(ask)?.map_err(|failure| told(&failure))
    }

    /// One of the command line's own methods.
    pub(super) fn ask_own<T: DeserializeOwned>(
        &self,
        method: &str,
        arguments: &impl serde::Serialize,
    ) -> Result<T, Failure> {
        let arguments =
            serde_json::to_value(arguments).map_err(|error| Failure::of(Kind::Other, &error))?;
        let asked = lock(&self.remote.0.client).ask(Request::Agent {
            method: method.to_owned(),
            arguments,
        });
        let value = answer(asked)?.map_err(|failure| told(&failure))?;
        serde_json::from_value(value).map_err(|error| ClientError::Answer(error.to_string()).into())
    }

    /// All there is.
    pub(super) fn list(&self) -> Result<Environments, Failure> {
        self.ask(|service, call| service.environment_list(call, Default::default()))
    }

    /// The environment of this name, handle, or beginning of a handle.
    pub(super) fn environment(&self, operand: &str) -> Result<Environment, Failure> {
        choose("environment", operand, self.list()?.environments, |one| {
            (one.environment.as_str(), one.name.as_deref())
        })
    }

    /// The same for a snapshot.
    pub(super) fn snapshot(&self, operand: &str) -> Result<Snapshot, Failure> {
        choose("snapshot", operand, self.list()?.snapshots, |one| {
            (one.snapshot.as_str(), one.name.as_deref())
        })
    }

    /// One of either.
    pub(super) fn environment_or_snapshot(&self, operand: &str) -> Result<Which, Failure> {
        let there = self.list()?;
        let environments = there.environments.into_iter().map(|one| {
            let id = one.environment.clone();
            (
                one.environment.to_string(),
                one.name,
                Which::Environment(id),
            )
        });
        let snapshots = there.snapshots.into_iter().map(|one| {
            let id = one.snapshot.clone();
            (one.snapshot.to_string(), one.name, Which::Snapshot(id))
        });
        let all = environments.chain(snapshots).collect();
        let kind = "environment or snapshot";
        let chosen = choose(
            kind,
            operand,
            all,
            |one: &(String, Option<String>, Which)| (one.0.as_str(), one.1.as_deref()),
        );
        chosen.map(|(_, _, which)| which)
    }

    /// The same for a command, which has no name.
    pub(super) fn command(&self, operand: &str) -> Result<CommandId, Failure> {
        if let Ok(command) = operand.parse() {
            return Ok(command);
        }
        let commands = self.commands()?;
        let commands = commands.into_iter().map(|(command, _)| command).collect();
        choose("command", operand, commands, |one: &CommandId| {
            (one.as_str(), None)
        })
    }

    /// All commands whose output is kept, with their words.
    pub(super) fn commands(&self) -> Result<Vec<(CommandId, String)>, Failure> {
        let kept = self.ask(|service, call| service.resource_list(call, ResourceList {}))?;
        let commands = kept.resources.into_iter().filter_map(|resource| {
            let ResourceUri::Output {
                command,
                stream: service::Stream::Stdout,
            } = resource.uri
            else {
                return None;
            };
            let title = resource.title;
            let words = title.strip_prefix("stdout of ").unwrap_or(&title);
            Some((command, words.to_owned()))
        });
        Ok(commands.collect())
    }
}

/// What is lent, where something must be: `kind` and `operand` say what is looked for.
pub(super) fn existing(context: &Context, kind: &str, operand: &str) -> Result<Sessions, Failure> {
    Sessions::existing(context)?.ok_or_else(|| no_such(kind, operand))
}

/// The one that an operand stands for. `known` tells the handle and the name of each.
fn choose<T>(
    kind: &str,
    operand: &str,
    all: Vec<T>,
    known: impl Fn(&T) -> (&str, Option<&str>),
) -> Result<T, Failure> {
    let exact = |one: &T| {
        let (handle, name) = known(one);
        handle == operand || name == Some(operand)
    };
    let begun = |one: &T| operand.len() >= SHORTEST && known(one).0.starts_with(operand);
    let exactly = all.iter().any(exact);
    let mut found: Vec<T> = all
        .into_iter()
        .filter(|one| if exactly { exact(one) } else { begun(one) })
        .collect();
    if found.len() > 1 {
        let handles: Vec<_> = found.iter().map(|one| known(one).0).collect();
        let message = format!("{operand} may be {}", handles.join(" or "));
        return Err(Failure::new(Kind::Usage, message).help("give more of the handle"));
    }
    found.pop().ok_or_else(|| no_such(kind, operand))
}

/// Words of a command line as the service takes them.
pub(super) fn utf8(words: &[std::ffi::OsString]) -> Result<Vec<String>, Failure> {
    let text = |word: &std::ffi::OsString| {
        word.to_str().map(str::to_owned).ok_or_else(|| {
            let message = format!("{} is not UTF-8", word.display());
            Failure::new(Kind::Usage, message)
                .help("commands of agents are texts: name it otherwise")
        })
    };
    words.iter().map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_or_a_handle_or_its_beginning_stands_for_one() {
        let all = || {
            vec![
                ("env_0123456789", Some("try")),
                ("env_0123999999", None),
                ("env_aaaa", Some("env_0123")),
            ]
        };
        let chosen =
            |operand: &str| choose("environment", operand, all(), |one| *one).map(|one| one.0);
        assert_eq!(chosen("try"), Ok("env_0123456789"));
        assert_eq!(chosen("env_01239"), Ok("env_0123999999"));
        assert_eq!(chosen("env_0123"), Ok("env_aaaa"), "exactly is first");
        assert!(chosen("env_aaa").is_err(), "too short");
        assert!(chosen("nothing").unwrap_err().message.contains("nothing"));
        let two = vec![("env_012345", None), ("env_012346", None)];
        let failure = choose("environment", "env_01234", two, |one| *one).unwrap_err();
        assert!(failure.message.contains("env_012345 or env_012346"));
    }
}
