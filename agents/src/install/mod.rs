//! How a coding agent learns of envd: the entry in its configuration, and that entry merged into what is there.
//!
//! Pure: which file and what text. The command line reads and writes.

mod json;
mod toml;

use std::{fmt, path::PathBuf, str::FromStr};

use serde_json::{Map, Value, json};

/// The server's name in every client's configuration.
const NAME: &str = "envd";
/// The environment variable in which a client finds the token of a server over HTTP. A secret in a file that is committed
/// would be none.
pub const TOKEN_VARIABLE: &str = "ENVD_MCP_TOKEN";
/// Seconds that a client may wait for a tool: compiling and testing take long, and a call can be cancelled.
const TOOL_SECONDS: u64 = 3600;
/// Seconds that a client may wait for the server to start.
const STARTUP_SECONDS: u64 = 30;

/// A coding agent that speaks the Model Context Protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Client {
    /// Anthropic's Claude Code.
    ClaudeCode,
    /// OpenAI's Codex.
    Codex,
    /// Cursor.
    Cursor,
    /// Visual Studio Code.
    VsCode,
}

impl Client {
    /// All that are known.
    pub const ALL: [Self; 4] = [Self::ClaudeCode, Self::Codex, Self::Cursor, Self::VsCode];

    /// As it is named on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::ClaudeCode => "claude-code",
            Self::Codex => "codex",
            Self::Cursor => "cursor",
            Self::VsCode => "vscode",
        }
    }
}

impl fmt::Display for Client {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// No client of that name is known.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("no client {0:?} is known: claude-code, codex, cursor or vscode")]
pub struct UnknownClient(String);

impl FromStr for Client {
    type Err = UnknownClient;

    fn from_str(name: &str) -> Result<Self, UnknownClient> {
        Self::ALL
            .into_iter()
            .find(|client| client.name() == name)
            .ok_or_else(|| UnknownClient(name.to_owned()))
    }
}

/// For which work the client is to know of envd.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Scope {
    /// For one project, in a file that can be committed.
    Project(PathBuf),
    /// For everything that the user of this home directory does.
    User(PathBuf),
}

/// How the client reaches the server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reach {
    /// The client starts it.
    Start {
        /// The path of envd, or its name when it is on the client's `PATH`: in a file that is committed, the name.
        envd: PathBuf,
    },
    /// It runs already, started with `--http`; its token is in the variable [`TOKEN_VARIABLE`].
    Url(String),
}

/// An entry, and where it goes.
#[derive(Clone, PartialEq, Debug)]
pub struct Installation {
    /// The client's configuration file.
    pub file: PathBuf,
    client: Client,
    entry: Value,
}

/// Why an entry cannot be merged into a file.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum MergeError {
    /// The file is not what its client reads.
    #[error(
        "{file}:{line}:{column}: {problem}. Mend the file, or print the entry and add it by hand"
    )]
    Syntax {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
        /// What is wrong there.
        problem: String,
    },
    /// A key on the way to the entry holds something else than it must.
    #[error(
        "{file}: {key} is not a table of servers. Mend the file, or print the entry and add it by hand"
    )]
    NotATable {
        /// The file.
        file: PathBuf,
        /// The key.
        key: String,
    },
}

/// The entry for a client, and the file into which it goes.
pub fn installation(client: Client, scope: &Scope, reach: &Reach) -> Installation {
    Installation {
        file: file(client, scope),
        client,
        entry: entry(client, reach),
    }
}

fn file(client: Client, scope: &Scope) -> PathBuf {
    match scope {
        Scope::Project(project) => project.join(match client {
            Client::ClaudeCode => ".mcp.json",
            Client::Codex => ".codex/config.toml",
            Client::Cursor => ".cursor/mcp.json",
            Client::VsCode => ".vscode/mcp.json",
        }),
        Scope::User(home) => home.join(match client {
            Client::ClaudeCode => ".claude.json",
            Client::Codex => ".codex/config.toml",
            Client::Cursor => ".cursor/mcp.json",
            Client::VsCode => ".config/Code/User/mcp.json",
        }),
    }
}

fn entry(client: Client, reach: &Reach) -> Value {
    let mut entry = Map::new();
    let mut put = |key: &str, value: Value| {
        entry.insert(key.to_owned(), value);
    };
    match reach {
        Reach::Start { envd } => {
            if matches!(client, Client::ClaudeCode | Client::VsCode) {
                put("type", json!("stdio"));
            }
            put("command", json!(envd));
            // The others start their servers in the project; these two may start them anywhere.
            let arguments = match client {
                Client::ClaudeCode | Client::Codex => json!(["agent", "mcp"]),
                Client::Cursor | Client::VsCode => {
                    json!(["agent", "mcp", "--project", "${workspaceFolder}"])
                }
            };
            put("args", arguments);
        }
        Reach::Url(url) => {
            if matches!(client, Client::ClaudeCode | Client::VsCode) {
                put("type", json!("http"));
            }
            put("url", json!(url));
            match client {
                Client::Codex => put("bearer_token_env_var", json!(TOKEN_VARIABLE)),
                Client::ClaudeCode => put("headers", bearer(&format!("${{{TOKEN_VARIABLE}}}"))),
                Client::Cursor | Client::VsCode => {
                    put("headers", bearer(&format!("${{env:{TOKEN_VARIABLE}}}")));
                }
            }
        }
    }
    if client == Client::Codex {
        put("startup_timeout_sec", json!(STARTUP_SECONDS));
        put("tool_timeout_sec", json!(TOOL_SECONDS));
    }
    Value::Object(entry)
}

fn bearer(token: &str) -> Value {
    json!({"Authorization": format!("Bearer {token}")})
}

/// Keys that say how a server is reached. An entry of the other way may not keep them.
const WAYS: [&str; 7] = [
    "type",
    "command",
    "args",
    "cwd",
    "url",
    "headers",
    "bearer_token_env_var",
];

impl Installation {
    /// The key under which the client keeps its servers.
    fn servers(&self) -> &'static str {
        match self.client {
            Client::ClaudeCode | Client::Cursor => "mcpServers",
            Client::Codex => "mcp_servers",
            Client::VsCode => "servers",
        }
    }

    /// The entry as the text of a file that has nothing else, to print.
    pub fn text(&self) -> String {
        self.merged(None).unwrap_or_else(|error| {
            unreachable!("an empty file can always be merged into: {error}")
        })
    }

    /// The file's text with the entry in it: everything else stays as it is, to the byte. What the user added to an entry
    /// of envd stays too.
    pub fn merged(&self, existing: Option<&str>) -> Result<String, MergeError> {
        let existing = existing.unwrap_or_default();
        match self.client {
            Client::Codex => toml::merged(self, existing),
            Client::ClaudeCode | Client::Cursor | Client::VsCode => json::merged(self, existing),
        }
    }

    /// The new entry with what the user had added to the old one.
    fn with_additions(&self, old: &Value) -> Value {
        let mut entry = self.entry.clone();
        if let (Some(new), Value::Object(old)) = (entry.as_object_mut(), old) {
            for (key, value) in old {
                if !WAYS.contains(&key.as_str()) {
                    new.insert(key.clone(), value.clone());
                }
            }
        }
        entry
    }

    fn syntax(&self, text: &str, at: usize, problem: impl Into<String>) -> MergeError {
        let before = &text.as_bytes()[..at.min(text.len())];
        let line_start = before
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |newline| newline + 1);
        MergeError::Syntax {
            file: self.file.clone(),
            line: before.iter().filter(|byte| **byte == b'\n').count() + 1,
            column: String::from_utf8_lossy(&before[line_start..])
                .chars()
                .count()
                + 1,
            problem: problem.into(),
        }
    }

    fn not_a_table(&self, key: &str) -> MergeError {
        MergeError::NotATable {
            file: self.file.clone(),
            key: key.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests;
