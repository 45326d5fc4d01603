//! The published schema and the parser accept the same files, so that an editor neither blames what works nor praises what fails.

use envd::config::schema::schema;
use serde_json::{Value, json};

use crate::parse;

/// Whether `value` meets `schema`, for the words that our schema uses; any other word is an error of this test.
fn meets(schema: &Value, value: &Value) -> bool {
    let words = schema.as_object().expect("a schema is an object");
    words.iter().all(|(word, rule)| match &**word {
        "$schema" | "title" | "description" | "default" | "definitions" => true,
        "$ref" => panic!("the schema is inlined"),
        "type" => {
            let is = |kind: &Value| match kind.as_str().expect("a type's name") {
                "object" => value.is_object(),
                "array" => value.is_array(),
                "string" => value.is_string(),
                "boolean" => value.is_boolean(),
                "integer" => value.is_i64(),
                "number" => value.is_number(),
                "null" => value.is_null(),
                other => panic!("type {other}"),
            };
            rule.as_array()
                .map_or_else(|| is(rule), |kinds| kinds.iter().any(is))
        }
        "required" => {
            let keys = rule.as_array().unwrap();
            keys.iter()
                .all(|key| value.get(key.as_str().unwrap()).is_some())
        }
        "properties" => value.as_object().is_none_or(|object| {
            let known = |(key, value): (&String, &Value)| {
                rule.get(key).is_none_or(|rule| meets(rule, value))
            };
            object.iter().all(known)
        }),
        "additionalProperties" => value.as_object().is_none_or(|object| {
            let listed = |key: &String| {
                words
                    .get("properties")
                    .is_some_and(|p| p.get(key).is_some())
            };
            object
                .iter()
                .filter(|(key, _)| !listed(key))
                .all(|(_, value)| match rule {
                    Value::Bool(allowed) => *allowed,
                    rule => meets(rule, value),
                })
        }),
        "items" => value
            .as_array()
            .is_none_or(|items| items.iter().all(|item| meets(rule, item))),
        "minItems" => value
            .as_array()
            .is_none_or(|items| items.len() as u64 >= rule.as_u64().unwrap()),
        "pattern" => {
            let pattern =
                regex_lite::Regex::new(rule.as_str().unwrap()).expect("the pattern compiles");
            value.as_str().is_none_or(|text| pattern.is_match(text))
        }
        "enum" => rule.as_array().unwrap().contains(value),
        "const" => rule == value,
        "propertyNames" => value
            .as_object()
            .is_none_or(|object| object.keys().all(|key| meets(rule, &json!(key)))),
        "minLength" => value
            .as_str()
            .is_none_or(|text| text.chars().count() as u64 >= rule.as_u64().unwrap()),
        "minimum" => value
            .as_f64()
            .is_none_or(|number| number >= rule.as_f64().unwrap()),
        "maximum" => value
            .as_f64()
            .is_none_or(|number| number <= rule.as_f64().unwrap()),
        "format" => true,
        "anyOf" | "oneOf" => rule
            .as_array()
            .unwrap()
            .iter()
            .any(|schema| meets(schema, value)),
        other => panic!("this test does not know the word {other:?}"),
    })
}

fn parser_accepts(document: &Value) -> bool {
    let text = toml::to_string(document).expect("a document");
    match parse(&text) {
        Ok(_) => true,
        Err(e) => {
            let _ = e.to_string();
            false
        }
    }
}

#[test]
fn both_accept_and_refuse_the_same_files() {
    let schema = schema().to_value();
    let values = [
        json!(true),
        json!(false),
        json!(3),
        json!("x"),
        json!("host"),
        json!("debian:trixie"),
        json!([]),
        json!([1]),
        json!(["a b"]),
        json!(["@3"]),
        json!(["gcc"]),
        json!(["debian:trixie"]),
        json!(["debian:sid@20260901T000000Z"]),
        json!(["debian:sid@2026"]),
        json!(["Debian:sid"]),
        json!(["trixie"]),
        json!({}),
        json!({"A": "1"}),
        json!({"A": 1}),
    ];
    let keys = schema["properties"]["env"]["properties"]
        .as_object()
        .expect("keys of [env]");
    assert!(keys.len() >= 6, "the schema lists the keys");
    let unknown = "nonsense".to_owned();
    let mut accepted = 0;
    for key in keys.keys().chain([&unknown]) {
        for value in &values {
            let document = json!({"env": {key: value}});
            // That a suite must be a channel's, no schema can say.
            if key == "accept-expired"
                && value
                    .as_array()
                    .is_some_and(|a| a.iter().any(Value::is_string))
            {
                continue;
            }
            assert_eq!(
                meets(&schema, &document),
                parser_accepts(&document),
                "{document}"
            );
            accepted += usize::from(meets(&schema, &document));
        }
    }
    assert!(accepted >= keys.len(), "each key accepts something");
    for document in [
        json!({}),
        json!({"env": {}, "tasks": {}}),
        json!({"env": []}),
        json!({"env": {}, "service": {"": {"run": "x"}}}),
        json!({"env": {}, "service": {"a/b": {"run": "x"}}}),
        json!({"env": {}, "task": {"-": {"run": "x"}}}),
        json!({"env": {}, "task": {"a": {}}}),
        json!({"env": {}, "service": []}),
    ] {
        assert!(
            !meets(&schema, &document) && !parser_accepts(&document),
            "{document}"
        );
    }
}

#[test]
fn both_agree_on_services_and_tasks() {
    let schema = schema().to_value();
    let values = [
        json!(true),
        json!(3),
        json!(70_000),
        json!(""),
        json!("x"),
        json!("{port.db}"),
        json!("exit"),
        json!("always"),
        json!("SIGINT"),
        json!("SIGNAL"),
        json!("10s"),
        json!("0s"),
        json!("1d"),
        json!([]),
        json!([1]),
        json!([""]),
        json!(["a b"]),
        json!({}),
        json!({"A": "1"}),
        json!({"A": 1}),
        json!({"tcp": 5432}),
        json!({"tcp": 0}),
        json!({"tcp": 70_000}),
        json!({"tcp": "{port.db}"}),
        json!({"tcp": "x"}),
        json!({"descriptor": 3}),
        json!({"descriptor": 2}),
        json!({"command": "x"}),
        json!({"command": ["x"]}),
        json!({"command": ""}),
        json!({"tcp": 1, "descriptor": 3}),
        json!({"udp": 1}),
    ];
    for kind in ["service", "task"] {
        let table = &schema["properties"][kind]["additionalProperties"];
        let keys = table["properties"]
            .as_object()
            .expect("keys of the section");
        let unknown = "nonsense".to_owned();
        for key in keys.keys().chain([&unknown]) {
            let mut accepted = 0;
            for value in &values {
                // That the first word, a program, is not empty, this schema does not say.
                if key == "run" && *value == json!([""]) {
                    continue;
                }
                let mut section = json!({"run": "x"});
                section[key] = value.clone();
                let document = json!({"env": {}, kind: {"it": section}});
                assert_eq!(
                    meets(&schema, &document),
                    parser_accepts(&document),
                    "{document}"
                );
                accepted += usize::from(meets(&schema, &document));
            }
            assert_eq!(accepted > 0, *key != unknown, "{kind}.{key}");
            let described = keys
                .get(key)
                .is_none_or(|rule| rule.get("description").is_some());
            assert!(described, "{kind}.{key} is described");
        }
    }
}

#[test]
fn the_defaults_that_are_published_are_accepted() {
    let schema = schema().to_value();
    for (key, rule) in schema["properties"]["env"]["properties"]
        .as_object()
        .unwrap()
    {
        let default = rule
            .get("default")
            .unwrap_or_else(|| panic!("{key} has a default"));
        assert!(
            parser_accepts(&json!({"env": {key: default}})),
            "{key} = {default}"
        );
        assert!(rule.get("description").is_some(), "{key} is described");
    }
}

#[test]
fn the_schema_changes_only_on_purpose() {
    insta::assert_snapshot!(serde_json::to_string_pretty(&schema()).unwrap());
}

#[test]
fn both_agree_on_what_agents_may_do() {
    let schema = schema().to_value();
    let values = [
        json!(true),
        json!(0),
        json!(3),
        json!(1.5),
        json!(-1.5),
        json!(2_000_000),
        json!(""),
        json!("x"),
        json!("none"),
        json!("host"),
        json!("2 GiB"),
        json!("500MB"),
        json!("0 GiB"),
        json!("2 gib"),
        json!("10s"),
        json!("1d"),
        json!([]),
        json!([1]),
        json!(["pypi.org", "*.crates.io:8443/tcp"]),
        json!(["https://pypi.org"]),
        json!(["localhost"]),
        json!(["*.org/x"]),
        json!(["NPM_TOKEN"]),
        json!(["1A"]),
        json!(["A-B"]),
        json!(["/docs/*.md"]),
        json!(["a//b"]),
        json!([""]),
        json!({}),
        json!({"A": {"env": "A"}}),
    ];
    let keys = schema["properties"]["agent"]["properties"]
        .as_object()
        .expect("keys of [agent]");
    assert!(keys.len() >= 11, "the schema lists the keys");
    let unknown = "nonsense".to_owned();
    let mut accepted = 0;
    for key in keys.keys().chain([&unknown]) {
        for value in &values {
            let document = json!({"env": {}, "agent": {key: value}});
            assert_eq!(
                meets(&schema, &document),
                parser_accepts(&document),
                "{document}"
            );
            accepted += usize::from(meets(&schema, &document));
        }
    }
    assert!(accepted >= keys.len(), "each key accepts something");
}
