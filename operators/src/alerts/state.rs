//! What becomes of an alert: inactive, pending, firing, resolved.

use std::collections::BTreeMap;

use records::{Alert, AlertPhase, Notice, UtcMicros};

use super::{Metric, Reading, Rule};

/// The alert that a reading makes of the one before; `None` where it stands as it stood. A change into [`AlertPhase::Firing`] or
/// [`AlertPhase::Resolved`] carries what is to be told.
pub fn next(before: Option<&Alert>, rule: &Rule, reading: Reading, now: UtcMicros) -> Option<Alert> {
    let (was, since) = before.map_or((AlertPhase::Inactive, UtcMicros(0)), |it| (it.phase, it.since));
    let is_passed = rule.is_passed(reading, was == AlertPhase::Firing);
    let is_held = |since: UtcMicros| now.ms_since(since) >= u64::from(rule.hold_s) * 1000;
    let becomes = match (was, is_passed) {
        (AlertPhase::Inactive | AlertPhase::Resolved, true) if is_held(now) => AlertPhase::Firing,
        (AlertPhase::Inactive | AlertPhase::Resolved, true) => AlertPhase::Pending,
        (AlertPhase::Pending, true) if is_held(since) => AlertPhase::Firing,
        (AlertPhase::Pending, false) => AlertPhase::Inactive,
        (AlertPhase::Firing, false) => AlertPhase::Resolved,
        (AlertPhase::Inactive | AlertPhase::Resolved, false) | (AlertPhase::Pending | AlertPhase::Firing, true) => {
            return None;
        }
    };
    let since = after(since, now);
    let told = before.and_then(|it| it.notice.clone());
    let notice = match becomes {
        AlertPhase::Firing => Some(Notice {
            labels: labels(rule),
            annotations: annotations(rule, reading),
            starts_at: since,
            ends_at: None,
        }),
        // By the labels under which it fired, whatever the rule says by now.
        AlertPhase::Resolved => {
            told.map(|told| Notice { annotations: annotations(rule, reading), ends_at: Some(since), ..told })
        }
        AlertPhase::Inactive | AlertPhase::Pending => told,
    };
    Some(Alert { name: rule.name.clone(), phase: becomes, since, notice })
}

/// What becomes of an alert that has no rule any more: whoever was told that it fires is told that it does not.
pub fn end(before: &Alert, now: UtcMicros) -> Option<Alert> {
    let since = after(before.since, now);
    let (phase, notice) = match before.phase {
        AlertPhase::Inactive | AlertPhase::Resolved => return None,
        AlertPhase::Pending => (AlertPhase::Inactive, before.notice.clone()),
        AlertPhase::Firing => {
            let annotations = BTreeMap::from([("summary".to_owned(), "the alert is not defined any more".to_owned())]);
            let notice = before.notice.clone().map(|told| Notice { annotations, ends_at: Some(since), ..told });
            (AlertPhase::Resolved, notice)
        }
    };
    Some(Alert { phase, since, notice, ..before.clone() })
}

/// Now, or a moment after the change before it: no two changes have one time, even where a clock goes back.
fn after(before: UtcMicros, now: UtcMicros) -> UtcMicros {
    UtcMicros(now.0.max(before.0 + 1))
}

fn labels(rule: &Rule) -> BTreeMap<String, String> {
    let own = [("alertname", rule.name.clone()), ("severity", rule.severity.to_string())];
    own.into_iter().chain(rule.filter.labels()).map(|(name, value)| (name.to_owned(), value)).collect()
}

fn annotations(rule: &Rule, reading: Reading) -> BTreeMap<String, String> {
    let Rule { metric, limit, window_s, .. } = rule;
    // Six digits behind the point are more than anybody reads.
    let value = reading.value.map(|value| ((value * 1e6).round() / 1e6).to_string());
    let is = value.as_ref().map_or("has no value".to_owned(), |value| format!("is {value}"));
    let summary = match metric {
        Metric::Queue => format!("{metric} {is} (limit: {limit})"),
        Metric::Window(_) => {
            format!("{metric} {is} over {} requests of the last {window_s} s (limit: {limit})", reading.requests)
        }
    };
    [("summary", Some(summary)), ("value", value)]
        .into_iter()
        .filter_map(|(name, text)| Some((name.to_owned(), text?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::alerts::{Filter, Limit, rule};

    const START: u64 = 1_790_000_000_000_000;

    fn watched(hold_s: u32) -> Rule {
        Rule { hold_s, ..rule::tests::rule("error_rate", Limit::Above(0.05)) }
    }

    fn reading(is_passed: bool) -> Reading {
        Reading { value: Some(if is_passed { 0.5 } else { 0.0 }), requests: 100 }
    }

    /// Whether it has to fire at the last of these looks: the limit was passed at each look for long enough, or has been since it was.
    fn has_to_fire(looks: &[(UtcMicros, bool)], hold_s: u32) -> bool {
        let begin = looks.iter().rposition(|(_, is_passed)| !is_passed).map_or(0, |last| last + 1);
        let run = &looks[begin..];
        let (Some(first), Some(last)) = (run.first(), run.last()) else { return false };
        last.0.ms_since(first.0) >= u64::from(hold_s) * 1000
    }

    proptest! {
        #[test]
        fn each_change_is_told_once_and_none_is_left_out(
            steps in prop::collection::vec((1_u64..8_000, prop::bool::weighted(0.6)), 1..120),
            hold_s in 0_u32..15,
        ) {
            let (rule, mut alert, mut now) = (watched(hold_s), None::<Alert>, UtcMicros(START));
            let (mut looks, mut told, mut fired) = (Vec::new(), Vec::<Notice>::new(), false);
            for (ms, is_passed) in steps {
                now = now.plus_ms(ms);
                looks.push((now, is_passed));
                let before = alert.clone();
                if let Some(after) = next(alert.as_ref(), &rule, reading(is_passed), now) {
                    prop_assert!(before.is_none_or(|before| before.since < after.since && before.phase != after.phase));
                    if after.phase.is_told() {
                        told.push(after.notice.clone().expect("a change that is told has its notice"));
                    }
                    alert = Some(after);
                }
                let fires = has_to_fire(&looks, hold_s);
                let phase = alert.as_ref().map_or(AlertPhase::Inactive, |it| it.phase);
                prop_assert_eq!(phase == AlertPhase::Firing, fires, "{:?}", looks);
                prop_assert_eq!(phase == AlertPhase::Pending, is_passed && !fires);
                // What is told follows from what fires, and nothing else is told.
                if fires != fired {
                    let last = told.last().expect("it is told");
                    prop_assert_eq!(last.phase(), phase);
                    fired = fires;
                }
                prop_assert_eq!(told.len() % 2 == 1, fires, "told in turns: {:?}", told);
            }
            for pair in told.chunks(2) {
                prop_assert_eq!(pair[0].ends_at, None);
                let Some(resolved) = pair.get(1) else { continue };
                prop_assert_eq!((resolved.starts_at, &resolved.labels), (pair[0].starts_at, &pair[0].labels));
                prop_assert_eq!(resolved.fingerprint(), pair[0].fingerprint());
                prop_assert!(resolved.ends_at.is_some_and(|end| end > resolved.starts_at));
            }
            prop_assert!(told.chunks(2).is_sorted_by(|one, other| one[0].starts_at < other[0].starts_at));
        }

        #[test]
        fn a_clock_that_goes_back_gives_no_two_changes_one_time(
            steps in prop::collection::vec((-5_000_i64..8_000, any::<bool>()), 1..60)
        ) {
            let (rule, mut alert, mut now) = (watched(0), None::<Alert>, UtcMicros(START));
            for (ms, is_passed) in steps {
                now = UtcMicros(now.0.saturating_add_signed(ms * 1000));
                if let Some(after) = next(alert.as_ref(), &rule, reading(is_passed), now) {
                    prop_assert!(alert.is_none_or(|before| before.since < after.since));
                    alert = Some(after);
                }
            }
        }
    }

    #[test]
    fn a_flap_shorter_than_the_hold_tells_nobody() {
        let (rule, mut alert) = (watched(10), None);
        for second in 0..100 {
            let now = UtcMicros(START).plus_ms(second * 1000);
            if let Some(after) = next(alert.as_ref(), &rule, reading(second % 9 != 0), now) {
                assert!(!after.phase.is_told(), "{after:?}");
                alert = Some(after);
            }
        }
        assert_eq!(alert.map(|it| it.phase), Some(AlertPhase::Inactive));
    }

    #[test]
    fn what_fired_under_labels_is_resolved_under_them_though_its_rule_has_others_or_is_gone() {
        let now = UtcMicros(START);
        let firing = next(None, &watched(0), reading(true), now).expect("it fires");
        let fired = firing.notice.clone().expect("a notice");
        let changed = Rule {
            severity: records::Severity::Critical,
            filter: Filter { lane: Some(records::Lane::High), ..Filter::default() },
            ..watched(0)
        };
        let resolved = next(Some(&firing), &changed, reading(false), now.plus_ms(1)).expect("it is resolved");
        let gone = end(&firing, now.plus_ms(1)).expect("it is resolved");
        for after in [&resolved, &gone] {
            let notice = after.notice.as_ref().expect("a notice");
            assert_eq!((after.phase, notice.phase()), (AlertPhase::Resolved, AlertPhase::Resolved));
            assert_eq!((&notice.labels, notice.starts_at), (&fired.labels, fired.starts_at));
        }
        assert_eq!(end(&gone, now.plus_ms(2)), None);
        let again = next(Some(&resolved), &changed, reading(true), now.plus_ms(2)).expect("it fires anew");
        assert_ne!(again.notice.expect("a notice").fingerprint(), fired.fingerprint());
    }
}
