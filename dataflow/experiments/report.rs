//! What came of an experiment so far, worked out of the log of outcomes.

use std::collections::HashMap;

use connectors::store::{ArmStop, Store, StoredExperiment};
use operators::compare::{Case, Guardrail, Interval, Metric, Pair, Point, Tally, TooEarly, Verdict, mismatch};
use records::UtcMicros;
use serde_json::{Value, json};

use super::{Definition, ExperimentError};
use crate::replay::Difference;

/// Outcomes that are read at once.
const PAGE: usize = 1_000;

const DAY_US: f64 = 86_400e6;

/// An experiment's comparisons.
#[derive(Clone, Debug)]
pub struct Report {
    /// Its definition.
    pub definition: Definition,
    /// Whatever arrived before has its outcome, and counts; what arrived later does not yet.
    pub complete_until: UtcMicros,
    /// Each arm beside the control.
    pub comparisons: Vec<Comparison>,
    /// How the differences went.
    pub course: Vec<Point>,
    /// Each shadow beside the control, over the same uploads.
    pub shadows: Vec<ShadowReport>,
}

/// A shadow beside the control.
#[derive(Clone, Debug)]
pub struct ShadowReport {
    /// Its name.
    pub name: String,
    /// The control's uploads that it was asked about, or will be: the control's outcome is the original.
    pub difference: Difference,
}

/// An arm beside the control.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// The arm.
    pub arm: String,
    /// When and why it was stopped.
    pub stop: Option<ArmStop>,
    /// Of the control and of the arm.
    pub units: [u64; 2],
    /// Of the control and of the arm.
    pub uploads: [u64; 2],
    /// The p-value of the split.
    pub mismatch: f64,
    /// Each metric.
    pub rows: Vec<Row>,
    /// Each guardrail, with the interval that breaks it.
    pub guardrails: Vec<(Guardrail, Option<Interval>)>,
    /// What may be said.
    pub verdict: Verdict,
    /// The same in words.
    pub says: String,
}

/// A metric of a comparison.
#[derive(Clone, Debug)]
pub struct Row {
    /// The metric.
    pub metric: Metric,
    /// Of the control and of the arm; `None` where no upload has a value.
    pub means: [Option<f64>; 2],
    /// The arm less the control.
    pub difference: Result<Interval, TooEarly>,
}

/// Reads the experiment's outcomes, page by page, and compares its arms. Memory is that of its units.
///
/// # Errors
/// [`ExperimentError`].
pub async fn report(store: &Store, stored: &StoredExperiment, now: UtcMicros) -> Result<Report, ExperimentError> {
    let definition = Definition::of(stored)?;
    // Before the log is read: an upload that ends meanwhile may be missing in it, and must not be taken for absent.
    let complete_until = store.oldest_open(stored.starts_at).await?.unwrap_or(now);
    let entrants = definition.entrants(&stored.stops);
    let mut tally = Tally::new(definition.unit(), entrants, definition.sequence(), complete_until);
    let new = |it| (definition.shadow(it), Difference::with(definition.sequence()));
    let mut shadows: Vec<_> = definition.shadows.iter().map(new).collect();
    let mut after = 0;
    loop {
        let page = store.outcomes_of(&stored.name, after, PAGE).await?;
        let (Some((first, _)), Some((last, _))) = (page.first(), page.last()) else { break };
        after = *last;
        page.iter().for_each(|(_, outcome)| tally.add(outcome));
        if shadows.is_empty() {
            continue;
        }
        let said = store.shadow_outcomes(&stored.name, *first..=*last).await?.into_iter();
        let mut said: HashMap<_, _> = said.map(|(seq, outcome)| ((seq, outcome.arm.clone()), outcome)).collect();
        for (shadow, difference) in &mut shadows {
            for (seq, original) in page.iter().filter(|(_, outcome)| shadow.takes(outcome)) {
                let replay = said.remove(&(*seq, Some(shadow.arm.name.clone())));
                difference.add(&records::Pair { original: original.clone(), replay });
            }
        }
    }
    let shadows = shadows.into_iter().map(|(it, difference)| ShadowReport { name: it.arm.name, difference }).collect();
    let end = stored.end().map_or(now, |end| end.min(now));
    let days = end.0.saturating_sub(stored.starts_at.0) as f64 / DAY_US;
    let comparisons = tally.pairs().map(|pair| compare(&definition, pair, &tally, stored, days)).collect();
    Ok(Report { comparisons, course: tally.course().to_vec(), complete_until, shadows, definition })
}

fn compare(definition: &Definition, pair: Pair<'_>, tally: &Tally, stored: &StoredExperiment, days: f64) -> Comparison {
    let arms = [pair.control, pair.treatment];
    let (units, uploads) = (arms.map(|arm| arm.units()), arms.map(|arm| arm.uploads()));
    let row = |metric: Metric| Row {
        metric,
        means: arms.map(|arm| arm.of(metric).mean()),
        difference: tally.sequence().difference(pair.control.of(metric), pair.treatment.of(metric)),
    };
    let guardrail = |it: Guardrail| {
        let sums = arms.map(|arm| arm.of(it.metric));
        (it, it.breach(&definition.guardrail_sequence(), sums[0], sums[1]))
    };
    let mismatch = mismatch(&units, &pair.weights);
    let metric = definition.metric;
    let case = Case { metric, smallest_difference: definition.smallest_difference, days };
    let counted = arms.map(|arm| arm.of(metric).uploads()).iter().sum();
    let verdict = case.judge(tally.sequence(), mismatch, row(metric).difference, counted);
    Comparison {
        arm: pair.entrant.name.clone(),
        stop: stored.stops.iter().find(|stop| stop.arm == pair.entrant.name).cloned(),
        units,
        uploads,
        mismatch,
        rows: Metric::ALL.into_iter().map(row).collect(),
        guardrails: definition.guardrails().map(guardrail).collect(),
        says: case.say(&verdict, &pair.entrant.name),
        verdict,
    }
}

impl Report {
    /// The name of the control.
    pub fn control(&self) -> &str {
        &self.definition.arms[0].name
    }

    /// One object a comparison, and one a shadow.
    pub fn to_json(&self) -> Vec<Value> {
        let interval = |it: &Interval| json!({ "difference": it.difference, "low": it.low, "high": it.high });
        let row = |row: &Row| {
            let [control, treatment] = row.means;
            json!({
                "metric": row.metric.as_str(), "control": control, "treatment": treatment,
                "difference": row.difference.as_ref().ok().map(interval),
                "too_early": row.difference.as_ref().err().map(ToString::to_string),
            })
        };
        let guardrail = |(it, breach): &(Guardrail, Option<Interval>)| json!({ "metric": it.metric.as_str(), "limit": it.limit, "broken_by": breach.as_ref().map(interval) });
        let object = |it: &Comparison| {
            json!({
                "experiment": self.definition.name, "complete_until": self.complete_until,
                "control": { "arm": self.control(), "units": it.units[0], "uploads": it.uploads[0] },
                "treatment": { "arm": it.arm, "units": it.units[1], "uploads": it.uploads[1] },
                "stopped": it.stop.as_ref().map(|stop| json!({ "at": stop.stopped_at, "reason": stop.reason })),
                "confidence_level": 1.0 - self.definition.sequence().alpha(),
                "split_p_value": it.mismatch,
                "metrics": it.rows.iter().map(row).collect::<Vec<_>>(),
                "guardrails": it.guardrails.iter().map(guardrail).collect::<Vec<_>>(),
                "decisive_metric": self.definition.metric.as_str(), "verdict": verdict(&it.verdict), "says": it.says,
            })
        };
        let shadow = |it: &ShadowReport| {
            let mut object = it.difference.to_json();
            object["experiment"] = self.definition.name.as_str().into();
            object["control"] = self.control().into();
            object["shadow"] = it.name.as_str().into();
            object
        };
        self.comparisons.iter().map(object).chain(self.shadows.iter().map(shadow)).collect()
    }
}

/// A verdict's name.
pub(super) fn verdict(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Mismatch(_) => "mismatch",
        Verdict::TooEarly(_) => "too_early",
        Verdict::Better(..) => "better",
        Verdict::Worse(..) => "worse",
        Verdict::Alike(_) => "alike",
        Verdict::Undecided { .. } => "undecided",
    }
}
