//! The difference of a replay beside one that is worked out plainly.

use std::collections::BTreeMap;

use operators::compare::ALPHA;
use proptest::prelude::*;
use records::{Branch, Confidence, ErrorType, MicroUsd, Outcome, Pair, PairState, Status};
use serde_json::{Value, json};
use tidemark::replay::Difference;

use crate::make::{START, completed, dead_lettered};

fn sure(number: u8) -> Confidence {
    Confidence::try_from(f64::from(number) / 255.0).expect("a probability")
}

/// An outcome with these numbers.
fn outcome(number: u64, (dead, answer, confidence, ms): (bool, u8, u8, u64)) -> Outcome {
    if dead {
        let error_type = [ErrorType::Model, ErrorType::AudioUnreachable][usize::from(confidence > 200)];
        return Outcome { error_type: Some(error_type), below_threshold: false, ..dead_lettered(number, 1, START) };
    }
    let genre = ["rock", "jazz", "blues"][usize::from(answer % 3)];
    let mut metadata = json!({ "genre": genre, "tempo_bpm": 100 + answer / 128 });
    if answer > 250 {
        metadata.as_object_mut().expect("an object").remove("tempo_bpm");
    }
    Outcome {
        metadata: metadata.as_object().cloned().expect("an object"),
        confidence: (answer != 77).then(|| sure(confidence)),
        below_threshold: confidence < 100,
        inference_ms: ms,
        cost_micro_usd: MicroUsd(u64::from(confidence)),
        ..completed(number, 1, START)
    }
}

/// The mean of a number over the pairs that have it twice: before, after, and the interval of the difference.
fn naive(pairs: &[(Outcome, Outcome)], planned: u64, of: impl Fn(&Outcome) -> Option<f64>) -> (usize, f64, f64, f64) {
    let values: Vec<(f64, f64)> = pairs.iter().filter_map(|(one, other)| Some((of(one)?, of(other)?))).collect();
    let n = values.len() as f64;
    let (before, after) =
        (values.iter().map(|it| it.0).sum::<f64>() / n, values.iter().map(|it| it.1).sum::<f64>() / n);
    let squares = values.iter().map(|it| (it.1 - it.0 - (after - before)).powi(2)).sum::<f64>();
    let boundary = {
        // The definition of the boundary, tightest at what was planned.
        let twice_log = -2.0 * ALPHA.ln();
        let best = (0..200).fold(twice_log, |x, _| x.ln_1p() + twice_log);
        let x = n * best / planned as f64;
        (1.0 + 1.0 / x) * (x.ln_1p() + twice_log)
    };
    (values.len(), before, after, (squares / (n - 1.0) / n * boundary).sqrt())
}

fn close(one: f64, other: f64) -> bool {
    (one - other).abs() <= 1e-6 * one.abs().max(1e-3)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn the_difference_is_that_of_its_definition(
        values in proptest::collection::vec(
            proptest::array::uniform2((proptest::bool::weighted(0.2), any::<u8>(), any::<u8>(), 0u64..3_000)), 2..120,
        ),
    ) {
        let all: Vec<(Outcome, Outcome)> =
            (0..).zip(&values).map(|(number, [one, other])| (outcome(number, *one), outcome(number, *other))).collect();
        let planned = all.len() as u64;
        let mut difference = Difference::new(planned);
        for (original, replay) in all.clone() {
            difference.add(&Pair { original, replay: Some(replay) });
        }
        let is_gone = |outcome: &Outcome| outcome.error_type == Some(ErrorType::AudioUnreachable);
        let compared: Vec<_> = all.iter().filter(|(_, replay)| !is_gone(replay)).cloned().collect();
        prop_assert_eq!(difference.uploads(PairState::Compared), compared.len() as u64);
        prop_assert_eq!(difference.uploads(PairState::AudioGone), (all.len() - compared.len()) as u64);

        let has_answer = |outcome: &Outcome| outcome.status == Status::Completed;
        for row in difference.measures() {
            let (count, before, after, half) = naive(&compared, planned, |outcome| match row.name {
                "success_rate" => Some(f64::from(u8::from(has_answer(outcome)))),
                "fallback_rate" => Some(0.0),
                "below_threshold" => has_answer(outcome).then(|| f64::from(u8::from(outcome.below_threshold))),
                "accepted" => {
                    let is_accepted = outcome.branch == Some(Branch::Primary) && !outcome.below_threshold;
                    Some(f64::from(u8::from(is_accepted)))
                }
                "confidence" => outcome.confidence.map(|sure| (sure.get() * 1e6).round() / 1e6),
                "inference_ms" => has_answer(outcome).then_some(outcome.inference_ms as f64),
                "cost" => Some(outcome.cost_micro_usd.0 as f64 / 1e6),
                other => panic!("{other} is unknown here"),
            });
            prop_assert_eq!(row.uploads, count as u64, "{}", row.name);
            let Some([original, replay]) = row.means else { prop_assert_eq!(count, 0); continue };
            prop_assert!(close(original, before) && close(replay, after), "{row:?}");
            if let Ok(it) = row.difference {
                prop_assert!(close(it.difference, after - before), "{it:?} {before} {after}");
                prop_assert!(close(it.high - it.low, 2.0 * half), "{row:?} {half}");
            }
        }

        let answered: Vec<_> = compared.iter().filter(|(one, other)| has_answer(one) && has_answer(other)).collect();
        let rows: BTreeMap<String, _> = difference.fields().map(|row| (row.name.clone(), row)).collect();
        for field in ["genre", "tempo_bpm"] {
            let mut changes: BTreeMap<String, u64> = BTreeMap::new();
            let (mut uploads, mut equal) = (0, 0);
            for (one, other) in &answered {
                let value = |outcome: &Outcome| outcome.metadata.get(field).cloned();
                match (value(one), value(other)) {
                    (None, None) => continue,
                    (one, other) if one == other => equal += 1,
                    (one, other) => {
                        let change = json!([one.unwrap_or(Value::Null), other.unwrap_or(Value::Null)]);
                        *changes.entry(change.to_string()).or_default() += 1;
                    }
                }
                uploads += 1;
            }
            let Some(row) = rows.get(field) else { prop_assert_eq!(uploads, 0); continue };
            prop_assert_eq!((row.uploads, row.equal), (uploads, equal), "{}", field);
            let mut most: Vec<u64> = changes.values().copied().collect();
            most.sort_unstable_by(|one, other| other.cmp(one));
            let told: Vec<u64> = row.changes.iter().map(|change| change.uploads).collect();
            prop_assert_eq!(&told[..], &most[..most.len().min(3)]);
            for change in &row.changes {
                prop_assert_eq!(changes.get(&json!([change.from, change.to]).to_string()), Some(&change.uploads));
            }
        }
    }
}

#[test]
fn of_changes_without_end_the_first_kinds_are_counted_and_every_upload_is() {
    let mut difference = Difference::new(20_000);
    for number in 0..20_000 {
        // Every other upload changes as the first one did, all others in a way of their own.
        let kind = if number % 2 == 0 { 0 } else { number };
        let of = |tempo: u64| {
            let metadata = json!({ "tempo_bpm": tempo }).as_object().cloned().expect("an object");
            Outcome { metadata, ..completed(number, 1, START) }
        };
        difference.add(&Pair { original: of(kind), replay: Some(of(kind + 1)) });
    }
    let row = difference.fields().next().expect("a field");
    assert_eq!((row.uploads, row.equal, row.changes.len()), (20_000, 0, 3));
    assert_eq!((&row.changes[0].from, row.changes[0].uploads), (&json!(0), 10_000));
}
