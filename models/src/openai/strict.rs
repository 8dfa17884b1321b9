//! A metadata schema in the dialect of OpenAI's strict mode.
//!
//! Strict mode wants a `type` everywhere and refuses the whole request for one keyword that it does not know, such as
//! `maxLength`. Those limits are said in the descriptions, where the model reads them, and
//! [`crate::schema::MetadataSchema`] checks them when the answer is there.

use serde_json::{Map, Value, json};

/// What strict mode takes, by OpenAI's guide to structured outputs.
const KEPT: [&str; 16] = [
    "title",
    "type",
    "enum",
    "const",
    "properties",
    "required",
    "additionalProperties",
    "items",
    "minItems",
    "maxItems",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "pattern",
];
/// What tells a model nothing.
const SILENT: [&str; 6] = ["$schema", "$id", "$comment", "default", "examples", "description"];

/// The schema with the keywords that strict mode takes; the others stand in the descriptions.
pub(super) fn strict(schema: &Value) -> Value {
    let Some(object) = schema.as_object() else { return schema.clone() };
    let mut kept = Map::new();
    let mut limits = Vec::new();
    for (keyword, value) in object {
        match keyword.as_str() {
            "properties" => {
                let of_fields = value.as_object().into_iter().flatten();
                kept.insert(
                    keyword.clone(),
                    of_fields.map(|(field, schema)| (field.clone(), strict(schema))).collect(),
                );
            }
            "items" => drop(kept.insert(keyword.clone(), strict(value))),
            known if KEPT.contains(&known) => drop(kept.insert(keyword.clone(), value.clone())),
            silent if SILENT.contains(&silent) => {}
            limit => limits.push(format!("{limit} {value}")),
        }
    }
    if !kept.contains_key("type") {
        let values = object.get("enum").and_then(Value::as_array).into_iter().flatten().chain(object.get("const"));
        let mut types: Vec<_> = values.map(type_of).collect();
        types.sort_unstable();
        types.dedup();
        kept.insert("type".into(), if let [only] = types[..] { json!(only) } else { json!(types) });
    }
    let description = object.get("description").and_then(Value::as_str).map(str::to_owned);
    let limits = (!limits.is_empty()).then(|| format!("({})", limits.join(", ")));
    let words: Vec<_> = description.into_iter().chain(limits).collect();
    if !words.is_empty() {
        kept.insert("description".into(), words.join(" ").into());
    }
    Value::Object(kept)
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::MetadataSchema;

    #[test]
    fn limits_that_strict_mode_does_not_know_move_into_the_descriptions_and_every_value_has_a_type() {
        let schema = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object", "additionalProperties": false, "required": ["a", "b", "c", "d"],
            "properties": {
                "a": {"description": "How fast.", "type": "integer", "minimum": 30, "maximum": 300},
                "b": {"enum": ["x", null]},
                "c": {"type": "array", "maxItems": 3, "uniqueItems": true, "items": {"type": "string", "maxLength": 9}},
                "d": {"type": "string", "description": "A day.", "format": "date", "maxLength": 10},
            },
        });
        assert_eq!(
            strict(&schema),
            json!({
                "type": "object", "additionalProperties": false, "required": ["a", "b", "c", "d"],
                "properties": {
                    "a": {"type": "integer", "minimum": 30, "maximum": 300, "description": "How fast."},
                    "b": {"enum": ["x", null], "type": ["null", "string"]},
                    "c": {
                        "type": "array", "maxItems": 3, "description": "(uniqueItems true)",
                        "items": {"type": "string", "description": "(maxLength 9)"},
                    },
                    "d": {"type": "string", "description": "A day. (format \"date\", maxLength 10)"},
                },
            })
        );
    }

    fn assert_strict(schema: &Value) {
        let object = schema.as_object().expect("a schema");
        assert!(object.contains_key("type"), "no type in {schema}");
        for (keyword, value) in object {
            assert!(KEPT.contains(&keyword.as_str()) || keyword == "description", "{keyword} is left in {schema}");
            match keyword.as_str() {
                "properties" => value.as_object().expect("fields").values().for_each(assert_strict),
                "items" => assert_strict(value),
                _ => {}
            }
        }
    }

    #[test]
    fn the_built_in_schemas_become_strict_and_keep_the_order_of_their_fields() {
        for name in ["music-basic", "music"] {
            let schema = MetadataSchema::load(name).expect("built in");
            let strict = strict(schema.json());
            assert_strict(&strict);
            let fields = strict["properties"].as_object().expect("fields").keys().map(String::as_str);
            assert!(fields.eq(schema.fields()), "{strict}");
        }
    }
}
