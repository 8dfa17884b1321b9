//! Fits and measures against golden values, and on every kind of input.

use std::path::Path;

use proptest::prelude::*;
use serde::Deserialize;
use serde_json::Value;

use super::*;

/// Golden values; see the file.
#[derive(Deserialize)]
struct Golden {
    scores: Vec<f64>,
    correct: Vec<u8>,
    raw: Value,
    temperature: Value,
    platt: Value,
    isotonic: Value,
}

fn golden() -> (Golden, Vec<Scored>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/calibration.json");
    let golden: Golden = serde_json::from_slice(&std::fs::read(path).expect("the golden file")).expect("JSON");
    let scored = golden.scores.iter().zip(&golden.correct).map(|(&score, &right)| judged(score, right == 1)).collect();
    (golden, scored)
}

fn judged(score: f64, right: bool) -> Scored {
    Scored { score: Confidence::try_from(score).expect("a probability"), right }
}

/// A number below `end`, of a linear congruential generator.
fn below(end: usize, state: &mut u64) -> usize {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) as usize % end
}

fn near(found: f64, expected: &Value, tolerance: f64) {
    let expected = expected.as_f64().expect("a golden number");
    assert!((found - expected).abs() < tolerance, "{found}, not {expected}");
}

fn assert_metrics(scored: &[Scored], golden: &Value, tolerance: f64) {
    let metrics = Metrics::of(scored).expect("answers");
    near(metrics.ece, &golden["ece10"], tolerance);
    near(metrics.brier, &golden["brier"], tolerance);
    near(metrics.nll, &golden["nll"], tolerance);
    near(metrics.auroc.expect("both labels"), &golden["auroc"], tolerance);
}

#[test]
fn raw_scores_measure_as_the_golden_values_say() {
    let (golden, scored) = golden();
    assert_metrics(&scored, &golden.raw, 1e-12);
}

#[test]
fn temperature_platt_and_isotonic_give_the_golden_curves() {
    let (golden, scored) = golden();
    let temperature = Temperature::fit(&scored).expect("fitted");
    near(temperature.get(), &golden.temperature["T"], 1e-6);
    assert_metrics(&Curve::Temperature(temperature).apply_all(&scored), &golden.temperature, 1e-6);

    let platt = Platt::fit(&scored).expect("fitted");
    near(platt.slope(), &golden.platt["a"], 1e-6);
    near(platt.offset(), &golden.platt["b"], 1e-6);
    assert_metrics(&Curve::Platt(platt).apply_all(&scored), &golden.platt, 1e-6);

    let isotonic = Isotonic::fit(&scored).expect("fitted");
    let scores = golden.isotonic["unique_scores"].as_array().expect("scores");
    let values = golden.isotonic["values"].as_array().expect("values");
    assert_eq!((scores.len(), values.len()), (400, 400));
    for (score, value) in scores.iter().zip(values) {
        let score = judged(score.as_f64().expect("a score"), true).score;
        near(isotonic.apply(score).get(), value, 1e-12);
    }
    assert_metrics(&Curve::Isotonic(isotonic).apply_all(&scored), &golden.isotonic, 1e-12);
}

#[test]
fn few_labels_get_a_smooth_curve_and_a_thousand_steps() {
    let (_, scored) = golden();
    let name = |scored: &[Scored]| Curve::fit(Method::Auto, scored).expect("fitted").name();
    let thousand: Vec<Scored> = scored.iter().cycle().take(1000).copied().collect();
    assert_eq!((name(&thousand[..999]), name(&thousand)), ("platt", "isotonic"));
    // Too sure on both sides alike: an offset would buy nothing.
    let too_sure: Vec<Scored> =
        (0..200).map(|n| if n % 2 == 0 { judged(0.9, n % 10 != 0) } else { judged(0.1, n % 10 == 1) }).collect();
    assert_eq!(name(&too_sure), "temperature");
}

#[test]
fn equal_scores_are_one_point_and_between_points_the_curve_is_straight() {
    let scored = [(0.2, false), (0.2, true), (0.2, false), (0.2, false), (0.6, true), (0.6, false), (0.8, false)];
    let scored = scored.map(|(score, right)| judged(score, right));
    let curve = Isotonic::fit(&scored).expect("fitted");
    assert_eq!(curve.points(), [[0.2, 0.25], [0.6, 1.0 / 3.0], [0.8, 1.0 / 3.0]]);
    let at = |score: f64| curve.apply(judged(score, true).score).get();
    assert_eq!((at(0.0), at(0.2), at(0.7), at(1.0)), (0.25, 0.25, 1.0 / 3.0, 1.0 / 3.0));
    assert!((at(0.4) - (0.25 + 1.0 / 3.0) / 2.0).abs() < 1e-12);
}

#[test]
fn what_tells_right_from_wrong_by_nothing_is_refused_and_equal_scores_get_the_share_of_right_ones() {
    for method in [Method::Auto, Method::Temperature, Method::Platt, Method::Isotonic] {
        let fit = |scored: &[Scored]| Curve::fit(method, scored);
        assert_eq!(fit(&[]), Err(FitError::Empty));
        for right in [true, false] {
            let same = [judged(0.3, right), judged(0.9, right)];
            assert_eq!(fit(&same), Err(FitError::OneSided { labels: 2, right }));
            assert_eq!(held_out(method, &same), None);
        }
        assert_eq!(held_out(method, &[judged(0.3, true), judged(0.9, false)]), None);
    }
    let equal: Vec<Scored> = (0..8).map(|n| judged(0.9, n < 6)).collect();
    for method in [Method::Temperature, Method::Platt, Method::Isotonic] {
        let curve = Curve::fit(method, &equal).expect("fitted");
        assert!((curve.apply(equal[0].score).get() - 0.75).abs() < 1e-9, "{curve:?}");
    }
    assert_eq!(Metrics::of(&[]), None);
    assert_eq!(Metrics::of(&[judged(0.3, true)]).expect("an answer").auroc, None);
    assert_eq!(Accepted::at(0.5, &[]), Accepted { share: 0.0, accuracy: None });
}

#[test]
fn scores_that_say_the_opposite_of_the_truth_are_not_turned_round() {
    let opposite: Vec<Scored> = (0..100).map(|n| judged(f64::from(n) / 100.0, n < 50)).collect();
    let platt = Platt::fit(&opposite).expect("fitted");
    assert_eq!(platt.slope(), 0.0);
    assert!((platt.apply(judged(0.99, true).score).get() - 0.5).abs() < 1e-9);
    assert_eq!(Isotonic::fit(&opposite).expect("fitted").points(), [[0.0, 0.5], [0.99, 0.5]]);
}

#[test]
fn a_threshold_accepts_from_itself_on_and_the_last_tenth_holds_1() {
    let scored = [(0.8, true), (0.79, true), (1.0, false), (0.1, false)].map(|(score, right)| judged(score, right));
    assert_eq!(Accepted::at(0.8, &scored), Accepted { share: 0.5, accuracy: Some(0.5) });
    let bins = reliability(&scored);
    let counts: Vec<usize> = bins.iter().map(|bin| bin.count).collect();
    assert_eq!(counts, [0, 1, 0, 0, 0, 0, 0, 1, 1, 1]);
    assert_eq!((bins[9].accuracy(), bins[9].mean_score(), bins[0].accuracy()), (Some(0.0), Some(1.0), None));
}

#[test]
fn held_out_scores_do_not_flatter_steps_as_their_own_labels_do() {
    // Scores that say nothing: steps learn the noise, and only held out it shows.
    let mut state = 1;
    let noise: Vec<Scored> = (0..40).map(|n| judged(f64::from(n) / 40.0, below(2, &mut state) == 1)).collect();
    let own = Curve::fit(Method::Isotonic, &noise).expect("fitted").apply_all(&noise);
    let held_out = held_out(Method::Isotonic, &noise).expect("both labels");
    let brier = |scored: &[Scored]| Metrics::of(scored).expect("answers").brier;
    assert_eq!(held_out.len(), noise.len());
    assert!(Metrics::of(&own).expect("answers").ece < 1e-12);
    assert!(brier(&held_out) > brier(&own) + 0.03, "{} {}", brier(&held_out), brier(&own));
}

fn any_scored() -> impl Strategy<Value = Vec<Scored>> {
    let score = prop_oneof![Just(0.0), Just(1.0), Just(0.5), (0u32..=20).prop_map(|n| f64::from(n) / 20.0), 0.0..=1.0];
    prop::collection::vec((score, any::<bool>()).prop_map(|(score, right)| judged(score, right)), 0..60)
}

proptest! {
    #[test]
    fn every_curve_rises_within_the_unit_interval_or_is_refused(scored in any_scored()) {
        for method in [Method::Auto, Method::Temperature, Method::Platt, Method::Isotonic] {
            let Ok(curve) = Curve::fit(method, &scored) else {
                prop_assert!(check(&scored).is_err());
                continue;
            };
            let values: Vec<f64> =
                (0..=1000).map(|n| curve.apply(judged(f64::from(n) / 1000.0, true).score).get()).collect();
            prop_assert!(values.iter().all(|value| (0.0..=1.0).contains(value)), "{curve:?}");
            prop_assert!(values.is_sorted(), "{curve:?}");
        }
    }

    #[test]
    fn no_fit_is_less_likely_or_further_from_its_own_labels_than_the_raw_scores(scored in any_scored()) {
        let raw = Metrics::of(&scored);
        for method in [Method::Auto, Method::Temperature, Method::Platt, Method::Isotonic] {
            let Ok(curve) = Curve::fit(method, &scored) else { continue };
            let (raw, fitted) = (raw.expect("answers"), Metrics::of(&curve.apply_all(&scored)).expect("answers"));
            if method == Method::Isotonic {
                prop_assert!(fitted.ece <= raw.ece + 1e-12 && fitted.ece < 1e-9, "{fitted:?} {raw:?}");
                prop_assert!(fitted.brier <= raw.brier + 1e-12, "{fitted:?} {raw:?}");
            } else {
                prop_assert!(fitted.nll <= raw.nll + 1e-9, "{fitted:?} {raw:?}");
            }
        }
    }

    #[test]
    fn the_order_of_the_labels_changes_nothing(scored in any_scored(), seed in any::<u64>()) {
        let mut shuffled = scored.clone();
        let mut state = seed;
        (1..shuffled.len()).rev().for_each(|n| shuffled.swap(n, below(n + 1, &mut state)));
        for method in [Method::Auto, Method::Temperature, Method::Platt, Method::Isotonic] {
            prop_assert_eq!(Curve::fit(method, &scored), Curve::fit(method, &shuffled));
            prop_assert_eq!(held_out(method, &scored), held_out(method, &shuffled));
        }
    }

    #[test]
    fn a_rising_curve_keeps_who_is_surer(scored in any_scored()) {
        for method in [Method::Temperature, Method::Platt, Method::Isotonic] {
            let Ok(curve) = Curve::fit(method, &scored) else { continue };
            let after = curve.apply_all(&scored);
            for (a, b) in (0..scored.len()).zip(1..scored.len()) {
                let turned = scored[a].score > scored[b].score && after[a].score < after[b].score;
                prop_assert!(!turned, "{curve:?}");
            }
        }
    }
}
