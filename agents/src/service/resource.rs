//! Resources: whole outputs and diffs, by address.

use std::{borrow::Cow, fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{CommandId, EnvironmentId};

/// Which output of a command.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Stream {
    /// Its standard output.
    Stdout,
    /// Its standard error.
    Stderr,
}

impl Stream {
    /// As it stands in an address.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// The address of something that is kept whole.
///
/// `envd://commands/CMD/stdout`, `envd://commands/CMD/stderr`, `envd://environments/ENV/changes.diff`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum ResourceUri {
    /// All that a command wrote so far.
    Output {
        /// The command.
        command: CommandId,
        /// Which output.
        stream: Stream,
    },
    /// The unified diff of what an environment has changed, as it is when it is read.
    Changes {
        /// The environment.
        environment: EnvironmentId,
    },
}

/// Address templates, for clients that fill them in themselves.
pub const TEMPLATES: [(&str, &str, &str); 2] = [
    (
        "envd://commands/{command}/{stream}{?offset}",
        "command-output",
        "Whole output of a command: stream is stdout or stderr, offset is where to begin in bytes.",
    ),
    (
        "envd://environments/{environment}/changes.diff{?offset}",
        "changes",
        "Unified diff of everything an environment has changed in its project.",
    ),
];

/// A text that is no address of ours.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0:?} is not the address of an output or a diff of envd")]
pub struct NotAResource(String);

impl fmt::Display for ResourceUri {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Output { command, stream } => {
                write!(formatter, "envd://commands/{command}/{}", stream.name())
            }
            Self::Changes { environment } => {
                write!(formatter, "envd://environments/{environment}/changes.diff")
            }
        }
    }
}

impl FromStr for ResourceUri {
    type Err = NotAResource;

    fn from_str(text: &str) -> Result<Self, NotAResource> {
        let refused = || NotAResource(text.chars().take(200).collect());
        let path = text.strip_prefix("envd://").ok_or_else(refused)?;
        match path.split('/').collect::<Vec<_>>()[..] {
            ["commands", command, stream] => Ok(Self::Output {
                command: command.parse().map_err(|_| refused())?,
                stream: match stream {
                    "stdout" => Stream::Stdout,
                    "stderr" => Stream::Stderr,
                    _ => return Err(refused()),
                },
            }),
            ["environments", environment, "changes.diff"] => Ok(Self::Changes {
                environment: environment.parse().map_err(|_| refused())?,
            }),
            _ => Err(refused()),
        }
    }
}

impl Serialize for ResourceUri {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ResourceUri {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for ResourceUri {
    fn schema_name() -> Cow<'static, str> {
        "ResourceUri".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "format": "uri"})
    }
}

/// Something that is kept whole, for a list.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Resource {
    /// Its address.
    pub uri: ResourceUri,
    /// One line for people: the command, or the environment's name.
    pub title: String,
    /// Bytes in it now, when that is known without reading it.
    pub size_bytes: Option<u64>,
}

/// List what is kept whole for this owner.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ResourceList {}

/// What is kept whole for this owner.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Resources {
    /// The resources.
    pub resources: Vec<Resource>,
}

/// Read a stretch of a resource.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ResourceRead {
    /// Its address.
    pub uri: ResourceUri,
    /// Where to begin, in bytes.
    pub offset: u64,
    /// Most bytes in the answer.
    pub limit: u64,
}

/// A stretch of a resource.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ResourceStretch {
    /// The bytes, at most as many as were asked for; in JSON as base64.
    #[serde(with = "base64")]
    pub bytes: Vec<u8>,
    /// Bytes there are in all.
    pub total_bytes: u64,
}

/// Bytes as base64.
mod base64 {
    use ::base64::{Engine, engine::general_purpose::STANDARD};
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_back_as_it_was_written() {
        for uri in [
            ResourceUri::Output {
                command: CommandId::random(),
                stream: Stream::Stderr,
            },
            ResourceUri::Changes {
                environment: EnvironmentId::random(),
            },
        ] {
            assert_eq!(uri.to_string().parse(), Ok(uri));
        }
    }

    #[test]
    fn an_address_cannot_name_anything_else() {
        let command = CommandId::random();
        for text in [
            "file:///etc/passwd".to_owned(),
            "envd://commands/../../etc/passwd".to_owned(),
            format!("envd://commands/{command}/stdout/.."),
            format!("envd://commands/{command}/stdin"),
            format!("envd://environments/{command}/changes.diff"),
            String::new(),
        ] {
            assert!(text.parse::<ResourceUri>().is_err(), "{text}");
        }
    }
}
