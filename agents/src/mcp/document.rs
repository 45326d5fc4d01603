//! The tools as a document, held to what clients are really told: `TOOLS.md` beside this file.

use rmcp::model::{JsonObject, Tool};
use serde_json::Value;

use super::tools;

fn kind(schema: &Value) -> String {
    if let Some(constant) = schema.get("const") {
        return format!("`{constant}`");
    }
    for key in ["oneOf", "anyOf"] {
        if let Some(Value::Array(choices)) = schema.get(key) {
            return choices.iter().map(kind).collect::<Vec<_>>().join(" or ");
        }
    }
    if let Some(Value::Array(choices)) = schema.get("enum") {
        let choices: Vec<String> = choices.iter().map(|choice| format!("`{choice}`")).collect();
        return choices.join(" or ");
    }
    if let Some(pattern) = schema.get("pattern").and_then(Value::as_str) {
        let prefix = pattern.trim_start_matches('^').split('_').next();
        return format!("{}_ handle", prefix.unwrap_or_default());
    }
    match schema["type"].as_str() {
        Some("array") => format!("list of {}", kind(&schema["items"])),
        Some("object") => match schema.get("properties").and_then(Value::as_object) {
            Some(properties) => {
                let keys: Vec<String> = properties
                    .iter()
                    .map(|(key, value)| format!("{key}: {}", kind(value)))
                    .collect();
                format!("{{{}}}", keys.join(", "))
            }
            None => format!("map to {}", kind(&schema["additionalProperties"])),
        },
        Some(plain) => plain.to_owned(),
        None => "anything".to_owned(),
    }
}

fn table(schema: &JsonObject) -> String {
    let required: Vec<&str> = schema
        .get("required")
        .and_then(Value::as_array)
        .map(|keys| keys.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default();
    let mut text = String::new();
    for (key, value) in schema["properties"].as_object().expect("properties") {
        let optional = match value.get("default") {
            Some(default) => format!(", default `{default}`"),
            None if required.contains(&key.as_str()) => String::new(),
            None => ", optional".to_owned(),
        };
        let what = value["description"].as_str().unwrap_or_default();
        text += &format!("- `{key}`: {}{optional}. {what}\n", kind(value));
    }
    if text.is_empty() {
        text += "- nothing\n";
    }
    text
}

fn section(tool: &Tool) -> String {
    let hints = tool.annotations.as_ref().expect("annotations");
    let said = |hint: Option<bool>, yes: &'static str, no: &'static str| {
        if hint == Some(true) { yes } else { no }
    };
    format!(
        "\n## {}\n\n{}\n\n{}, {}, {}, {}.\n\nArguments:\n\n{}\nResult:\n\n{}",
        tool.name,
        tool.description.as_deref().unwrap_or_default(),
        said(hints.read_only_hint, "Read-only", "Not read-only"),
        said(hints.destructive_hint, "destructive", "not destructive"),
        said(hints.idempotent_hint, "idempotent", "not idempotent"),
        said(hints.open_world_hint, "open world", "closed world"),
        table(&tool.input_schema),
        table(tool.output_schema.as_ref().expect("an output schema")),
    )
}

fn document() -> String {
    let sections: String = tools::all()
        .iter()
        .map(|entry| section(&entry.tool))
        .collect();
    format!(
        "# The tools of `envd agent mcp`\n\n\
         What clients are told, as the test in `document.rs` finds it. Write it anew with `UPDATE_GOLDEN=1 cargo test -p \
         envd-agents document`; what is taken away or made stricter breaks clients.\n\n\
         A result is structured content and text. A failure is a result with `isError`: text that ends with `Next:` and what \
         to do, and the same as data in `_meta` under `envd/failure`. An exit code other than 0 is no failure.\n{sections}"
    )
}

#[test]
fn the_document_says_what_clients_are_told() {
    // Where the tests run now, which is not always where they were built.
    let room = std::env::var("CARGO_MANIFEST_DIR");
    let room = room.unwrap_or_else(|_| env!("CARGO_MANIFEST_DIR").to_owned());
    let path = &format!("{room}/src/mcp/TOOLS.md");
    let document = document();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(path, &document).expect("the source is writable");
    }
    let written = std::fs::read_to_string(path).expect("it is beside this file");
    for (number, (written, told)) in written.lines().zip(document.lines()).enumerate() {
        assert_eq!(written, told, "TOOLS.md:{}", number + 1);
    }
    assert_eq!(written.len(), document.len(), "TOOLS.md ends elsewhere");
}
