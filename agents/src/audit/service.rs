//! A service that records what another does.

use std::{
    collections::BTreeMap,
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Instant, SystemTime},
};

use serde::Serialize;
use serde_json::Value;

use super::{Log, Record, Refused, digest, timestamp};
use crate::{
    secret::Keyring,
    service::{
        Answer, Call, EnvironmentId, Failure, Owner, ResourceList, ResourceRead, ResourceStretch,
        Resources, Service,
        changes::{Changes, ChangesApplied, ChangesApply, ChangesDiff},
        command::{
            CommandEnded, CommandPoll, CommandPolled, CommandRun, CommandSignal, CommandSignalled,
            CommandStart, CommandStarted,
        },
        environment::{
            Environment, EnvironmentCreate, EnvironmentDestroy, EnvironmentDestroyed,
            EnvironmentFork, EnvironmentList, EnvironmentRestore, EnvironmentSnapshot,
            Environments, Snapshot,
        },
        file::{
            FileContent, FileEdit, FileEdited, FileEntries, FileList, FileMatches, FileRead,
            FileSearch, FileWrite, FileWritten,
        },
        package::{PackageAdd, PackageSearch, Packages, PackagesAdded},
        port::{PortPublish, PortPublished, PortWithdraw, PortWithdrawn},
    },
};

/// Characters of a line for people.
const MOST_TEXT: usize = 200;

/// Whose refusals are asked for.
#[derive(Clone, Copy, Debug)]
pub enum Whose<'a> {
    /// Those of an environment.
    Environment(&'a EnvironmentId),
    /// Those of all environments of an owner.
    Owner(&'a Owner),
}

/// Knows what proxies refused.
pub trait Denials: Send + Sync {
    /// What was refused since this was last asked.
    fn take(&self, whose: Whose<'_>) -> Vec<Refused>;
}

/// What a call does to the world.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Effect {
    /// It starts something. Not while nobody takes note.
    Begins,
    /// It looks, saves or ends what is there. A full disk must not keep an agent from bringing its work home.
    Goes,
}

/// Records every call to a service.
pub struct Audited<S> {
    service: Arc<S>,
    log: Arc<Log>,
    denials: Arc<dyn Denials>,
    keyring: Arc<Keyring>,
    /// The environments of commands.
    commands: Mutex<BTreeMap<String, (Owner, EnvironmentId)>>,
}

impl<S> fmt::Debug for Audited<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Audited")
            .field("log", &self.log)
            .finish_non_exhaustive()
    }
}

/// A call that is being carried out. However it ends, it is recorded.
struct Pending<'a, S> {
    audited: &'a Audited<S>,
    began: Instant,
    owner: Owner,
    environment: Option<EnvironmentId>,
    record: Record,
    written: bool,
}

impl<S> Audited<S> {
    /// Records calls to `service` in `log`. Values of `keyring` are not in what it writes.
    pub fn new(
        service: Arc<S>,
        log: Arc<Log>,
        denials: Arc<dyn Denials>,
        keyring: Arc<Keyring>,
    ) -> Self {
        Self {
            service,
            log,
            denials,
            keyring,
            commands: Mutex::default(),
        }
    }

    /// Carries out something that is not a method of the trait, and records it as one. `begins`: whether it starts something.
    pub async fn observe<T: Serialize>(
        &self,
        call: &Call,
        method: &str,
        request: &impl Serialize,
        begins: bool,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let effect = if begins { Effect::Begins } else { Effect::Goes };
        let pending = self.begin(call, method, request, effect)?;
        let answer = work.await;
        pending.end(&answer);
        answer
    }

    fn begin(
        &self,
        call: &Call,
        method: &str,
        request: &impl Serialize,
        effect: Effect,
    ) -> Result<Pending<'_, S>, Failure> {
        let request = serde_json::to_value(request).unwrap_or_default();
        let environment = self.environment(&request);
        // What is typed into a shell is as good as a command.
        let begins = effect == Effect::Begins || request["stdin"].is_string();
        if begins && self.log.lost() > 0 {
            let resumed = Record {
                method: "audit_resumed".to_owned(),
                verdict: "ok".to_owned(),
                request: digest::of(&Value::Null),
                ..self.record(call)
            };
            self.log.write(&resumed).map_err(|error| Failure::Internal {
                step: "recording calls".to_owned(),
                reason: format!(
                    "the audit in the store cannot be written ({error}), so nothing new is begun. Space on its disk has to be freed. \
                     What is there can still be looked at, applied and destroyed"
                ),
            })?;
        }
        Ok(Pending {
            audited: self,
            began: Instant::now(),
            record: Record {
                method: method.to_owned(),
                environment: environment.as_ref().map(ToString::to_string),
                subject: subject(&request).map(|text| self.shown(&text)),
                secrets: texts(&request["secrets"]),
                request: digest::of(&request),
                verdict: "cancelled".to_owned(),
                // Afterwards it may be gone.
                refused: self.refused(environment.as_ref()),
                ..self.record(call)
            },
            owner: call.owner.clone(),
            environment,
            written: false,
        })
    }

    fn record(&self, call: &Call) -> Record {
        Record {
            time: timestamp(SystemTime::now()),
            process: std::process::id(),
            owner: digest::short(call.owner.as_str()),
            client: call.client.clone(),
            ..Record::default()
        }
    }

    fn refused(&self, environment: Option<&EnvironmentId>) -> Vec<Refused> {
        environment.map_or_else(Vec::new, |id| self.denials.take(Whose::Environment(id)))
    }

    fn environment(&self, request: &Value) -> Option<EnvironmentId> {
        if let Some(id) = request["environment"].as_str() {
            return id.parse().ok();
        }
        let uri = request["uri"].as_str().unwrap_or_default();
        let command = request["command"]
            .as_str()
            .or_else(|| uri.split('/').find(|part| part.starts_with("cmd_")))?;
        self.commands()
            .get(command)
            .map(|(_, environment)| environment.clone())
    }

    /// A text for a line: cut, on one line, without secrets.
    fn shown(&self, text: &str) -> String {
        let mut text = text.to_owned();
        self.keyring.patterns().scrub_text(&mut text);
        let first = text.trim_start().lines().next().unwrap_or_default();
        let cut: String = first.chars().take(MOST_TEXT).collect();
        if cut.len() < text.trim().len() {
            cut + "…"
        } else {
            cut
        }
    }
}

/// What a request is about, in a line.
fn subject(request: &Value) -> Option<String> {
    let joined = |value: &Value, separator: &str| {
        Some(texts(value).join(separator)).filter(|all| !all.is_empty())
    };
    let text = |key: &str| request[key].as_str().map(str::to_owned);
    // `command` is a line, a list of words, or the handle of one that runs.
    text("path")
        .or_else(|| joined(&request["command"], " "))
        .or_else(|| text("command"))
        .or_else(|| joined(&request["packages"], " "))
        .or_else(|| joined(&request["from"]["packages"], " "))
        .or_else(|| text("query"))
        .or_else(|| text("snapshot"))
        .or_else(|| text("uri"))
        .or_else(|| text("project"))
        .or_else(|| joined(&request["paths"], " "))
        .or_else(|| ports(request))
}

/// The port inside, and the one outside where one was asked for.
fn ports(request: &Value) -> Option<String> {
    let inside = request["port"].as_u64()?;
    Some(match request["outside"].as_u64() {
        Some(outside) => format!("{outside}:{inside}"),
        None => inside.to_string(),
    })
}

fn texts(value: &Value) -> Vec<String> {
    let all = value.as_array().into_iter().flatten();
    all.filter_map(|one| one.as_str().map(str::to_owned))
        .collect()
}

impl<S> Pending<'_, S> {
    fn end<T: Serialize>(mut self, answer: &Result<T, Failure>) {
        self.note(answer);
        // Whoever needs to know is told by the log; the call has been carried out.
        let _ = self.write();
    }

    fn note<T: Serialize>(&mut self, answer: &Result<T, Failure>) {
        let value = match answer {
            Ok(answer) => serde_json::to_value(answer),
            Err(failure) => serde_json::to_value(failure),
        };
        let value = value.unwrap_or_default();
        let record = &mut self.record;
        record.answer = Some(digest::of(&value));
        match answer {
            Ok(_) => record.verdict = "ok".to_owned(),
            Err(failure) => {
                record.verdict = value["code"].as_str().unwrap_or("failure").to_owned();
                record.failure = Some(self.audited.shown(&failure.to_string()));
            }
        }
        if let Err(Failure::LimitReached { limit, .. }) = answer {
            record.limits.push(limit.clone());
        }
        if let Some(state @ ("timed_out" | "out_of_memory" | "out_of_space")) =
            value["state"].as_str()
        {
            record.limits.push(state.to_owned());
        }
        let mut made: Vec<EnvironmentId> = Vec::new();
        if answer.is_ok() {
            let one = [&value["environment"]].into_iter();
            let several = value["environments"].as_array().into_iter().flatten();
            let all = one.chain(several.map(|one| &one["environment"]));
            made.extend(all.filter_map(|id| id.as_str()?.parse().ok()));
        }
        match &*record.method {
            "environment_create" | "environment_restore" => {
                self.environment = made.pop();
                record.environment = self.environment.as_ref().map(ToString::to_string);
            }
            "environment_fork" => record.made = made.iter().map(ToString::to_string).collect(),
            "environment_destroy" => {
                if let (Ok(_), Some(gone)) = (answer, &self.environment) {
                    let mut commands = self.audited.commands();
                    commands.retain(|_, (_, environment)| environment != gone);
                }
            }
            method if method.starts_with("command_") => {
                if let (Some(command), Some(environment)) =
                    (value["command"].as_str(), &self.environment)
                {
                    let of = (self.owner.clone(), environment.clone());
                    self.audited.commands().insert(command.to_owned(), of);
                }
            }
            _ => {}
        }
    }

    fn write(&mut self) -> std::io::Result<()> {
        self.written = true;
        let elapsed = self.began.elapsed().as_micros();
        self.record.microseconds = u64::try_from(elapsed).unwrap_or(u64::MAX);
        let more = self.audited.refused(self.environment.as_ref());
        self.record.refused.extend(more);
        self.audited.log.write(&self.record)
    }
}

impl<S> Drop for Pending<'_, S> {
    fn drop(&mut self) {
        if !self.written {
            let _ = self.write();
        }
    }
}

impl<S> Audited<S> {
    fn commands(&self) -> MutexGuard<'_, BTreeMap<String, (Owner, EnvironmentId)>> {
        self.commands.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

macro_rules! methods {
    ($($method:ident: $request:ty => $answer:ty, $effect:ident;)*) => {
        impl<S: Service> Service for Audited<S> {
            $(fn $method<'a>(&'a self, call: &'a Call, request: $request) -> Answer<'a, $answer> {
                Box::pin(async move {
                    let pending = self.begin(call, stringify!($method), &request, Effect::$effect)?;
                    let answer = self.service.$method(call, request).await;
                    pending.end(&answer);
                    answer
                })
            })*

            fn release<'a>(
                &'a self,
                owner: &'a Owner,
            ) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
                Box::pin(async move {
                    let call = Call::quiet(owner.clone());
                    let pending = self.begin(&call, "release", &Value::Null, Effect::Goes);
                    let refused = self.denials.take(Whose::Owner(owner));
                    self.service.release(owner).await;
                    self.commands().retain(|_, (of, _)| of != owner);
                    if let Ok(mut pending) = pending {
                        pending.record.refused.extend(refused);
                        pending.end(&Ok(Value::Null));
                    }
                })
            }
        }
    };
}

methods! {
    environment_create: EnvironmentCreate => Environment, Begins;
    environment_list: EnvironmentList => Environments, Goes;
    environment_destroy: EnvironmentDestroy => EnvironmentDestroyed, Goes;
    environment_fork: EnvironmentFork => Environments, Begins;
    environment_snapshot: EnvironmentSnapshot => Snapshot, Goes;
    environment_restore: EnvironmentRestore => Environment, Begins;
    command_run: CommandRun => CommandEnded, Begins;
    command_start: CommandStart => CommandStarted, Begins;
    command_poll: CommandPoll => CommandPolled, Goes;
    command_signal: CommandSignal => CommandSignalled, Goes;
    file_read: FileRead => FileContent, Goes;
    file_write: FileWrite => FileWritten, Begins;
    file_edit: FileEdit => FileEdited, Begins;
    file_list: FileList => FileEntries, Goes;
    file_search: FileSearch => FileMatches, Goes;
    changes_diff: ChangesDiff => Changes, Goes;
    changes_apply: ChangesApply => ChangesApplied, Goes;
    package_search: PackageSearch => Packages, Begins;
    package_add: PackageAdd => PackagesAdded, Begins;
    port_publish: PortPublish => PortPublished, Begins;
    port_withdraw: PortWithdraw => PortWithdrawn, Goes;
    resource_list: ResourceList => Resources, Goes;
    resource_read: ResourceRead => ResourceStretch, Goes;
}
