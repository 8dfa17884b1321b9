//! Clips are encoded in batches of their own, of clips about equally long: urgent ones at once, the others a layer a step, so
//! that who comes meanwhile waits for a layer only.

use std::panic::{AssertUnwindSafe, catch_unwind};

use records::Lane;
use tch::Tensor;

use super::Engine;
use super::row::Clips;
use crate::qwen2_audio::{Encoding, Mel};
use crate::{ModelError, TokenChooser};

/// Mel frames that are encoded together at most, padding included: two clips of 30 s.
const MOST_FRAMES: usize = 6000;

/// While a high-priority row is being answered, a low-priority batch goes on in one step of so many.
const PATIENCE: usize = 4;

/// Clips on their way through the encoder.
struct Batch {
    lane: Lane,
    /// The rows, each with its clips.
    rows: Vec<(u64, Vec<Mel>)>,
    encoding: Encoding,
}

/// The batches that are begun: a low-priority one may wait for a high-priority one.
#[derive(Default)]
pub(super) struct Hearing {
    batches: Vec<Batch>,
    /// Steps that the low-priority batch has waited.
    waited: usize,
}

fn longest(mels: &[Mel]) -> usize {
    mels.iter().map(|mel| mel.frames).max().unwrap_or_default()
}

impl<C: TokenChooser + 'static> Engine<'_, C> {
    /// Goes on with the most urgent batch: a high-priority one to its end, another by a layer. Whether the step is to end
    /// with that, as more layers follow and nobody urgent waits for them.
    pub(super) fn hear(&mut self) -> bool {
        let is_unheard = |key: &&u64| self.rows.get(*key).is_some_and(|row| matches!(row.clips, Clips::Unheard(_)));
        let keys: Vec<u64> = self.schedule.running().map(|ask| ask.key).collect();
        let first = keys.iter().find(is_unheard).and_then(|key| self.rows.get(key)).map(|row| row.urgency.lane);
        let begun = self.hearing.batches.last().map(|batch| batch.lane);
        if first.is_some() && (begun.is_none() || (first, begun) == (Some(Lane::High), Some(Lane::Low))) {
            self.begin_to_hear(&keys);
        }
        let Some(mut batch) = self.hearing.batches.pop() else { return false };
        batch.rows.retain(|(key, _)| self.rows.contains_key(key));
        if batch.rows.is_empty() {
            return false;
        }
        let is_urgent = self.schedule.running().any(|ask| ask.lane == Lane::High);
        if batch.lane == Lane::Low && is_urgent {
            self.hearing.waited += 1;
            if !self.hearing.waited.is_multiple_of(PATIENCE) {
                self.hearing.batches.push(batch);
                return false;
            }
        }
        match self.go_on_hearing(&mut batch) {
            Ok(None) => self.hearing.batches.push(batch),
            Ok(Some(clips)) => {
                self.heard(batch.rows, clips);
                return false;
            }
            Err(error) => self.hear_alone(batch.rows, error),
        }
        !is_urgent
    }

    /// What the clips of a batch became, once it is through.
    fn go_on_hearing(&mut self, batch: &mut Batch) -> Result<Option<Vec<Tensor>>, ModelError> {
        let model = self.model;
        let frames = batch.rows.iter().flat_map(|(_, mels)| mels).map(|mel| mel.frames as f64).sum::<f64>();
        let part = frames / model.config().audio_config.encoder_layers.max(1) as f64;
        let done = &mut self.work.frames;
        guarded(|| {
            loop {
                *done += part;
                if model.audio_tower().advance(&mut batch.encoding)? {
                    return Ok(Some(model.project(&model.audio_tower().finish(&batch.encoding)?)?));
                }
                if batch.lane == Lane::Low {
                    // What a step took is known once the device is through with it.
                    model.wait();
                    return Ok(None);
                }
            }
        })
    }

    /// Begins a batch with the most urgent unheard row and those of its length.
    fn begin_to_hear(&mut self, keys: &[u64]) {
        let (mut rows, mut lane, mut range, mut clips) = (Vec::new(), Lane::Low, (usize::MAX, 0), 0);
        for key in keys {
            let Some(row) = self.rows.get_mut(key) else { continue };
            let Clips::Unheard(mels) = &mut row.clips else { continue };
            let (shortest, most) = (range.0.min(longest(mels)), range.1.max(longest(mels)));
            let is_first = rows.is_empty();
            // Padding is a fifth at most, and nobody urgent waits for others' clips.
            let fits = 5 * shortest >= 4 * most && (clips + mels.len()) * most <= MOST_FRAMES && lane == Lane::Low;
            if is_first || fits && row.urgency.lane == Lane::Low {
                (range, clips, lane) = ((shortest, most), clips + mels.len(), row.urgency.lane);
                rows.push((*key, std::mem::take(mels)));
                row.clips = Clips::Hearing;
            }
        }
        let mels: Vec<&Mel> = rows.iter().flat_map(|(_, mels)| mels).collect();
        match guarded(|| Ok(self.model.audio_tower().begin(&mels)?)) {
            Ok(encoding) => self.hearing.batches.push(Batch { lane, rows, encoding }),
            Err(error) => self.hear_alone(rows, error),
        }
    }

    fn heard(&mut self, rows: Vec<(u64, Vec<Mel>)>, clips: Vec<Tensor>) {
        let mut clips = clips.into_iter();
        for (key, mels) in rows {
            let of_row = clips.by_ref().take(mels.len()).collect();
            if let Some(row) = self.rows.get_mut(&key) {
                row.clips = Clips::Heard(of_row);
            }
        }
    }

    /// Encodes each row of a batch that failed alone: so the clip that libtorch does not bear fails alone.
    fn hear_alone(&mut self, rows: Vec<(u64, Vec<Mel>)>, error: ModelError) {
        tracing::warn!(rows = rows.len(), %error, "encoding failed: each row is encoded alone");
        for (key, mels) in rows {
            let model = self.model;
            match guarded(|| Ok(model.project(&model.encode(&mels.iter().collect::<Vec<_>>())?)?)) {
                Ok(clips) => self.heard(vec![(key, mels)], clips),
                Err(error) => self.fail_on_device(key, error),
            }
        }
    }
}

/// Runs a piece of the model; its panic is a failure.
pub(super) fn guarded<T>(run: impl FnOnce() -> Result<T, ModelError>) -> Result<T, ModelError> {
    let panicked = |_| Err(ModelError::Torch("a panic in the model; the log says which".into()));
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(panicked)
}
