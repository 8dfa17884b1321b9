//! Whether an answer is right, by a label.
//!
//! - A **tempo** (an integer whose name ends in `_bpm`) is right within 4 % of the label's, the tolerance of tempo contests.
//! - A **list of closed values** is a set: right where its common part is at least half of both together (Jaccard ≥ 0.5).
//! - Any other **closed value**, number, boolean or list of such is right where it is equal.
//! - An **object** is right where each of its parts that can be judged is.
//! - **Free text** has no judge: many wordings are right.

use serde_json::Value;

use crate::schema::is_closed;

/// By how much of the label's a tempo may differ.
const TEMPO_TOLERANCE_PERCENT: f64 = 4.0;

/// Whether `answer`, of a field of this schema, is right; `None` where it has no judge.
pub(super) fn is_right(name: &str, schema: &Value, answer: &Value, label: &Value) -> Option<bool> {
    if is_closed(schema) {
        return Some(answer == label);
    }
    match schema["type"].as_str() {
        Some("array") if is_closed(&schema["items"]) => Some(are_alike(answer, label)),
        Some("array") => {
            let answers = answer.as_array()?;
            let labels = label.as_array()?;
            let all = || answers.iter().zip(labels);
            has_judge(&schema["items"]).then(|| {
                answers.len() == labels.len()
                    && all().all(|(answer, label)| is_right(name, &schema["items"], answer, label) == Some(true))
            })
        }
        Some("object") => {
            let part = |(name, of_part): (&String, &Value)| is_right(name, of_part, &answer[name], &label[name]);
            schema["properties"].as_object()?.iter().filter_map(part).reduce(|all, part| all && part)
        }
        Some("string") => None,
        Some("integer") if name.ends_with("_bpm") => {
            let (answer, label) = (answer.as_f64()?, label.as_f64()?);
            Some((answer - label).abs() * 100.0 <= TEMPO_TOLERANCE_PERCENT * label)
        }
        _ => Some(answer == label),
    }
}

/// Whether answers of this schema can be judged.
pub(super) fn has_judge(schema: &Value) -> bool {
    if is_closed(schema) {
        return true;
    }
    match schema["type"].as_str() {
        Some("string") => false,
        Some("array") => has_judge(&schema["items"]),
        Some("object") => schema["properties"].as_object().is_some_and(|parts| parts.values().any(has_judge)),
        _ => true,
    }
}

/// Whether two sets have at least half of their elements in common; two empty ones have.
fn are_alike(answer: &Value, label: &Value) -> bool {
    let (Some(answer), Some(label)) = (answer.as_array(), label.as_array()) else { return false };
    let unique = |list: &[Value]| {
        let mut unique: Vec<Value> = Vec::new();
        list.iter().for_each(|item| {
            if !unique.contains(item) {
                unique.push(item.clone())
            }
        });
        unique
    };
    let (answer, label) = (unique(answer), unique(label));
    let common = answer.iter().filter(|item| label.contains(item)).count();
    2 * common >= answer.len() + label.len() - common
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn judged(name: &str, schema: Value, answer: Value, label: Value) -> Option<bool> {
        assert_eq!(has_judge(&schema), is_right(name, &schema, &answer, &label).is_some());
        is_right(name, &schema, &answer, &label)
    }

    #[test]
    fn a_tempo_is_right_within_four_percent_and_another_number_where_it_is_equal() {
        let number = json!({"type": "integer", "minimum": 0, "maximum": 300});
        for (answer, label, tempo, other) in [
            (104, 100, true, false),
            (96, 100, true, false),
            (105, 100, false, false),
            (95, 100, false, false),
            (60, 120, false, false),
            (120, 120, true, true),
        ] {
            assert_eq!(judged("tempo_bpm", number.clone(), answer.into(), label.into()), Some(tempo), "{answer}");
            assert_eq!(judged("voices", number.clone(), answer.into(), label.into()), Some(other), "{answer}");
        }
    }

    #[test]
    fn a_list_of_closed_values_is_right_where_half_of_both_is_common() {
        let list = json!({"type": "array", "maxItems": 4, "items": {"enum": ["a", "b", "c", "d"]}});
        for (answer, label, right) in [
            (json!(["a", "b"]), json!(["b", "a"]), true),
            (json!(["a"]), json!(["a", "b"]), true),
            (json!(["a", "b"]), json!(["a", "c"]), false),
            (json!(["a", "a", "b"]), json!(["a", "b", "c", "d"]), true),
            (json!(["a"]), json!(["a", "b", "c"]), false),
            (json!([]), json!([]), true),
            (json!([]), json!(["a"]), false),
        ] {
            assert_eq!(judged("l", list.clone(), answer.clone(), label), Some(right), "{answer}");
        }
    }

    #[test]
    fn words_are_compared_exactly_texts_not_at_all_and_objects_by_their_parts() {
        let word = json!({"enum": ["x", "y"]});
        assert_eq!(judged("w", word.clone(), "x".into(), "x".into()), Some(true));
        assert_eq!(judged("w", word.clone(), "x".into(), "y".into()), Some(false));
        let text = json!({"type": "string", "maxLength": 9});
        assert_eq!(judged("t", text.clone(), "x".into(), "x".into()), None);
        let texts = json!({"type": "array", "maxItems": 2, "items": text});
        assert_eq!(judged("ts", texts.clone(), json!(["x"]), json!(["x"])), None);
        let object = json!({"type": "object", "properties": {"w": word, "t": text, "tempo_bpm": {"type": "integer"}}});
        for (answer, right) in [(("x", 102), true), (("y", 102), false), (("x", 110), false)] {
            let answer = json!({"w": answer.0, "t": "said", "tempo_bpm": answer.1});
            let label = json!({"w": "x", "t": "differently", "tempo_bpm": 100});
            assert_eq!(judged("o", object.clone(), answer, label), Some(right));
        }
        assert_eq!(judged("o", json!({"type": "object", "properties": {"t": text}}), json!({}), json!({})), None);
        let flags = json!({"type": "array", "maxItems": 2, "items": {"type": "boolean"}});
        assert_eq!(judged("f", flags.clone(), json!([true]), json!([true])), Some(true));
        assert_eq!(judged("f", flags, json!([true]), json!([true, false])), Some(false));
    }
}
