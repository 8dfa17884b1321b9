//! How sure a model was of its answer, in [0, 1] and not calibrated: per field and overall.
//!
//! The evidence is what the model thought at each step where the grammar left it a choice: the chosen token's share among
//! the allowed tokens, and the mass that all allowed tokens together had before the others were masked away. A share alone
//! misleads: where the model wanted to say something else, the best of what was left is no sign of knowledge
//! (QWEN2_AUDIO.md section 6a, arXiv 2405.21047).
//!
//! - A **value** is a number, a word or a text, with the byte that ends it (a string's closing quote, the comma or bracket
//!   after a number), and in a list with the comma or bracket behind it, which says whether the list goes on. A token
//!   counts for each value of which it holds a byte; opening quotes, names, colons and forced tokens count for none.
//! - A **closed value** (anything but free text) is as sure as the product of its tokens' shares, times the smallest mass
//!   at any of them.
//! - A **free text** has many good wordings, so that a product would tell its length: it has the geometric mean of its
//!   tokens' share times mass.
//! - A **field** has the geometric mean of its values: eight sure items are as sure as one.
//! - **Overall**, the least sure field decides; free text does so only where there is nothing else, as how predictable its
//!   wording is says little about whether it is right.

use std::collections::BTreeMap;
use std::ops::Range;

use records::Confidence;
use serde_json::Value;

use crate::schema::{MetadataSchema, is_closed};

/// One token that the model chose where several were allowed.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// The bytes of the answer that it became.
    pub bytes: Range<usize>,
    /// The probability of all allowed tokens together.
    pub mass: f64,
    /// The chosen token's part of it.
    pub share: f64,
}

/// A value of the answer.
struct Part {
    bytes: Range<usize>,
    is_text: bool,
}

/// The confidence of each field of `answer`, which is compact JSON of the schema, from the choices that made it.
pub fn by_field(schema: &MetadataSchema, answer: &str, choices: &[Choice]) -> BTreeMap<String, Confidence> {
    let mut scan = Scan { text: answer.as_bytes(), at: 1, parts: Vec::new() };
    let confidence = |(name, of_field): (&String, &Value)| {
        scan.field(of_field);
        (name.clone(), probability(geometric_mean(scan.parts.drain(..).map(|part| part.confidence(choices)))))
    };
    schema.properties().map(confidence).collect()
}

/// The answer's confidence, from its fields'.
pub fn overall(schema: &MetadataSchema, fields: &BTreeMap<String, Confidence>) -> Confidence {
    let least = |counts: fn(&Value) -> bool| {
        let fields =
            schema.properties().filter(|(_, of_field)| counts(of_field)).filter_map(|(name, _)| fields.get(name));
        fields.copied().reduce(|least, other| if other < least { other } else { least })
    };
    least(|of_field| !has_text(of_field)).or_else(|| least(|_| true)).unwrap_or(Confidence::ZERO)
}

impl Part {
    fn confidence(&self, choices: &[Choice]) -> f64 {
        let overlaps = |choice: &&Choice| choice.bytes.start < self.bytes.end && self.bytes.start < choice.bytes.end;
        let choices = || choices.iter().filter(overlaps);
        if self.is_text {
            return geometric_mean(choices().map(|choice| choice.share * choice.mass));
        }
        let least_mass = choices().map(|choice| choice.mass).fold(1.0, f64::min);
        choices().map(|choice| choice.share).product::<f64>() * least_mass
    }
}

/// Of nothing: 1, as there was no choice.
fn geometric_mean(numbers: impl Iterator<Item = f64>) -> f64 {
    let (count, logarithms) = numbers.fold((0u32, 0.0), |(count, sum), number| (count + 1, sum + number.ln()));
    (logarithms / f64::from(count.max(1))).exp()
}

fn probability(number: f64) -> Confidence {
    Confidence::try_from(number.clamp(0.0, 1.0)).unwrap_or(Confidence::ZERO)
}

fn is_text(schema: &Value) -> bool {
    schema["type"] == "string" && !is_closed(schema)
}

/// Whether there is free text in what the schema describes.
fn has_text(schema: &Value) -> bool {
    let fields = schema["properties"].as_object();
    is_text(schema)
        || schema["items"].is_object() && has_text(&schema["items"])
        || fields.is_some_and(|fields| fields.values().any(has_text))
}

/// Finds the values in compact JSON. What is no JSON of the schema gives other parts, never a panic or an endless loop.
struct Scan<'a> {
    text: &'a [u8],
    at: usize,
    parts: Vec<Part>,
}

impl Scan<'_> {
    /// The byte here; behind the end, one that ends everything.
    fn here(&self) -> u8 {
        self.text.get(self.at).copied().unwrap_or(b']')
    }

    /// Goes over `"name":value,`.
    fn field(&mut self, schema: &Value) {
        self.skip();
        self.at += 1;
        self.value(schema, false);
        self.at += 1;
    }

    /// Goes over one value and notes its parts.
    fn value(&mut self, schema: &Value, in_list: bool) {
        if is_closed(schema) {
            return self.leaf(schema, in_list);
        }
        match (self.here(), schema["properties"].as_object()) {
            (b'{', Some(fields)) => {
                self.at += 1;
                fields.values().for_each(|of_field| self.field(of_field));
            }
            (b'[', _) => self.list(&schema["items"]),
            _ => self.leaf(schema, in_list),
        }
    }

    fn list(&mut self, schema: &Value) {
        self.at += 1;
        if self.here() == b']' {
            self.parts.push(Part { bytes: self.at..self.at + 1, is_text: false });
        } else {
            self.value(schema, true);
            while self.here() == b',' {
                self.at += 1;
                self.value(schema, true);
            }
        }
        self.at += 1;
    }

    fn leaf(&mut self, schema: &Value, in_list: bool) {
        let quoted = self.here() == b'"';
        let start = self.at + usize::from(quoted);
        self.skip();
        let end = self.at + usize::from(in_list || !quoted);
        self.parts.push(Part { bytes: start..end, is_text: is_text(schema) });
    }

    /// Goes over one value or name.
    fn skip(&mut self) {
        let mut depth = 0;
        while self.at < self.text.len() {
            match self.here() {
                b']' | b'}' | b',' | b':' if depth == 0 => return,
                b'"' => self.skip_string(),
                b'[' | b'{' => depth += 1,
                b']' | b'}' => depth -= 1,
                _ => {}
            }
            self.at += 1;
        }
    }

    /// Goes to the quote that ends the string.
    fn skip_string(&mut self) {
        self.at += 1;
        while self.at < self.text.len() && self.here() != b'"' {
            self.at += if self.here() == b'\\' { 2 } else { 1 };
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// The choices of a model that writes `answer` in these pieces, each with its share and the mass of the allowed.
    fn choices(pieces: &[(&str, f64, f64)]) -> (String, Vec<Choice>) {
        let mut answer = String::new();
        let mut choices = Vec::new();
        for &(piece, share, mass) in pieces {
            let start = answer.len();
            answer.push_str(piece);
            choices.push(Choice { bytes: start..answer.len(), mass, share });
        }
        (answer, choices)
    }

    fn schema(properties: &Value) -> MetadataSchema {
        let required: Vec<&String> = properties.as_object().expect("an object").keys().collect();
        let json =
            json!({"type": "object", "additionalProperties": false, "required": required, "properties": properties});
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("schema.json");
        std::fs::write(&path, json.to_string()).expect("written");
        MetadataSchema::load(&path.to_string_lossy()).expect("bounded")
    }

    fn fields(schema: &MetadataSchema, pieces: &[(&str, f64, f64)]) -> Vec<f64> {
        let (answer, choices) = choices(pieces);
        schema.read(&answer).expect("valid");
        let by_field = by_field(schema, &answer, &choices);
        schema.fields().map(|field| by_field[field].get()).collect()
    }

    fn assert_near(found: &[f64], expected: &[f64]) {
        let near = found.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-12);
        assert!(near && found.len() == expected.len(), "{found:?}, not {expected:?}");
    }

    #[test]
    fn a_closed_value_has_the_product_of_its_shares_and_the_smallest_mass() {
        let schema = schema(&json!({"a": {"enum": ["rock", "pop"]}, "b": {"enum": ["x"]}}));
        let pieces = [
            ("{\"a\":\"", 0.1, 0.1),
            ("ro", 0.5, 0.9),
            ("ck", 0.8, 0.6),
            ("\",\"b\":\"", 0.9, 0.7),
            ("x\"}", 1.0, 1.0),
        ];
        assert_near(&fields(&schema, &pieces), &[0.5 * 0.8 * 0.9 * 0.6, 1.0]);
    }

    #[test]
    fn a_number_counts_the_byte_that_ends_it_and_a_word_only_its_quote() {
        let schema = schema(&json!({"n": {"type": "integer", "minimum": 0, "maximum": 999}, "w": {"enum": ["x"]}}));
        let pieces = [
            ("{\"n\":", 0.1, 1.0),
            ("1", 0.9, 1.0),
            ("2", 0.8, 1.0),
            (",\"w\":\"", 0.5, 1.0),
            ("x\"", 0.3, 1.0),
            ("}", 0.2, 1.0),
        ];
        assert_near(&fields(&schema, &pieces), &[0.9 * 0.8 * 0.5, 0.3]);
    }

    #[test]
    fn a_token_that_holds_the_end_of_one_value_and_the_start_of_the_next_counts_for_both() {
        let schema = schema(&json!({"l": {"type": "array", "maxItems": 3, "items": {"enum": ["x", "y"]}}}));
        let pieces = [("{\"l\":[\"x", 0.5, 1.0), ("\",\"y", 0.25, 1.0), ("\"]", 0.125, 1.0), ("}", 0.1, 1.0)];
        let items: [f64; 2] = [0.5 * 0.25, 0.25 * 0.125];
        assert_near(&fields(&schema, &pieces), &[(items[0] * items[1]).sqrt()]);
    }

    #[test]
    fn an_empty_list_is_as_sure_as_its_end() {
        let schema = schema(&json!({"l": {"type": "array", "maxItems": 3, "items": {"enum": ["x", "y"]}}}));
        assert_near(&fields(&schema, &[("{\"l\":[", 0.5, 1.0), ("]", 0.7, 0.9), ("}", 0.1, 1.0)]), &[0.7 * 0.9]);
    }

    #[test]
    fn a_long_text_is_not_less_sure_than_a_short_one_and_decides_only_alone() {
        let text = json!({"type": "string", "maxLength": 99});
        let mixed = schema(&json!({"t": text, "b": {"type": "boolean"}}));
        for letters in [1, 50] {
            let mut pieces = vec![("{\"t\":\"", 1.0, 1.0)];
            pieces.extend(std::iter::repeat_n((",", 0.5, 0.5), letters));
            pieces.extend([("\"", 0.25, 1.0), (",\"b\":", 1.0, 1.0), ("true", 0.9, 1.0), ("}", 1.0, 1.0)]);
            assert_near(&fields(&mixed, &pieces), &[0.25, 0.9]);
            let (answer, choices) = choices(&pieces);
            let fields = by_field(&mixed, &answer, &choices);
            assert_near(
                &[overall(&mixed, &fields).get(), overall(&schema(&json!({"t": text})), &fields).get()],
                &[0.9, 0.25],
            );
        }
    }

    #[test]
    fn values_within_objects_are_found_behind_names_and_texts_that_look_like_json() {
        let schema = schema(&json!({
            "a{\"b": {"type": "object", "additionalProperties": false, "required": ["c", "d"], "properties": {
                "c": {"type": "string", "maxLength": 9}, "d": {"type": "boolean"}}},
            "e": {"const": [1, {"f": "]"}]},
            "g": {"type": "boolean"}
        }));
        let pieces = [
            ("{\"a{\\\"b\":{\"c\":\"", 0.1, 1.0),
            ("],\\\"}", 0.5, 1.0),
            ("\",\"d\":", 0.5, 1.0),
            ("false", 0.125, 1.0),
            ("},\"e\":", 1.0, 1.0),
            ("[1,{\"f\":\"]\"}]", 0.75, 1.0),
            (",\"g\":", 1.0, 1.0),
            ("true", 0.25, 0.5),
            ("}", 1.0, 0.5),
        ];
        assert_near(&fields(&schema, &pieces), &[(0.5f64 * 0.125).sqrt(), 0.75, 0.25 * 0.5]);
    }

    proptest! {
        #[test]
        fn confidence_is_in_the_unit_interval_whatever_the_text_and_the_choices(
            answer in r#"(\{|\}|\[|\]|"|,|:|\\|a|1|\{"genre":"rock"){0,40}"#,
            choices in prop::collection::vec((0usize..60, 0usize..9, -0.5f64..1.5, any::<f64>()), 0..20),
        ) {
            let schema = MetadataSchema::load("music").expect("built in");
            let choices: Vec<Choice> = choices
                .into_iter()
                .map(|(start, length, mass, share)| Choice { bytes: start..start + length, mass, share })
                .collect();
            let fields = by_field(&schema, &answer, &choices);
            prop_assert_eq!(fields.len(), schema.fields().count());
            let all = || fields.values().copied().chain([overall(&schema, &fields)]);
            prop_assert!(all().all(|confidence| (0.0..=1.0).contains(&confidence.get())));
            prop_assert_eq!(&fields, &by_field(&schema, &answer, &choices));
        }
    }
}
