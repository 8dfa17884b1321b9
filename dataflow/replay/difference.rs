//! What a replay came to, beside what there was: by measure, and by field of the metadata.

use std::collections::HashMap;

use operators::compare::{ALPHA, Interval, Metric, Paired, Sequence, TooEarly};
use records::{Branch, Outcome, Pair, PairState, Status};
use serde_json::{Value, json};

/// Kinds of changes of a field that are counted; of the others it is only known how many there were.
const KINDS: usize = 10_000;

/// The most frequent changes that are told.
const TOLD: usize = 3;

/// What is compared. How long an upload waited is not: here it waits for others than it did then.
const MEASURES: [Measure; 7] = [
    Measure::Metric(Metric::SuccessRate),
    Measure::Metric(Metric::FallbackRate),
    Measure::BelowThreshold,
    Measure::Accepted,
    Measure::Metric(Metric::Confidence),
    Measure::Metric(Metric::InferenceMs),
    Measure::Metric(Metric::Cost),
];

/// A number of an outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Measure {
    /// One that experiments compare too.
    Metric(Metric),
    /// Whether the answer was kept although it was less sure than the threshold, of those that have one.
    BelowThreshold,
    /// Whether the self-hosted model's answer was sure enough. Unlike the confidence, all uploads have it: an unsure answer
    /// that the paid model's replaced is not accepted, and how sure it was is not kept.
    Accepted,
}

impl Measure {
    fn as_str(self) -> &'static str {
        match self {
            Self::Metric(metric) => metric.as_str(),
            Self::BelowThreshold => "below_threshold",
            Self::Accepted => "accepted",
        }
    }

    fn of(self, outcome: &Outcome) -> Option<u64> {
        match self {
            Self::Metric(metric) => metric.of(outcome),
            Self::Accepted => Some(u64::from(outcome.branch == Some(Branch::Primary) && !outcome.below_threshold)),
            Self::BelowThreshold => (outcome.status == Status::Completed).then_some(u64::from(outcome.below_threshold)),
        }
    }

    /// The metric that is told in the same unit.
    fn unit(self) -> Metric {
        match self {
            Self::Metric(metric) => metric,
            Self::BelowThreshold | Self::Accepted => Metric::FallbackRate,
        }
    }
}

/// A measure over the uploads that have it in both.
#[derive(Clone, Debug, PartialEq)]
pub struct MeasureRow {
    /// Its name.
    pub name: &'static str,
    /// The metric in whose unit it is.
    pub unit: Metric,
    /// Uploads that have it in both.
    pub uploads: u64,
    /// Of the past, and of the replay; `None` without an upload.
    pub means: Option<[f64; 2]>,
    /// The replay less the past.
    pub difference: Result<Interval, TooEarly>,
}

/// A field over the uploads that have an answer in both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldRow {
    /// Its name.
    pub name: String,
    /// Uploads of which either answer has it.
    pub uploads: u64,
    /// Those whose answers are equal.
    pub equal: u64,
    /// The most frequent changes, the most frequent first.
    pub changes: Vec<Change>,
}

/// A change of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The answer of the past; null where it had none.
    pub from: Value,
    /// The replay's.
    pub to: Value,
    /// Uploads.
    pub uploads: u64,
}

/// A replay beside the past. Memory is that of the fields' different changes, of which 10,000 a field are counted.
#[derive(Clone, Debug)]
pub struct Difference {
    /// By state: compared, open, audio gone, no event.
    states: [u64; 4],
    measures: [Paired; MEASURES.len()],
    fields: Vec<Field>,
    sequence: Sequence,
}

#[derive(Clone, Debug)]
struct Field {
    name: String,
    uploads: u64,
    equal: u64,
    /// By the two answers as JSON.
    changes: HashMap<[String; 2], u64>,
}

impl Difference {
    /// Nothing yet, of a run of so many uploads.
    pub fn new(uploads: u64) -> Self {
        Self::with(Sequence::new(ALPHA, uploads))
    }

    /// Nothing yet, with intervals of this kind.
    pub fn with(sequence: Sequence) -> Self {
        Self { states: [0; 4], measures: Default::default(), fields: Vec::new(), sequence }
    }

    /// Adds an upload.
    pub fn add(&mut self, pair: &Pair) {
        let state = pair.state();
        self.states[state as usize] += 1;
        let (PairState::Compared, Some(replay)) = (state, &pair.replay) else { return };
        for (measure, sums) in MEASURES.iter().zip(&mut self.measures) {
            if let (Some(before), Some(after)) = (measure.of(&pair.original), measure.of(replay)) {
                sums.add(before, after);
            }
        }
        if let Some([before, after]) = pair.answered() {
            let only_after = after.metadata.keys().filter(|name| !before.metadata.contains_key(*name));
            for name in before.metadata.keys().chain(only_after) {
                let value = |outcome: &Outcome| outcome.metadata.get(name).cloned().unwrap_or_default();
                self.field(name).add(&value(before), &value(after));
            }
        }
    }

    fn field(&mut self, name: &str) -> &mut Field {
        let place = self.fields.iter().position(|field| field.name == name).unwrap_or_else(|| {
            let name = name.to_owned();
            self.fields.push(Field { name, uploads: 0, equal: 0, changes: HashMap::new() });
            self.fields.len() - 1
        });
        &mut self.fields[place]
    }

    /// Uploads in a state.
    pub fn uploads(&self, state: PairState) -> u64 {
        self.states[state as usize]
    }

    /// By measure.
    pub fn measures(&self) -> impl Iterator<Item = MeasureRow> {
        MEASURES.iter().zip(&self.measures).map(|(measure, sums)| {
            let (unit, scale) = (measure.unit(), measure.unit().scale() as f64);
            let in_unit = |it: Interval| Interval {
                difference: it.difference / scale,
                variance: it.variance / (scale * scale),
                low: it.low / scale,
                high: it.high / scale,
            };
            MeasureRow {
                name: measure.as_str(),
                unit,
                uploads: sums.pairs(),
                means: sums.means().map(|means| means.map(|mean| mean / scale)),
                difference: sums.difference(&self.sequence).map(in_unit),
            }
        })
    }

    /// By field, in the order of the schema.
    pub fn fields(&self) -> impl Iterator<Item = FieldRow> {
        self.fields.iter().map(Field::row)
    }

    /// All of it as an object.
    pub fn to_json(&self) -> Value {
        let measure = |row: MeasureRow| {
            let interval = row.difference.as_ref().ok().map(|it| json!([it.low, it.high]));
            let [original, replay] = row.means.map_or([None; 2], |means| means.map(Some));
            json!({
                "measure": row.name, "uploads": row.uploads, "original": original, "replay": replay,
                "difference": row.means.map(|[before, after]| after - before), "interval": interval,
            })
        };
        let change = |it: &Change| json!({ "from": it.from, "to": it.to, "uploads": it.uploads });
        let field = |row: FieldRow| {
            let changes: Vec<Value> = row.changes.iter().map(change).collect();
            json!({ "field": row.name, "uploads": row.uploads, "equal": row.equal, "changes": changes })
        };
        json!({
            "uploads": self.states.iter().sum::<u64>(),
            "compared": self.uploads(PairState::Compared), "open": self.uploads(PairState::Open),
            "audio_gone": self.uploads(PairState::AudioGone), "no_event": self.uploads(PairState::NoEvent),
            "confidence_level": 1.0 - self.sequence.alpha(),
            "measures": self.measures().map(measure).collect::<Vec<_>>(),
            "fields": self.fields().map(field).collect::<Vec<_>>(),
        })
    }
}

impl Field {
    fn add(&mut self, before: &Value, after: &Value) {
        self.uploads += 1;
        if before == after {
            self.equal += 1;
            return;
        }
        let change = [before.to_string(), after.to_string()];
        if self.changes.contains_key(&change) || self.changes.len() < KINDS {
            *self.changes.entry(change).or_default() += 1;
        }
    }

    fn row(&self) -> FieldRow {
        let mut changes: Vec<_> = self.changes.iter().collect();
        changes.sort_unstable_by(|(one, often), (other, as_often)| as_often.cmp(often).then(one.cmp(other)));
        let value = |text: &str| serde_json::from_str(text).expect("it was written as JSON");
        let change = |([from, to], uploads): (&[String; 2], &u64)| Change {
            from: value(from),
            to: value(to),
            uploads: *uploads,
        };
        FieldRow {
            name: self.name.clone(),
            uploads: self.uploads,
            equal: self.equal,
            changes: changes.into_iter().take(TOLD).map(change).collect(),
        }
    }
}
