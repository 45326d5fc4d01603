//! A line of the record.

use serde::{Deserialize, Serialize};

/// One call, as `AUDIT.md` tells it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Record {
    /// When it began, as RFC 3339 in UTC with microseconds.
    pub time: String,
    /// The process that served it.
    pub process: u32,
    /// Who asked: stands for a connection or the holder of a token.
    pub owner: String,
    /// What the client says it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// What was asked for.
    pub method: String,
    /// The environment that it was about, or that it made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// Environments that it made beside that one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub made: Vec<String>,
    /// A line for people: the command, the path, the packages. Cut, and never content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Names of the secrets that a command was given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<String>,
    /// SHA-256 of the request.
    pub request: String,
    /// SHA-256 of the answer, or of the failure; absent where there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
    /// `ok`, the failure's code, or `cancelled`.
    pub verdict: String,
    /// What the failure says. Cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// How long it took, in microseconds.
    pub microseconds: u64,
    /// Limits that were hit.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub limits: Vec<String>,
    /// What the environment's proxy refused since the last line about it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<Refused>,
    /// Lines before this one that could not be written.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lost: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Connections that were refused for one reason.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Refused {
    /// Where to, as far as it was understood; absent for all that found no place of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// On which port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Why, in a word.
    pub reason: String,
    /// How many.
    pub count: u64,
}

impl Record {
    /// The line, with its end. Whatever is not printable ASCII is escaped: who prints the file to a terminal is not driven by
    /// what an agent wrote into it.
    pub fn line(&self) -> Vec<u8> {
        // A record is plain data.
        let json = serde_json::to_string(self).unwrap_or_default();
        let mut line = Vec::with_capacity(json.len() + 1);
        for character in json.chars() {
            match character {
                ' '..='~' => line.push(character as u8),
                _ => {
                    // Outside of strings there is nothing but ASCII, and inside it is what escapes are for.
                    let mut units = [0; 2];
                    for unit in character.encode_utf16(&mut units) {
                        line.extend_from_slice(format!("\\u{unit:04x}").as_bytes());
                    }
                }
            }
        }
        line.push(b'\n');
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_line_of_ascii_whatever_is_in_it() {
        let record = Record {
            subject: Some("a\nb\u{1b}]0;x\u{7}\u{202e}\u{1f600}\"\\\u{7f}".to_owned()),
            method: "command_run".to_owned(),
            ..Record::default()
        };
        let line = record.line();
        let (end, text) = line.split_last().unwrap();
        assert_eq!(*end, b'\n');
        assert!(text.iter().all(|byte| matches!(byte, b' '..=b'~')));
        assert_eq!(serde_json::from_slice::<Record>(&line).unwrap(), record);
    }
}
