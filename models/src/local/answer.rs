//! The engine's thread: heard requests in, annotations out.

use std::collections::BTreeMap;
use std::sync::Arc;

use records::{Annotation, ErrorType, Fault, MicroUsd, UtcMicros};

use super::Clock;
use super::desk::{Desk, Heard, Job};
use super::merge::{Described, merge};
use crate::confidence::{by_field, overall};
use crate::engine::{Ended, Engine, Rates, Urgency};
use crate::grammar::{AnswerGrammar, GrammarChooser};
use crate::qwen2_audio::Qwen2Audio;
use crate::schema::MetadataSchema;
use crate::{Late, ModelError};

/// The model with what turns its tokens into annotations.
pub(super) struct Describer {
    pub(super) model: Qwen2Audio,
    pub(super) grammar: AnswerGrammar,
    pub(super) schema: Arc<MetadataSchema>,
    pub(super) name: String,
    pub(super) clock: Clock,
    /// Rows that are answered together.
    pub(super) most_rows: usize,
}

/// A request in the engine: by segment, what was said about it.
struct Open {
    job: Job,
    segments: Vec<Option<Described>>,
    /// When the engine began to work on it.
    begun: Option<UtcMicros>,
}

/// The requests in the engine by their number. A row's key is its request's number and its segment.
#[derive(Default)]
struct Requests {
    open: BTreeMap<u64, Open>,
    next: u64,
    rates: Rates,
}

/// More segments than an upload has.
const SEGMENTS: u64 = 1 << 20;

impl Describer {
    /// An engine for the model.
    ///
    /// # Errors
    /// [`ModelError::Torch`] for want of memory.
    pub(super) fn engine(&self, kv_bytes: usize) -> Result<Engine<'_, GrammarChooser>, ModelError> {
        Engine::new(&self.model, self.most_rows, kv_bytes)
    }

    /// Answers until the desk is closed, or the device works no longer.
    pub(super) fn answer(&self, desk: &Desk, mut engine: Engine<'_, GrammarChooser>) {
        let mut requests = Requests::default();
        while !desk.is_closed() && !engine.is_broken() {
            if engine.is_idle() {
                let Some(heard) = desk.wait_for_heard() else { return };
                self.begin(heard, &mut requests, &mut engine);
            }
            // What waits here has left the desk's line, so it is little, but for what may overtake it.
            while let Some(heard) = desk.heard_due_before(engine.full_until()) {
                self.begin(heard, &mut requests, &mut engine);
            }
            let before = (self.clock)();
            requests.refuse_late(before, &self.name, &mut engine);
            let ended = engine.step();
            let took = (self.clock)().0.saturating_sub(before.0) as f64 / 1e6;
            requests.rates.learn_step(&engine.work(), took);
            requests.note_begun(before, &engine);
            for ended in ended {
                self.end(ended, &mut requests, &mut engine);
            }
            requests.forget_given_up(&mut engine);
        }
    }

    fn begin(&self, Heard { job, rows }: Heard, requests: &mut Requests, engine: &mut Engine<'_, GrammarChooser>) {
        if rows.is_empty() {
            return job.end(Err(Fault::permanent(ErrorType::AudioTooShort, "there is nothing to hear")));
        }
        let number = requests.next;
        requests.next += 1;
        let urgency = Urgency { lane: job.request.lane, deadline: job.request.deadline };
        requests.open.insert(number, Open { job, segments: rows.iter().map(|_| None).collect(), begun: None });
        for (segment, row) in (0..).zip(rows) {
            engine.add(number * SEGMENTS + segment, row, self.grammar.chooser(), urgency);
        }
    }

    /// Notes what was said about a segment. The last one ends its request, and so does the first that fails.
    fn end(
        &self,
        (key, result): Ended<GrammarChooser>,
        requests: &mut Requests,
        engine: &mut Engine<'_, GrammarChooser>,
    ) {
        let (number, segment) = (key / SEGMENTS, (key % SEGMENTS) as usize);
        let Some(open) = requests.open.get_mut(&number) else { return };
        if let Ok((generated, _)) = &result {
            requests.rates.learn_answer(generated.passes());
        }
        match result.and_then(|(_, chooser)| self.read(chooser)) {
            Ok(described) => open.segments[segment] = Some(described),
            Err(error) => return requests.end(number, Err(error.into()), engine),
        }
        if open.segments.iter().all(Option::is_some) {
            let inference_ms = (self.clock)().ms_since(open.begun.unwrap_or_else(|| (self.clock)()));
            let annotation = self.annotation(open.segments.drain(..).flatten(), inference_ms);
            requests.end(number, annotation, engine);
        }
    }

    fn read(&self, chooser: GrammarChooser) -> Result<Described, ModelError> {
        let (answer, choices) = chooser.into_answer()?;
        // Why it does not read would quote the answer.
        let metadata = self.schema.read(&answer).map_err(|_| {
            ModelError::Grammar(format!("an answer that the schema {} refuses was let through", self.schema.name()))
        })?;
        Ok(Described { metadata, confidence: by_field(&self.schema, &answer, &choices) })
    }

    fn annotation(&self, segments: impl Iterator<Item = Described>, inference_ms: u64) -> Result<Annotation, Fault> {
        let nothing = || Fault::permanent(ErrorType::AudioTooShort, "there is nothing to hear");
        let Described { metadata, confidence } = merge(segments).ok_or_else(nothing)?;
        Ok(Annotation {
            model: self.name.clone(),
            metadata,
            confidence: Some(overall(&self.schema, &confidence)),
            field_confidence: confidence,
            inference_ms,
            cost: MicroUsd(0),
        })
    }
}

impl Requests {
    /// Ends a request; of its segments that are still in the engine, nobody will ask.
    fn end(&mut self, number: u64, result: Result<Annotation, Fault>, engine: &mut Engine<'_, GrammarChooser>) {
        let Some(open) = self.open.remove(&number) else { return };
        for (segment, _) in (0..).zip(&open.segments) {
            engine.forget(number * SEGMENTS + segment);
        }
        open.job.end(result);
    }

    /// Refuses what waits and would be late, where another can do better. What is refused holds up nobody behind it.
    fn refuse_late(&mut self, now: UtcMicros, model: &str, engine: &mut Engine<'_, GrammarChooser>) {
        let late_by = |open: &Open, seconds: f64| {
            let (due, answered) = (open.job.request.deadline, now.plus_ms((seconds * 1000.0) as u64));
            let may_refuse = open.job.request.late == Late::Refuse && open.begun.is_none();
            (may_refuse && now <= due && due < answered).then(|| answered.ms_since(due))
        };
        while let Some((number, ms)) = engine.forecast(&self.rates).into_iter().find_map(|(key, seconds)| {
            let number = key / SEGMENTS;
            Some((number, late_by(self.open.get(&number)?, seconds)?))
        }) {
            let fault =
                Fault::retryable(ErrorType::WouldMissDeadline, format!("{model} would answer {ms} ms too late"));
            self.end(number, Err(fault), engine);
        }
    }

    fn note_begun(&mut self, now: UtcMicros, engine: &Engine<'_, GrammarChooser>) {
        for (number, open) in self.open.iter_mut().filter(|(_, open)| open.begun.is_none()) {
            let keys = (0..open.segments.len() as u64).map(|segment| number * SEGMENTS + segment);
            // One that is no longer there ended in its first step.
            if keys.into_iter().any(|key| !engine.is_waiting(key)) {
                open.begun = Some(now);
            }
        }
    }

    fn forget_given_up(&mut self, engine: &mut Engine<'_, GrammarChooser>) {
        let given_up = |(number, open): (&u64, &Open)| open.job.is_given_up().then_some(*number);
        for number in self.open.iter().filter_map(given_up).collect::<Vec<_>>() {
            let nobody = Fault::retryable(ErrorType::Timeout, "nobody waits for the answer");
            self.end(number, Err(nobody), engine);
        }
    }
}
