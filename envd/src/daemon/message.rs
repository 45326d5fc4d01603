//! What clients ask and are answered, other than to run something ([`super::order`]): PROTOCOL.md as types.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::cli::{Failure, Kind};

/// Tag of packets with JSON in them, both ways.
pub const JSON: u32 = 64;
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
