use std::path::Path;

use proptest::prelude::*;

use super::*;

fn start(client: Client) -> Installation {
    let envd = PathBuf::from("/usr/bin/envd");
    installation(client, &Scope::Project("/p".into()), &Reach::Start { envd })
}

fn reached(client: Client) -> Installation {
    let url = "http://127.0.0.1:7777/mcp".to_owned();
    installation(client, &Scope::User("/h".into()), &Reach::Url(url))
}

#[test]
fn every_client_gets_the_entry_that_it_reads() {
    for (client, file, text) in [
        (
            Client::ClaudeCode,
            "/p/.mcp.json",
            r#"{
  "mcpServers": {
    "envd": {
      "args": ["agent", "mcp"],
      "command": "/usr/bin/envd",
      "type": "stdio"
    }
  }
}
"#,
        ),
        (
            Client::Codex,
            "/p/.codex/config.toml",
            r#"[mcp_servers.envd]
args = ["agent", "mcp"]
command = "/usr/bin/envd"
startup_timeout_sec = 30
tool_timeout_sec = 3600
"#,
        ),
        (
            Client::Cursor,
            "/p/.cursor/mcp.json",
            r#"{
  "mcpServers": {
    "envd": {
      "args": ["agent", "mcp", "--project", "${workspaceFolder}"],
      "command": "/usr/bin/envd"
    }
  }
}
"#,
        ),
        (
            Client::VsCode,
            "/p/.vscode/mcp.json",
            r#"{
  "servers": {
    "envd": {
      "args": ["agent", "mcp", "--project", "${workspaceFolder}"],
      "command": "/usr/bin/envd",
      "type": "stdio"
    }
  }
}
"#,
        ),
    ] {
        let installation = start(client);
        assert_eq!(installation.file, Path::new(file));
        assert_eq!(installation.text(), text, "{client}");
        assert_eq!(client.name().parse(), Ok(client));
    }
}

#[test]
fn a_token_is_never_in_the_file() {
    for client in Client::ALL {
        let text = reached(client).text();
        assert!(text.contains(TOKEN_VARIABLE), "{text}");
        assert!(text.contains("http://127.0.0.1:7777/mcp"), "{text}");
        assert!(
            !text.contains("\"command\"") && !text.contains("command ="),
            "{text}"
        );
    }
}

#[test]
fn the_users_own_directories() {
    assert_eq!(
        Client::ALL.map(|client| reached(client).file),
        [
            "/h/.claude.json",
            "/h/.codex/config.toml",
            "/h/.cursor/mcp.json",
            "/h/.config/Code/User/mcp.json"
        ]
        .map(PathBuf::from)
    );
}

#[test]
fn everything_else_in_json_stays_to_the_byte() {
    let existing = r#"// Shared by the team.
{
    "inputs": [ /* none yet */ ],
    "servers": {
        "other": { "command": "other" }, // do not touch
    },
}
"#;
    let merged = start(Client::VsCode)
        .merged(Some(existing))
        .expect("well-formed");
    assert_eq!(
        merged,
        r#"// Shared by the team.
{
    "inputs": [ /* none yet */ ],
    "servers": {
        "other": { "command": "other" }, // do not touch
        "envd": {
            "args": ["agent", "mcp", "--project", "${workspaceFolder}"],
            "command": "/usr/bin/envd",
            "type": "stdio"
        }
    },
}
"#
    );
}

#[test]
fn everything_else_in_toml_stays_to_the_byte() {
    let existing =
        "# Mine.\nmodel   = 'x' # the good one\n\n[mcp_servers.other]\ncommand = \"other\"\n";
    let merged = start(Client::Codex)
        .merged(Some(existing))
        .expect("well-formed");
    let added = merged
        .strip_prefix(existing)
        .expect("what was there comes first");
    assert_eq!(added.trim_start(), start(Client::Codex).text());
}

#[test]
fn a_second_time_changes_nothing() {
    for client in Client::ALL {
        for installation in [start(client), reached(client)] {
            let once = installation.text();
            assert_eq!(installation.merged(Some(&once)), Ok(once), "{client}");
        }
    }
}

#[test]
fn what_the_user_added_to_the_entry_stays_and_the_other_way_goes() {
    let existing = r#"{"mcpServers": {"envd": {"url": "http://old/", "headers": {}, "disabled": true}}, "theme": "dark"}"#;
    let merged = start(Client::Cursor)
        .merged(Some(existing))
        .expect("well-formed");
    let value: Value = serde_json::from_str(&merged).expect("JSON");
    assert_eq!(value["theme"], "dark");
    assert_eq!(
        value["mcpServers"]["envd"],
        json!({
            "args": ["agent", "mcp", "--project", "${workspaceFolder}"],
            "command": "/usr/bin/envd",
            "disabled": true,
        })
    );

    let existing = "[mcp_servers.envd]\nurl = \"http://old/\"\ntool_timeout_sec = 5 # short\nenabled = false\n";
    let merged = start(Client::Codex)
        .merged(Some(existing))
        .expect("well-formed");
    assert!(!merged.contains("url"), "{merged}");
    assert!(
        merged.contains("tool_timeout_sec = 5 # short\nenabled = false\n"),
        "{merged}"
    );
    assert!(merged.contains("command = \"/usr/bin/envd\""), "{merged}");
}

#[test]
fn layouts_that_people_have() {
    for (existing, expected) in [
        ("", "{\n  \"mcpServers\": {\n"),
        ("\n", "\n{\n  \"mcpServers\": {\n"),
        ("{}", "{\n  \"mcpServers\": {\n    \"envd\": {\n"),
        ("{ }\n", "{\n  \"mcpServers\": {\n"),
        ("{\"mcpServers\":{}}", "{\"mcpServers\":{\n  \"envd\": {\n"),
        (
            "{\n\t\"a\": 1\n}\n",
            "{\n\t\"a\": 1,\n\t\"mcpServers\": {\n\t\t\"envd\": {\n",
        ),
        (
            "{\r\n  \"a\": 1\r\n}\r\n",
            "{\r\n  \"a\": 1,\r\n  \"mcpServers\": {\r\n    \"envd\": {\r\n",
        ),
        (
            "{\n  // nothing\n}\n",
            "{\n  // nothing\n  \"mcpServers\": {\n",
        ),
        (
            "{\"a\": \"} // no comment\"}",
            "{\"a\": \"} // no comment\",\n  \"mcpServers\": {\n",
        ),
    ] {
        let merged = start(Client::ClaudeCode)
            .merged(Some(existing))
            .unwrap_or_else(|error| panic!("{existing:?}: {error}"));
        assert!(merged.starts_with(expected), "{existing:?}: {merged:?}");
    }
}

#[test]
fn a_broken_file_is_not_touched_and_the_place_is_told() {
    for (client, existing, place) in [
        (
            Client::ClaudeCode,
            "{\n  \"a\": 1\n  \"b\": 2\n}",
            ".mcp.json:3:3",
        ),
        (Client::ClaudeCode, "{\"a\": \"no end\n}", ".mcp.json:1:7"),
        (Client::ClaudeCode, "{} {}", ".mcp.json:1:4"),
        (Client::ClaudeCode, "[]", ".mcp.json:1:1"),
        (Client::ClaudeCode, "/* no end", ".mcp.json:1:1"),
        (
            Client::ClaudeCode,
            "{\"mcpServers\": []}",
            "mcpServers is not a table",
        ),
        (Client::Codex, "a = 1\nb =\n", "config.toml:2:"),
        (
            Client::Codex,
            "mcp_servers = 3\n",
            "mcp_servers is not a table",
        ),
    ] {
        let error = start(client)
            .merged(Some(existing))
            .expect_err(existing)
            .to_string();
        assert!(error.contains(place), "{existing:?}: {error}");
        assert!(error.contains("by hand"), "{error}");
    }
}

#[test]
fn nesting_without_end_is_refused_rather_than_followed() {
    let deep = format!("{{\"a\": {}", "[".repeat(1_000_000));
    assert!(start(Client::ClaudeCode).merged(Some(&deep)).is_err());
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(".{0,6}", inner, 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn whatever_was_in_a_file_is_in_it_afterwards(
        members in prop::collection::btree_map("[a-z]{1,6}", any_json(), 0..6),
        others in prop::collection::btree_map("[a-z]{5,8}", any_json(), 0..4),
        with_servers in any::<bool>(),
        spread in any::<bool>(),
    ) {
        let mut before: Map<String, Value> = members.into_iter().collect();
        if with_servers {
            before.insert("mcpServers".to_owned(), Value::Object(others.into_iter().collect()));
        }
        let before = Value::Object(before);
        let text = if spread { format!("{before:#}") } else { before.to_string() };
        let merged = start(Client::ClaudeCode).merged(Some(&text)).expect("well-formed");
        let after: Value = serde_json::from_str(&merged).expect("JSON stays JSON");
        let mut expected = before;
        expected["mcpServers"]["envd"] = start(Client::ClaudeCode).entry;
        prop_assert_eq!(after, expected);
    }

    #[test]
    fn no_text_makes_it_panic(text in ".{0,60}", braces in "[{}\\[\\]\",:/*\\\\a1 \n]{0,60}") {
        let _ = start(Client::ClaudeCode).merged(Some(&text));
        let _ = start(Client::VsCode).merged(Some(&braces));
        let _ = start(Client::Codex).merged(Some(&braces));
    }
}
