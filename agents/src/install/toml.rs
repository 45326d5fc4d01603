//! Merging into TOML: Codex.

use serde_json::Value;
use toml_edit::{Array, DocumentMut, Item, Table, Value as TomlValue, value};

use super::{Installation, MergeError, NAME, WAYS};

pub fn merged(installation: &Installation, existing: &str) -> Result<String, MergeError> {
    let mut document: DocumentMut = existing.parse().map_err(|error: toml_edit::TomlError| {
        let at = error.span().map_or(0, |span| span.start);
        installation.syntax(existing, at, error.message())
    })?;
    let servers = installation.servers();
    let table = document.entry(servers).or_insert_with(|| {
        let mut table = Table::new();
        // No header of its own: only its servers have one.
        table.set_implicit(true);
        Item::Table(table)
    });
    let servers = table
        .as_table_like_mut()
        .ok_or_else(|| installation.not_a_table(servers))?;
    let entry = servers
        .entry(NAME)
        .or_insert_with(|| Item::Table(Table::new()))
        .as_table_like_mut()
        .ok_or_else(|| installation.not_a_table("mcp_servers.envd"))?;
    let Value::Object(wanted) = &installation.entry else {
        unreachable!("entries are objects");
    };
    for key in WAYS {
        if !wanted.contains_key(key) {
            entry.remove(key);
        }
    }
    for (key, wanted) in wanted {
        let own_choice = !WAYS.contains(&key.as_str()) && entry.contains_key(key);
        let item = as_item(wanted);
        let same = entry
            .get(key)
            .is_some_and(|old| old.to_string().trim() == item.to_string().trim());
        // A time limit that the user has set stays; what is right already keeps its comments.
        if !own_choice && !same {
            entry.insert(key, item);
        }
    }
    Ok(document.to_string())
}

fn as_item(wanted: &Value) -> Item {
    match wanted {
        Value::Array(words) => value(words.iter().map(as_text).collect::<Array>()),
        Value::Number(number) => value(number.as_i64().unwrap_or_default()),
        other => value(as_text(other)),
    }
}

fn as_text(wanted: &Value) -> TomlValue {
    wanted.as_str().unwrap_or_default().into()
}
