//! What metadata has to look like: a JSON Schema, by which the primary's answers are steered and all answers checked.

use std::path::Path;

use jsonschema::Validator;
use records::Metadata;
use serde_json::Value;

use crate::ModelError;

/// The schemas that come with Tidemark, by name.
const BUILT_IN: [(&str, &str); 2] =
    [("music-basic", include_str!("../schemas/music-basic.json")), ("music", include_str!("../schemas/music.json"))];

/// A metadata schema: an object of required fields and no others, in which everything has a bounded length.
///
/// A list of closed values is a set whose order means something: what an answer repeats in it is left out.
#[derive(Debug)]
pub struct MetadataSchema {
    name: String,
    json: Value,
    validator: Validator,
}

impl MetadataSchema {
    /// Takes a built-in schema by its name (`music-basic`, `music`), or reads a JSON Schema file.
    ///
    /// # Errors
    /// A [`ModelError`] that names the file and the field that is not required, not bounded or no schema at all.
    pub fn load(name_or_path: &str) -> Result<Self, ModelError> {
        let path = Path::new(name_or_path);
        let built_in = BUILT_IN.iter().find(|(name, _)| *name == name_or_path);
        let (name, text) = match built_in {
            Some((name, text)) => ((*name).to_owned(), (*text).to_owned()),
            None => {
                let text = std::fs::read_to_string(path).map_err(|error| ModelError::read(path, &error))?;
                (path.file_stem().unwrap_or_default().to_string_lossy().into_owned(), text)
            }
        };
        Self::parse(name, &text).map_err(|reason| ModelError::invalid(path, reason))
    }

    fn parse(name: String, text: &str) -> Result<Self, String> {
        let json: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let validator = jsonschema::validator_for(&json).map_err(|error| error.to_string())?;
        check_object(&json, "the schema")?;
        Ok(Self { name, json, validator })
    }

    /// Its name: a built-in schema's, or a file's without its ending.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The schema itself.
    pub fn json(&self) -> &Value {
        &self.json
    }

    /// The fields, in the order in which they are answered.
    pub fn fields(&self) -> impl Iterator<Item = &str> {
        self.properties().map(|(field, _)| field.as_str())
    }

    /// The fields with the schema of each.
    pub(crate) fn properties(&self) -> impl Iterator<Item = (&String, &Value)> {
        self.json["properties"].as_object().into_iter().flatten()
    }

    /// The most bytes that an answer has as compact JSON without `\\u` escapes; so also the most tokens.
    pub fn longest_answer(&self) -> usize {
        longest(&self.json)
    }

    /// Whether an answer is one that the schema allows.
    pub(crate) fn allows(&self, answer: &Metadata) -> bool {
        self.validator.is_valid(&Value::Object(answer.clone()))
    }

    /// Reads an answer; its fields come out in the schema's order, and without what a list of closed values repeats.
    ///
    /// # Errors
    /// In words, with the field that breaks the schema.
    pub fn read(&self, answer: &str) -> Result<Metadata, String> {
        let mut value: Value =
            serde_json::from_str(answer).map_err(|error| format!("the answer is no JSON: {error}"))?;
        leave_out_repeated(&mut value, &self.json);
        if let Err(error) = self.validator.validate(&value) {
            // Masked: what was answered must not reach a log.
            let (name, at, error) = (&self.name, error.instance_path().as_str(), error.masked());
            return Err(format!("the answer breaks the schema {name} at {at:?}: {error}"));
        }
        let Value::Object(mut object) = value else { return Err("the answer is no object".to_owned()) };
        Ok(self.fields().filter_map(|field| Some((field.to_owned(), object.remove(field)?))).collect())
    }
}

/// An object lists its fields, requires each and allows no other; each is bounded.
fn check_object(schema: &Value, place: &str) -> Result<(), String> {
    let properties = schema["properties"].as_object().filter(|properties| !properties.is_empty());
    let Some(properties) = properties else { return Err(format!("{place} must be an object with properties")) };
    if schema["type"] != "object" || schema["additionalProperties"] != false {
        return Err(format!("{place} must have \"type\": \"object\" and \"additionalProperties\": false"));
    }
    for (field, of_field) in properties {
        if !schema["required"].as_array().is_some_and(|required| required.iter().any(|name| name == field)) {
            return Err(format!("{place}: \"required\" must list {field:?}, as every field is answered"));
        }
        check_bounded(of_field, field)?;
    }
    Ok(())
}

fn check_bounded(schema: &Value, place: &str) -> Result<(), String> {
    if is_closed(schema) {
        return Ok(());
    }
    let has = |limit: &str| match schema[limit].is_number() {
        true => Ok(()),
        false => Err(format!("{place} needs {limit:?}, so that its answer has an end")),
    };
    match schema["type"].as_str() {
        Some("object") => check_object(schema, place),
        Some("array") if is_closed(&schema["items"]) && schema["minItems"].as_u64() > Some(1) => {
            Err(format!("{place} can ask for one item at most in \"minItems\": what its answer repeats is left out"))
        }
        Some("array") => has("maxItems").and_then(|()| check_bounded(&schema["items"], &format!("{place}[]"))),
        Some("string") => has("maxLength"),
        Some("integer") => has("minimum").and_then(|()| has("maximum")),
        Some("number") => {
            Err(format!("{place} must be an \"integer\", of a smaller unit if need be: fractions have no end"))
        }
        Some("boolean" | "null") => Ok(()),
        _ => Err(format!("{place} must have an \"enum\", or a \"type\" that is one name")),
    }
}

/// Whether the schema lists every value that it allows.
pub(crate) fn is_closed(schema: &Value) -> bool {
    schema["enum"].is_array() || !schema["const"].is_null()
}

/// The most bytes of a value of a bounded schema, in compact JSON.
fn longest(schema: &Value) -> usize {
    let compact = |value: &Value| value.to_string().len();
    let number = |limit: &str| schema[limit].as_u64().unwrap_or_default() as usize;
    if is_closed(schema) {
        let listed = schema["enum"].as_array().and_then(|values| values.iter().map(compact).max());
        return listed.unwrap_or_else(|| compact(&schema["const"]));
    }
    match schema["type"].as_str() {
        Some("object") => {
            let field = |(name, of_field): (&String, &Value)| compact(&name.as_str().into()) + longest(of_field) + 2;
            1 + schema["properties"].as_object().map_or(1, |fields| fields.iter().map(field).sum())
        }
        Some("array") => 1 + (number("maxItems") * (longest(&schema["items"]) + 1)).max(1),
        // A character has four bytes at most, an escaped one two.
        Some("string") => 2 + 4 * number("maxLength"),
        Some("integer") => compact(&schema["minimum"]).max(compact(&schema["maximum"])),
        _ => "false".len(),
    }
}

/// Keeps the first of equal items in each list of closed values.
fn leave_out_repeated(value: &mut Value, schema: &Value) {
    match value {
        Value::Array(items) if is_closed(&schema["items"]) => {
            let mut kept = Vec::with_capacity(items.len());
            for item in items.drain(..) {
                if !kept.contains(&item) {
                    kept.push(item);
                }
            }
            *items = kept;
        }
        Value::Array(items) => items.iter_mut().for_each(|item| leave_out_repeated(item, &schema["items"])),
        Value::Object(fields) => {
            fields.iter_mut().for_each(|(name, field)| leave_out_repeated(field, &schema["properties"][name.as_str()]));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &str = r#"{"tempo_bpm":120,"genre":"rock","key":"F# minor","instruments":["drums","guitar"]}"#;

    #[test]
    fn an_answer_comes_out_in_the_order_of_the_schema() {
        let schema = MetadataSchema::load("music-basic").expect("built in");
        let metadata = schema.read(ANSWER).expect("valid");
        assert_eq!(metadata.keys().collect::<Vec<_>>(), ["genre", "tempo_bpm", "key", "instruments"]);
        assert_eq!(metadata["key"], "F# minor");
    }

    #[test]
    fn what_a_list_of_closed_values_repeats_is_left_out() {
        let schema = MetadataSchema::load("music").expect("built in");
        let answer = r#"{"genre":"rock","tempo_bpm":120,"key":"C major","instruments":["drums","bass","drums","drums"],
            "mood":["calm"],"vocals":"none","energy":"low","description":"x","tags":["a","a"]}"#;
        let metadata = schema.read(answer).expect("valid");
        assert_eq!(metadata["instruments"], serde_json::json!(["drums", "bass"]));
        assert_eq!(metadata["tags"], serde_json::json!(["a", "a"]), "free text is no set");
    }

    #[test]
    fn no_answer_is_longer_than_the_longest() {
        let schema = r#"{"type":"object","additionalProperties":false,"required":["a","b","c","d"],"properties":{
            "a":{"enum":["x","long"]},"b":{"type":"integer","minimum":-100,"maximum":99},
            "c":{"type":"array","maxItems":2,"items":{"type":"string","maxLength":2}},"d":{"type":"boolean"}}}"#;
        let schema = MetadataSchema::parse("s".into(), schema).expect("bounded");
        let answer = r#"{"a":"long","b":-100,"c":["𝄞𝄞","𝄞𝄞"],"d":false}"#;
        schema.read(answer).expect("valid");
        assert_eq!(schema.longest_answer(), answer.len());
    }

    #[test]
    fn an_answer_outside_the_schema_is_refused_by_field() {
        let schema = MetadataSchema::load("music-basic").expect("built in");
        for (from, to, names) in [
            ("120", "900", "tempo_bpm"),
            ("\"rock\"", "\"polka\"", "genre"),
            ("\"drums\"", "7", "instruments"),
            ("\"key\"", "\"clef\"", "\"key\""),
            ("{", "", "JSON"),
        ] {
            let error = schema.read(&ANSWER.replacen(from, to, 1)).expect_err("must be refused");
            assert!(error.contains(names), "{error}");
        }
    }

    #[test]
    fn every_built_in_schema_loads_and_an_unknown_name_is_a_missing_file() {
        for (name, _) in BUILT_IN {
            assert_eq!(MetadataSchema::load(name).expect("built in").name(), name);
        }
        let error = MetadataSchema::load("musik").expect_err("no such file").to_string();
        assert!(error.contains("musik"), "{error}");
    }

    #[test]
    fn a_schema_whose_answers_could_be_endless_or_partial_is_refused_by_field() {
        let schema = |field: &str, required: &str| {
            format!(
                r#"{{"type":"object","additionalProperties":false,"required":[{required}],"properties":{{"f":{field}}}}}"#
            )
        };
        for (field, names) in [
            (r#"{"type":"string"}"#, "maxLength"),
            (r#"{"type":"integer","minimum":0}"#, "maximum"),
            (r#"{"type":"array","items":{"enum":["a"]}}"#, "maxItems"),
            (r#"{"type":"array","maxItems":3,"items":{"type":"string"}}"#, "f[]"),
            (r#"{"type":"array","maxItems":3}"#, "f[]"),
            (r#"{"type":"array","maxItems":3,"minItems":2,"items":{"enum":["a","b"]}}"#, "minItems"),
            (r#"{"type":"number","minimum":0,"maximum":1}"#, "integer"),
            (r#"{"type":"object"}"#, "f must be an object"),
            ("{}", "type"),
        ] {
            let error = MetadataSchema::parse("s".into(), &schema(field, "\"f\"")).expect_err("must be refused");
            assert!(error.contains(names), "{error}");
        }
        let error = MetadataSchema::parse("s".into(), &schema("{\"type\":\"boolean\"}", "")).expect_err("refused");
        assert!(error.contains("required"), "{error}");
        MetadataSchema::parse("s".into(), &schema("{\"type\":\"boolean\"}", "\"f\"")).expect("bounded and required");
    }
}
