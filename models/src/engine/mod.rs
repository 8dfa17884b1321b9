//! The inference engine: rows of both lanes join and leave at any step, the most urgent first.
//!
//! A step lets join whoever may (`schedule`), hears a piece of what was not heard yet (`hearing`), and where nobody urgent
//! waits for more of that, reads new tokens of all rows that run in one pass: the next token of each answer, what the grammar forces behind it, and a piece of the
//! prompts that are not read yet, so that a long prompt holds nobody up. The engine has no clock and no thread but the one
//! that works out masks; whoever owns it says when it steps.

mod choice;
mod hearing;
mod masks;
mod rates;
mod row;
mod schedule;
mod slots;
mod step;

use std::collections::BTreeMap;
use std::ops::Range;

use records::{Lane, UtcMicros};

use crate::qwen2_audio::{Generated, KvCache, Qwen2Audio, Row};
use crate::{ModelError, TokenChooser};
use hearing::Hearing;
use masks::Masks;
use row::Answering;
use schedule::{Ask, Change, Schedule};
use slots::{Slots, slot_places};

pub(crate) use rates::{Rates, Work};
pub(crate) use row::Urgency;

/// A row that is done: its answer with who chose it, or why there is none.
pub(crate) type Ended<C> = (u64, Result<(Generated, C), ModelError>);

/// What every prompt begins with, read once.
struct Prefix {
    tokens: Vec<u32>,
    slot: Range<usize>,
}

/// Fails a pass where a test says so: it is shown the keys of the rows that would be read, none for a probe of the device.
#[cfg(test)]
type Fault<'m> = dyn FnMut(&[u64]) -> Result<(), tch::TchError> + 'm;

/// Answers rows on a model; see the module.
pub(crate) struct Engine<'m, C> {
    model: &'m Qwen2Audio,
    schedule: Schedule,
    cache: KvCache,
    prefix: Prefix,
    rows: BTreeMap<u64, Answering<C>>,
    hearing: Hearing,
    masks: Masks<C>,
    ended: Vec<Ended<C>>,
    /// What the step in work has done.
    work: Work,
    most_rows: usize,
    broken: bool,
    #[cfg(test)]
    fault: Option<Box<Fault<'m>>>,
}

impl<'m, C: TokenChooser + 'static> Engine<'m, C> {
    /// An engine for at most `most_rows` rows at once, whose keys and values have so many bytes at most.
    ///
    /// # Errors
    /// [`ModelError::Torch`] for want of memory; [`ModelError::Request`] where not even the start of a prompt fits.
    pub(crate) fn new(model: &'m Qwen2Audio, most_rows: usize, most_bytes: usize) -> Result<Self, ModelError> {
        let _no_grad = tch::no_grad_guard();
        let mut slots = Slots::new(most_bytes / model.kv_bytes_per_token());
        let mut cache = model.new_cache(slots.places())?;
        let tokens = model.prompt_prefix()?;
        let slot = slots
            .take(tokens.len())
            .ok_or_else(|| ModelError::Request(format!("no prompt fits into {most_bytes} bytes")))?;
        cache.ready(&slot)?;
        let span = crate::qwen2_audio::Span { slot: slot.clone(), held: 0, new: tokens.len() };
        drop(model.read(&tokens, &[], &[span], &mut cache, &[tokens.len() as i64 - 1])?);
        Ok(Self {
            model,
            schedule: Schedule::new(most_rows, slots),
            cache,
            prefix: Prefix { tokens, slot },
            rows: BTreeMap::new(),
            hearing: Hearing::default(),
            masks: Masks::start(),
            ended: Vec::new(),
            work: Work::default(),
            most_rows,
            broken: false,
            #[cfg(test)]
            fault: None,
        })
    }

    /// Bytes of keys and values that rows of so many tokens each need together with the engine's own.
    pub(crate) fn bytes(model: &Qwen2Audio, rows: impl IntoIterator<Item = usize>) -> Result<usize, ModelError> {
        let rows: usize = rows.into_iter().map(slot_places).sum();
        Ok((rows + slot_places(model.prompt_prefix()?.len())) * model.kv_bytes_per_token())
    }

    /// Puts a row in line, under a key of its own. What comes of it, [`Self::step`] says.
    pub(crate) fn add(&mut self, key: u64, row: Row, chooser: C, urgency: Urgency) {
        match self.begin(row, chooser, urgency) {
            Ok(row) if row.is_complete() => self.ended.extend(row.into_answer().map(|answer| (key, Ok(answer)))),
            Ok(row) => {
                let Urgency { lane, deadline } = urgency;
                self.schedule.push(Ask { key, lane, deadline, tokens: row.most_tokens });
                self.rows.insert(key, row);
            }
            Err(error) => self.ended.push((key, Err(error))),
        }
    }

    fn begin(&self, row: Row, chooser: C, urgency: Urgency) -> Result<Answering<C>, ModelError> {
        if row.mels.is_empty() {
            return Err(ModelError::Request("it has no clip".into()));
        }
        let prompt = self.model.prompt(&row.mels, &row.question)?;
        let text = &self.model.config().text_config;
        let row = Answering::new(urgency, row.mels, prompt, (chooser, text.max_position_embeddings), text.vocab_size)?;
        if !self.schedule.could_ever(row.most_tokens) {
            let (tokens, places) = (row.most_tokens, self.schedule.places());
            let reason = format!("prompt and longest answer have {tokens} tokens; the engine holds {places} in all");
            return Err(ModelError::Request(reason));
        }
        Ok(row)
    }

    /// Forgets a row whose answer nobody waits for.
    pub(crate) fn forget(&mut self, key: u64) {
        self.schedule.remove(key);
        self.rows.remove(&key);
    }

    /// Whether there is nothing to do.
    pub(crate) fn is_idle(&self) -> bool {
        self.rows.is_empty() && self.ended.is_empty()
    }

    /// Whether the device has stopped working, so that nothing can be answered any more.
    pub(crate) fn is_broken(&self) -> bool {
        self.broken
    }

    /// Until when what is due need not be added: once as many rows wait as may run, only what may overtake one of them.
    pub(crate) fn full_until(&self) -> Option<UtcMicros> {
        let mut waiting = self.schedule.waiting();
        waiting.by_ref().nth(self.most_rows.checked_sub(1)?).map(|ask| waiting.last().unwrap_or(ask).deadline)
    }

    /// Whether a row waits for a slot.
    pub(crate) fn is_waiting(&self, key: u64) -> bool {
        self.rows.get(&key).is_some_and(|row| row.slot.is_none())
    }

    /// Goes one step on; the rows that ended in it.
    pub(crate) fn step(&mut self) -> Vec<Ended<C>> {
        let _no_grad = tch::no_grad_guard();
        self.work = Work::default();
        self.admit();
        if !self.hear() {
            self.read();
        }
        std::mem::take(&mut self.ended)
    }

    /// What the last step did.
    pub(crate) fn work(&self) -> Work {
        self.work
    }

    /// For each row that waits, the most urgent first, in how many seconds its answer will be there; nothing while too
    /// little is known. What is more urgent goes before it; all others yield.
    pub(crate) fn forecast(&self, rates: &Rates) -> Vec<(u64, f64)> {
        let mut running = self.schedule.running().peekable();
        let (mut before, mut rows, mut forecast) = (Work::default(), 0usize, Vec::new());
        let together = self.rows.len().min(self.most_rows);
        for ask in self.schedule.waiting() {
            let ahead = std::iter::from_fn(|| running.next_if(|running| running.deadline <= ask.deadline));
            for row in ahead.chain([ask]).filter_map(|ask| self.rows.get(&ask.key)) {
                before.frames += row.unheard_frames();
                before.tokens += row.unread_prompt();
                rows += 1;
            }
            let seconds = rates.seconds(&before, rows.div_ceil(self.most_rows), together);
            forecast.extend(seconds.map(|seconds| (ask.key, seconds)));
        }
        forecast
    }

    fn admit(&mut self) {
        for change in self.schedule.admit() {
            match change {
                Change::Lost(key) => {
                    if let Some(row) = self.rows.get_mut(&key) {
                        (row.slot, row.held) = (None, 0);
                    }
                }
                Change::Joined(key, slot) => {
                    if let Err(error) = self.join(key, slot) {
                        self.fail(key, error.into());
                    }
                }
            }
        }
    }

    fn join(&mut self, key: u64, slot: Range<usize>) -> Result<(), tch::TchError> {
        let Some(row) = self.rows.get_mut(&key) else { return Ok(()) };
        self.cache.ready(&slot)?;
        if row.tokens.starts_with(&self.prefix.tokens) {
            self.cache.copy(&self.prefix.slot, &slot, self.prefix.tokens.len())?;
            row.held = self.prefix.tokens.len();
        }
        row.slot = Some(slot);
        Ok(())
    }

    /// Ends a row without an answer. What it left in the cache may be no number, and the next one there is to read none.
    fn fail(&mut self, key: u64, error: ModelError) {
        if let Some(slot) = self.rows.remove(&key).and_then(|row| row.slot) {
            self.broken |= self.cache.wipe(&slot).is_err();
        }
        self.schedule.remove(key);
        self.ended.push((key, Err(error)));
    }
}

/// Bytes of keys and values that a row with an answer of at most `new_tokens` is admitted with.
///
/// # Errors
/// [`ModelError::Request`] where its prompt does not fit the model.
pub fn row_bytes(model: &Qwen2Audio, row: &Row, new_tokens: usize) -> Result<usize, ModelError> {
    let tokens = model.prompt(&row.mels, &row.question)?.ids.len() + new_tokens;
    Ok(slot_places(tokens) * model.kv_bytes_per_token())
}

/// Answers all rows together, one answer for each, in order. A row's failure is its own.
///
/// # Panics
/// Where there are not as many choosers as rows.
pub fn generate<C: TokenChooser + 'static>(
    model: &Qwen2Audio,
    rows: Vec<Row>,
    choosers: Vec<C>,
) -> Vec<Result<Generated, ModelError>> {
    assert_eq!(rows.len(), choosers.len(), "each row has its chooser");
    let fit = model.config().text_config.max_position_embeddings;
    let tokens = |(row, chooser): (&Row, &C)| {
        let prompt = model.prompt(&row.mels, &row.question).map_or(0, |prompt| prompt.ids.len());
        prompt.saturating_add(chooser.most_tokens()).min(fit)
    };
    let bytes = Engine::<C>::bytes(model, rows.iter().zip(&choosers).map(tokens));
    let mut engine = match bytes.and_then(|bytes| Engine::new(model, rows.len(), bytes)) {
        Ok(engine) => engine,
        Err(error) => return rows.iter().map(|_| Err(error.clone())).collect(),
    };
    for (key, (row, chooser)) in (0..).zip(rows.into_iter().zip(choosers)) {
        engine.add(key, row, chooser, Urgency { lane: Lane::Low, deadline: UtcMicros(0) });
    }
    let mut answers = BTreeMap::new();
    while !engine.is_idle() {
        answers.extend(engine.step().into_iter().map(|(key, result)| (key, result.map(|(generated, _)| generated))));
    }
    answers.into_values().collect()
}

#[cfg(test)]
mod tests;
