//! Which clips make a step, in which order, and how they are changed: nothing but a function of seed, epoch and step, so
//! that a run goes on where it was cut without keeping the state of a generator.

use std::sync::Arc;

use fastrand::Rng;

use super::augment::{Example, augment};
use super::manifest::Labelled;
use super::mels::Mels;
use super::step::Lesson;
use super::targets;
use crate::ModelError;
use crate::qwen2_audio::Mel;
use crate::schema::MetadataSchema;

/// The clips of a split.
#[derive(Debug)]
pub(crate) struct Clips {
    pub(crate) labelled: Vec<Labelled>,
    pub(crate) mels: Mels,
    pub(crate) schema: Arc<MetadataSchema>,
    /// The mel frames that the network hears at once.
    pub(crate) longest: usize,
}

/// The shortest and longest excerpt that a step hears, in mel frames: while the encoder alone learns, and then.
const EXCERPTS: [(usize, usize); 2] = [(400, 600), (500, 1000)];
/// Steps among which clips are sorted by length, so that a batch is padded little.
const SORTED: usize = 16;

/// A clip of a step.
#[derive(Clone, Debug)]
pub(crate) struct Heard {
    /// As it was changed.
    pub(crate) example: Example,
    /// By frame of the encoder's output, what it should hear, where the score is known.
    pub(crate) frames: Option<Vec<f32>>,
}

impl Clips {
    /// Steps in an epoch of batches of `size`; what is left over waits for the next epoch's order.
    pub(crate) fn steps(&self, size: usize) -> usize {
        (self.labelled.len() / size).max(1)
    }

    /// The clips of each step of an epoch.
    pub(crate) fn order(&self, seed: u64, epoch: u64, size: usize) -> Vec<Vec<usize>> {
        let mut rng = Rng::with_seed(mix(&[seed, epoch]));
        let mut clips: Vec<usize> = (0..self.labelled.len()).collect();
        rng.shuffle(&mut clips);
        let frames: Vec<usize> = self.mels.frames().collect();
        for part in clips.chunks_mut(SORTED * size) {
            part.sort_by_key(|&clip| frames[clip]);
        }
        let mut steps: Vec<Vec<usize>> = clips.chunks(size).take(self.steps(size)).map(<[usize]>::to_vec).collect();
        rng.shuffle(&mut steps);
        steps
    }

    /// A clip as it is, or as much of its beginning as the network hears at once.
    ///
    /// # Errors
    /// [`ModelError::Read`].
    pub(crate) fn beginning(&self, clip: usize) -> Result<Mel, ModelError> {
        Ok(self.mels.load(clip)?.beginning(self.longest))
    }

    /// The clips of one step, changed.
    ///
    /// # Errors
    /// [`ModelError::Read`].
    pub(crate) fn hear(
        &self,
        clips: &[usize],
        lesson: Lesson,
        (seed, step): (u64, u64),
    ) -> Result<Vec<Heard>, ModelError> {
        let mut rng = Rng::with_seed(mix(&[seed, step, 1]));
        let (shortest, longest) = EXCERPTS[usize::from(lesson == Lesson::Answering)];
        let frames = rng.usize(shortest..=longest).min(self.longest);
        let hear = |&clip: &usize| -> Result<Heard, ModelError> {
            let Labelled { metadata, score, .. } = &self.labelled[clip];
            let whole = Example { mel: self.mels.load(clip)?, metadata: metadata.clone(), score: score.clone() };
            Ok(heard(augment(&whole, &self.schema, frames, &mut rng)))
        };
        clips.iter().map(hear).collect()
    }
}

/// With what its frames should say.
fn heard(example: Example) -> Heard {
    let outputs = outputs(&example.mel);
    let frames = example.score.as_ref().map(|score| targets::draw(score, outputs));
    Heard { example, frames }
}

/// How many outputs the encoder has for a clip.
fn outputs(mel: &Mel) -> usize {
    (mel.frames + 1) / 4
}

/// One seed of several numbers (SplitMix64's finalizer).
fn mix(numbers: &[u64]) -> u64 {
    numbers.iter().fold(0x9e37_79b9_7f4a_7c15, |state: u64, &number| {
        let mixed = (state ^ number).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    })
}
