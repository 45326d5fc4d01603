//! JSON Schemas of requests and results, in the form that clients of every age understand.

use std::sync::Arc;

use rmcp::model::JsonObject;
use schemars::{
    JsonSchema,
    generate::{Contract, SchemaSettings},
};
use serde_json::Value;

/// The schema of a tool's arguments: an object that knows all its keys.
pub fn of_request<T: JsonSchema>() -> Arc<JsonObject> {
    let mut schema = generated::<T>(Contract::Deserialize);
    schema.insert("additionalProperties".to_owned(), Value::Bool(false));
    Arc::new(schema)
}

/// The schema of a tool's structured result. Later versions may add keys, so unknown ones are allowed.
pub fn of_answer<T: JsonSchema>() -> Arc<JsonObject> {
    Arc::new(generated::<T>(Contract::Serialize))
}

fn generated<T: JsonSchema>(contract: Contract) -> JsonObject {
    let mut settings = SchemaSettings::draft2020_12();
    // Several clients pass schemas on to a model's own format, which knows no references.
    settings.inline_subschemas = true;
    settings.contract = contract;
    let mut schema = settings
        .into_generator()
        .into_root_schema_for::<T>()
        .to_value();
    simplify(&mut schema);
    let Value::Object(mut schema) = schema else {
        unreachable!("requests and answers are structures, whose schema is an object");
    };
    // Said by the protocol already, for all schemas alike; the title is our type's name, which tells nobody anything.
    schema.remove("$schema");
    schema.remove("title");
    // The tool's own description says it better.
    schema.remove("description");
    schema
        .entry("type")
        .or_insert_with(|| Value::String("object".to_owned()));
    schema
        .entry("properties")
        .or_insert_with(|| Value::Object(JsonObject::new()));
    schema
}

/// Optional keys are left out rather than null, so the schema need not speak of null; nor of widths of integers.
fn simplify(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            if let Some(Value::Array(types)) = object.get_mut("type") {
                types.retain(|kind| kind != "null");
                if let [only] = &mut types[..] {
                    let only = only.take();
                    object.insert("type".to_owned(), only);
                }
            }
            // Where a line of the source ended means nothing to a reader of the schema.
            if let Some(Value::String(description)) = object.get_mut("description") {
                *description = description.replace('\n', " ");
            }
            if object.get("default") == Some(&Value::Null) {
                object.remove("default");
            }
            if object
                .get("format")
                .and_then(Value::as_str)
                .is_some_and(|format| {
                    format.starts_with("uint") || format.starts_with("int") || format == "double"
                })
            {
                object.remove("format");
            }
            let only = match object.get_mut("anyOf") {
                Some(Value::Array(choices)) => {
                    choices.retain(|choice| choice.get("type") != Some(&Value::from("null")));
                    match &mut choices[..] {
                        [only] => Some(only.take()),
                        _ => None,
                    }
                }
                _ => None,
            };
            if let Some(Value::Object(only)) = only {
                object.remove("anyOf");
                for (key, value) in only {
                    // What is said of the key goes before what is said of its type.
                    object.entry(key).or_insert(value);
                }
            }
            object.values_mut().for_each(simplify);
        }
        Value::Array(items) => items.iter_mut().for_each(simplify),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::{command::CommandRun, environment::EnvironmentCreate};

    fn text(schema: &JsonObject) -> String {
        serde_json::to_string(schema).expect("plain data")
    }

    #[test]
    fn schemas_stand_on_their_own_and_speak_no_null() {
        for schema in [
            of_request::<EnvironmentCreate>(),
            of_request::<CommandRun>(),
        ] {
            let text = text(&schema);
            for unwanted in ["$ref", "$defs", "null", "uint64", "\\n"] {
                assert!(!text.contains(unwanted), "{unwanted} in {text}");
            }
        }
    }

    #[test]
    fn flattened_keys_are_keys_of_the_request() {
        let schema = of_request::<CommandRun>();
        let properties = schema["properties"].as_object().expect("properties");
        for key in [
            "environment",
            "command",
            "cwd",
            "timeout_seconds",
            "output_bytes",
        ] {
            assert!(
                properties[key]["description"].is_string(),
                "{key} is not described"
            );
        }
        assert_eq!(
            schema["required"],
            serde_json::json!(["environment", "command"])
        );
    }
}
