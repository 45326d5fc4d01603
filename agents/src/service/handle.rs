//! Handles: opaque names that only their maker and who was told can know.
//!
//! A handle is a prefix and 128 random bits, so that a sandbox, a sibling or another user cannot guess one. It is checked
//! when it is read: a value of these types has the right form, though nothing may live behind it any more.

use std::{borrow::Cow, fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize};

/// Hexadecimal digits in a handle, of four bits each.
const DIGITS: usize = 32;

/// A text that is no handle of the expected kind.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "{given:?} is not a handle of this kind: expected {prefix}_ and {DIGITS} hexadecimal digits, as given by {source_tool}"
)]
pub struct NotAHandle {
    given: String,
    prefix: &'static str,
    source_tool: &'static str,
}

/// `bytes` random bytes as hexadecimal digits.
pub(crate) fn random_hexadecimal(bytes: usize) -> String {
    let mut buffer = vec![0_u8; bytes];
    let mut filled = 0;
    while filled < bytes {
        // Interrupted calls are the only failure that Linux knows once it is up, and they are worth another try.
        if let Ok(more) =
            rustix::rand::getrandom(&mut buffer[filled..], rustix::rand::GetRandomFlags::empty())
        {
            filled += more;
        }
    }
    hex::encode(buffer)
}

fn has_form(text: &str, prefix: &str) -> bool {
    text.strip_prefix(prefix)
        .and_then(|rest| rest.strip_prefix('_'))
        .is_some_and(|digits| {
            digits.len() == DIGITS
                && digits
                    .bytes()
                    .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        })
}

macro_rules! handles {
    ($($(#[$documentation:meta])* $name:ident = $prefix:literal from $tool:literal;)*) => {$(
        $(#[$documentation])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// A new one that nobody can guess.
            pub fn random() -> Self {
                Self(format!("{}_{}", $prefix, random_hexadecimal(DIGITS / 2)))
            }

            /// The text that `FromStr` reads back.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NotAHandle;

            fn from_str(text: &str) -> Result<Self, NotAHandle> {
                if has_form(text, $prefix) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(NotAHandle {
                        given: text.chars().take(80).collect(),
                        prefix: $prefix,
                        source_tool: $tool,
                    })
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({
                    "type": "string",
                    "pattern": format!("^{}_[0-9a-f]{{{DIGITS}}}$", $prefix),
                })
            }
        }
    )*};
}

handles! {
    /// A lent environment.
    EnvironmentId = "env" from "environment_create";
    /// A command that was started in an environment.
    CommandId = "cmd" from "command_start";
    /// The frozen files of an environment.
    SnapshotId = "snap" from "environment_snapshot";
    /// Who was lent something: a connection, or the holder of a token. Never leaves the server and the daemon.
    Owner = "own" from "the connection";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_is_read_back_as_it_was_written() {
        let id = EnvironmentId::random();
        assert_eq!(id.to_string().parse(), Ok(id.clone()));
        let text = serde_json::to_string(&id).expect("a handle is a string");
        assert_eq!(
            serde_json::from_str::<EnvironmentId>(&text).expect("it was written so"),
            id
        );
    }

    #[test]
    fn no_two_are_alike() {
        assert_ne!(CommandId::random(), CommandId::random());
    }

    #[test]
    fn what_is_not_a_handle_never_becomes_one() {
        let command = CommandId::random();
        for text in [
            "",
            "env_",
            "env_0123",
            "env_0123456789abcdef0123456789ABCDEF",
            "env_0123456789abcdef0123456789abcdef0",
            "../env_0123456789abcdef0123456789abcdef",
            "env_0123456789abcdef0123456789abcde\n",
            command.as_str(),
        ] {
            let error = text
                .parse::<EnvironmentId>()
                .expect_err("it has not the form");
            assert!(error.to_string().contains("environment_create"), "{error}");
        }
    }
}
