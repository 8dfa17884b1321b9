//! One answer from those of an upload's segments.

use std::collections::BTreeMap;

use records::{Confidence, Metadata};

/// What was said about a segment, or about all of them.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Described {
    pub(super) metadata: Metadata,
    pub(super) confidence: BTreeMap<String, Confidence>,
}

/// Each field as the segment that is surest of it says it, the earliest of equals. A list is taken whole, as its
/// confidence is that of the whole list. `None` without a segment.
pub(super) fn merge(segments: impl IntoIterator<Item = Described>) -> Option<Described> {
    segments.into_iter().reduce(|mut best, other| {
        for (field, value) in other.metadata {
            let (found, sure) = (best.confidence.get(&field), other.confidence.get(&field));
            if let Some(&sure) = sure.filter(|sure| found.is_none_or(|found| *sure > found)) {
                best.confidence.insert(field.clone(), sure);
                best.metadata.insert(field, value);
            }
        }
        best
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(fields: &[(&str, serde_json::Value, f64)]) -> Described {
        let confidence = |number: f64| Confidence::try_from(number).expect("a probability");
        Described {
            metadata: fields.iter().map(|(field, value, _)| ((*field).to_owned(), value.clone())).collect(),
            confidence: fields.iter().map(|(field, _, number)| ((*field).to_owned(), confidence(*number))).collect(),
        }
    }

    #[test]
    fn each_field_comes_from_the_segment_that_is_surest_of_it_and_the_earliest_of_equals() {
        let segments = [
            described(&[
                ("genre", "rock".into(), 0.5),
                ("tempo_bpm", 90.into(), 0.7),
                ("instruments", vec!["drums"].into(), 0.2),
            ]),
            described(&[
                ("genre", "jazz".into(), 0.6),
                ("tempo_bpm", 91.into(), 0.7),
                ("instruments", vec!["bass"].into(), 0.3),
            ]),
            described(&[
                ("genre", "folk".into(), 0.1),
                ("tempo_bpm", 92.into(), 0.0),
                ("instruments", vec!["reed"].into(), 0.1),
            ]),
        ];
        let merged = merge(segments).expect("segments");
        let expected = described(&[
            ("genre", "jazz".into(), 0.6),
            ("tempo_bpm", 90.into(), 0.7),
            ("instruments", vec!["bass"].into(), 0.3),
        ]);
        assert_eq!(merged, expected);
        assert_eq!(merged.metadata.keys().collect::<Vec<_>>(), ["genre", "tempo_bpm", "instruments"]);
    }

    #[test]
    fn one_segment_is_its_own_answer_and_none_is_no_answer() {
        let only = described(&[("genre", "rock".into(), 0.0)]);
        assert_eq!(merge([only.clone()]), Some(only));
        assert_eq!(merge([]), None);
    }
}
