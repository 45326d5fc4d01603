//! What clients ask and are answered, other than to run something ([`super::order`]): PROTOCOL.md as types.

use std::{borrow::Cow, os::fd::OwnedFd};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    handing,
    packet::{LONGEST, Packet},
};
use crate::cli::{Failure, Kind};

/// Tag of packets with JSON in them, both ways.
pub const JSON: u32 = 64;
/// Tag of packets whose JSON is in a memfd, their last descriptor, because it is too long for a packet.
pub const JSON_IN_MEMORY: u32 = 67;
/// Bytes of JSON at most.
pub const LONGEST_JSON: u64 = 128 << 20;
/// The version of the protocol.
pub const VERSION: u32 = 1;

/// A question as it is sent.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Question {
    /// [`VERSION`].
    pub version: u32,
    /// The asking program's build, as hexadecimal digits.
    pub build: String,
    /// What is asked.
    #[serde(flatten)]
    pub request: Request,
}

/// What is asked.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case")]
pub enum Request {
    /// How the daemon is.
    Status,
    /// To end everything and itself.
    Stop {
        /// Only where nothing runs.
        #[serde(default)]
        if_idle: bool,
    },
    /// To get one environment ready for what is likely to be run next.
    Warm,
    /// An environment for several commands, as long as the connection.
    Open {
        /// Bits of [`super::order`]: what is inside.
        #[serde(default)]
        inside: u32,
    },
    /// To end one.
    Close {
        /// What `open` answered.
        handle: u64,
    },
    /// These services to be up, all where none is named; answered when they are, or cannot be.
    Up {
        /// Their names.
        #[serde(default)]
        services: Vec<String>,
    },
    /// These services to be down, all where none is named.
    Down {
        /// Their names.
        #[serde(default)]
        services: Vec<String>,
    },
    /// How the services are.
    Ps,
    /// What services write from now on, as events, until the client hangs up.
    Follow {
        /// Their names; all where none is named.
        #[serde(default)]
        services: Vec<String>,
        /// And so many lines before.
        #[serde(default)]
        lines: usize,
    },
    /// To limit the life of everything on this connection. A pidfd with it is the owner's.
    Lease {
        /// Milliseconds from now.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        time: Option<u64>,
    },
    /// Something of the environments that are lent to the command line: a method of [`envd_agents::service::Service`], or one of
    /// [`super::lending`]. The connection's end cancels it.
    Agent {
        /// Its name.
        method: String,
        /// What it is asked.
        #[serde(default)]
        arguments: Value,
    },
}

/// The answer to `agent`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lent {
    /// What the method answered.
    Answer(Value),
    /// Why it was not carried out.
    Failure(envd_agents::service::Failure),
}

/// An answer.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// What was asked for.
    Ok(Value),
    /// Why not.
    Error(Refusal),
    /// Something that happened meanwhile.
    Event(Event),
}

/// What happened meanwhile.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "kebab-case")]
pub enum Event {
    /// A part of the plan that this host cannot do.
    Downgrade {
        /// What, as people read it.
        message: String,
    },
    /// A service has come into another state.
    Service {
        /// Its name.
        service: String,
        /// The state, a word in lower case.
        state: String,
        /// Why.
        reason: String,
    },
    /// A service has written a line.
    Line {
        /// Its name.
        service: String,
        /// When.
        time: String,
        /// It is what envd says of the service.
        envd: bool,
        /// The line.
        text: String,
    },
    /// How far the work for an environment is.
    Step {
        /// What is done.
        message: String,
        /// How much of it.
        done: u64,
        /// Of how much.
        total: Option<u64>,
    },
    /// A command of an environment runs.
    Started {
        /// Its handle.
        command: envd_agents::service::CommandId,
    },
    /// The lease has ended, and with it everything on this connection.
    Ended {
        /// Why.
        why: Ending,
    },
}

/// Why a lease ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// Its time was over.
    Time,
    /// Its owner was gone.
    Owner,
    /// The daemon was stopped.
    Stop,
}

/// Why something was not done.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Refusal {
    /// For programs.
    pub kind: Reason,
    /// For people: what happened.
    pub message: String,
    /// What caused it, outermost first.
    #[serde(default)]
    pub causes: Vec<String>,
    /// What to do next.
    #[serde(default)]
    pub help: Option<String>,
}

/// What kind of refusal it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// The environment has to be realised first, by somebody who can show how far that is.
    NotRealised,
    /// Client and daemon are not of the same build.
    OtherVersion,
    /// It could not be understood. The connection is closed.
    Malformed,
    /// Something runs.
    Busy,
    /// The client is somebody else.
    Foreign,
    /// The environment is not there any more.
    Gone,
    /// The daemon has something to say first, and the client does not listen.
    Unheard,
    /// Its caller may do more than what the daemon starts.
    Beyond,
    /// What a command would have said.
    #[serde(untagged)]
    Failure(Kind),
}

impl Refusal {
    /// A refusal.
    pub fn new(kind: Reason, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            causes: Vec::new(),
            help: None,
        }
    }

    /// It could not be understood.
    pub fn malformed(message: impl Into<String>) -> Self {
        Self::new(Reason::Malformed, message)
    }
}

impl From<super::order::Malformed> for Refusal {
    fn from(malformed: super::order::Malformed) -> Self {
        Self::malformed(malformed.to_string())
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self {
            kind: Reason::Failure(failure.kind),
            message: failure.message,
            causes: failure.causes,
            help: failure.help,
        }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self {
            kind: match refusal.kind {
                Reason::Failure(kind) => kind,
                _ => Kind::Other,
            },
            message: refusal.message,
            causes: refusal.causes,
            help: refusal.help,
        }
    }
}

/// A packet with JSON in it.
pub fn packet(value: &impl Serialize) -> Vec<u8> {
    let mut bytes = JSON.to_ne_bytes().to_vec();
    // Only maps with keys that are no texts cannot be written, and there are none.
    let _ = serde_json::to_writer(&mut bytes, value);
    bytes
}

/// The JSON of a packet; `None` if it is none of this kind.
pub fn json<T: for<'p> Deserialize<'p>>(packet: &[u8]) -> Option<Result<T, serde_json::Error>> {
    let text = packet.strip_prefix(&JSON.to_ne_bytes())?;
    Some(serde_json::from_slice(text))
}

/// The same where the JSON may be in memory, whose descriptor is taken out.
pub fn json_of<T: for<'p> Deserialize<'p>>(packet: &mut Packet) -> Result<T, Unreadable> {
    if packet.bytes == JSON_IN_MEMORY.to_ne_bytes() {
        let text = handing::read_memory(packet.descriptors.pop(), LONGEST_JSON)?;
        return Ok(serde_json::from_slice(&text)?);
    }
    Ok(json(&packet.bytes).ok_or(Unreadable::Kind)??)
}

/// What no question and no answer can be read from.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// Another tag.
    #[error("a packet of an unknown kind")]
    Kind,
    /// It is said to be in memory.
    #[error("a packet that is not in memory: {0}")]
    Memory(#[from] std::io::Error),
    /// It is in another form.
    #[error("no question or answer: {0}")]
    Form(#[from] serde_json::Error),
}

/// A packet of [`packet`] as it can be sent: what is too long goes through memory, whose descriptor belongs to it.
pub fn fitting(packet: &[u8]) -> std::io::Result<(Cow<'_, [u8]>, Option<OwnedFd>)> {
    match packet.strip_prefix(&JSON.to_ne_bytes()) {
        Some(text) if packet.len() > LONGEST => Ok((
            Cow::Owned(JSON_IN_MEMORY.to_ne_bytes().to_vec()),
            Some(handing::in_memory(text)?),
        )),
        _ => Ok((Cow::Borrowed(packet), None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Other programs write these by hand, as PROTOCOL.md shows them.
    #[test]
    fn questions_and_answers_look_as_they_are_documented() {
        let text = r#"{"version":1,"build":"1f","request":"stop","if_idle":true}"#;
        let question: Question = serde_json::from_str(text).unwrap();
        assert_eq!(question.request, Request::Stop { if_idle: true });
        assert_eq!(serde_json::to_string(&question).unwrap(), text);
        let error = Answer::Error(Refusal::new(Reason::OtherVersion, "m"));
        assert_eq!(
            serde_json::to_string(&error).unwrap(),
            r#"{"error":{"kind":"other-version","message":"m","causes":[],"help":null}}"#
        );
        let event = Answer::Event(Event::Ended { why: Ending::Time });
        assert_eq!(
            serde_json::to_string(&event).unwrap(),
            r#"{"event":{"what":"ended","why":"time"}}"#
        );
    }

    #[test]
    fn what_is_too_long_for_a_packet_goes_through_memory() {
        let short = packet(&Answer::Ok(Value::from("a")));
        assert!(fitting(&short).unwrap().1.is_none());
        let text = "x".repeat(LONGEST);
        let long = packet(&Answer::Ok(Value::from(text.clone())));
        let (bytes, memory) = fitting(&long).unwrap();
        let mut received = Packet {
            bytes: bytes.into_owned(),
            descriptors: memory.into_iter().collect(),
            whole: true,
        };
        let answer: Answer = json_of(&mut received).unwrap();
        assert_eq!(answer, Answer::Ok(Value::from(text)));
        assert!(
            json_of::<Answer>(&mut received).is_err(),
            "it has no descriptor any more"
        );
    }

    #[test]
    fn a_failure_comes_through_as_it_was() {
        let failure = Failure {
            kind: Kind::Integrity,
            message: "a".into(),
            causes: vec!["b".into()],
            help: Some("c".into()),
        };
        let sent = packet(&Answer::Error(failure.clone().into()));
        let Some(Ok(Answer::Error(refusal))) = json(&sent) else {
            panic!("{sent:?}")
        };
        assert_eq!(Failure::from(refusal), failure);
    }
}
