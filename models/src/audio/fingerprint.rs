//! What a recording sounds like, in numbers that a re-encoded copy shares: Chromaprint's fingerprint.
//!
//! It is made of how the energy of the twelve notes of the octave changes, eight times a second, so that neither a codec nor
//! a sample rate changes much of it. A copy's numbers differ in a few bits each, and many are equal.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use rusty_chromaprint::{Configuration, Fingerprinter, match_fingerprints};

use super::AudioError;
use super::decoder::{Decoder, guarded};

/// Different numbers that a fingerprint needs so that it tells recordings apart: those of about 6 s. Silence and a steady tone
/// have one or two, however long they are.
const LEAST: usize = 24;

/// Numbers of a sketch.
const SKETCH: usize = 32;

/// Of both recordings, so much must sound alike.
const COVERED: f64 = 0.9;

/// Bits of 32 in which the numbers of a copy differ at most, on average over a stretch: MP3 at 32 kbit/s stays below 1. Other
/// music has 8 and more; a copy that begins half a step of 62 ms later than this one has 1.8 to 3, and is missed; the same score played by the same instruments two beats a minute faster has 1.4 over 6 s, 2.6 over 10.
const DIFFERENCE: f64 = 1.25;

/// How much the lengths of copies may differ: a hundredth, or what encoders put before and behind the sound.
const LENGTHS: f64 = 0.01;
const PADDING_MS: u64 = 200;

/// A recording's fingerprint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    /// About eight numbers a second.
    pub values: Vec<u32>,
    /// How long the recording is.
    pub length_ms: u64,
}

impl Fingerprint {
    /// Hears a file from its beginning to its end. `None` where it is too short or too monotonous to be told from others.
    ///
    /// # Errors
    /// An [`AudioError`], as [`super::open`] and its segments give.
    pub fn of(path: &Path, longest: Duration) -> Result<Option<Self>, AudioError> {
        let mut decoder = Decoder::open(path, longest)?;
        let mut fingerprinter = Fingerprinter::new(&Configuration::default());
        let (mut rate, mut samples, mut whole) = (0, 0, Vec::new());
        while let Some(sound) = decoder.next()? {
            if rate == 0 {
                rate = sound.rate;
                if fingerprinter.start(rate, 1).is_err() {
                    return Ok(None);
                }
            }
            // The front end refuses such a file, and says why.
            if sound.rate != rate {
                return Ok(None);
            }
            samples += sound.samples.len() as u64;
            whole.clear();
            whole.extend(sound.samples.iter().map(|sample| (sample * 32_767.0) as i16));
            guarded(path, || {
                fingerprinter.consume(&whole);
                Ok(())
            })?;
        }
        let values = guarded(path, || {
            fingerprinter.finish();
            Ok(fingerprinter.fingerprint().to_vec())
        })?;
        let length_ms = samples * 1000 / u64::from(rate.max(1));
        let tells = values.iter().collect::<BTreeSet<_>>().len() >= LEAST;
        Ok(tells.then_some(Self { values, length_ms }))
    }

    /// The numbers that a copy is looked for by: of all that occur, those whose hashes are the smallest. So a copy has most of
    /// them, wherever in it they are.
    pub fn sketch(&self) -> Vec<u32> {
        let smallest: BTreeSet<u32> = self.values.iter().map(|value| mixed(*value)).collect();
        smallest.into_iter().take(SKETCH).collect()
    }

    /// Whether both are the same recording: as long, and alike from one end to the other.
    pub fn is_copy_of(&self, other: &Self) -> bool {
        let longer_ms = self.length_ms.max(other.length_ms);
        let allowed_ms = PADDING_MS.max((longer_ms as f64 * LENGTHS) as u64);
        if self.length_ms.abs_diff(other.length_ms) > allowed_ms {
            return false;
        }
        let (longer, alike) = (self.values.len().max(other.values.len()), self.alike(other));
        alike as f64 >= COVERED * longer as f64
    }

    /// Numbers in stretches that sound alike.
    fn alike(&self, other: &Self) -> usize {
        let Ok(stretches) = match_fingerprints(&self.values, &other.values, &Configuration::default()) else {
            return 0;
        };
        stretches.iter().filter(|it| it.score <= DIFFERENCE).map(|it| it.items_count).sum()
    }
}

/// A bijection that scatters: numbers that lie close together are no closer than others.
fn mixed(value: u32) -> u32 {
    let value = (value ^ (value >> 16)).wrapping_mul(0x85eb_ca6b);
    let value = (value ^ (value >> 13)).wrapping_mul(0xc2b2_ae35);
    value ^ (value >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[u32], length_ms: u64) -> Fingerprint {
        Fingerprint { values: values.to_vec(), length_ms }
    }

    fn random(seed: u64, count: usize) -> Vec<u32> {
        let mut random = fastrand::Rng::with_seed(seed);
        std::iter::repeat_with(|| random.u32(..)).take(count).collect()
    }

    /// The same numbers with `bits` of each turned over, none of the first that the crate aligns by.
    fn noisy(values: &[u32], bits: u32) -> Vec<u32> {
        values.iter().map(|value| value ^ ((1 << bits) - 1)).collect()
    }

    #[test]
    fn a_copy_is_as_long_and_alike_from_one_end_to_the_other() {
        let values = random(1, 200);
        let whole = of(&values, 30_000);
        assert!(whole.is_copy_of(&whole));
        assert!(whole.is_copy_of(&of(&noisy(&values, 1), 30_300)));
        assert!(!whole.is_copy_of(&of(&noisy(&values, 2), 30_000)), "every number differs in two bits");
        assert!(!whole.is_copy_of(&of(&values, 30_400)), "it is longer");
        assert!(whole.is_copy_of(&of(&values[10..], 30_000)) && whole.is_copy_of(&of(&values[..190], 30_000)));
        assert!(!whole.is_copy_of(&of(&values[25..], 30_000)), "an eighth of it is missing");
        let half = [&values[..100], &random(2, 100)].concat();
        assert!(!whole.is_copy_of(&of(&half, 30_000)), "half of it is other music");
    }

    #[test]
    fn a_copy_has_most_of_a_sketch_and_others_have_none_of_it() {
        let values = random(3, 500);
        let mut copy = values[3..].to_vec();
        copy.iter_mut().step_by(3).for_each(|value| *value ^= 1);
        let sketch: BTreeSet<u32> = of(&values, 0).sketch().into_iter().collect();
        let shared = |other: &[u32]| of(other, 0).sketch().iter().filter(|value| sketch.contains(value)).count();
        assert_eq!((sketch.len(), shared(&values)), (SKETCH, SKETCH));
        assert!(shared(&copy) >= SKETCH / 3, "{} of {SKETCH}", shared(&copy));
        assert_eq!(shared(&random(4, 500)), 0);
    }

    #[test]
    fn the_order_of_numbers_does_not_matter_to_a_sketch_and_no_two_numbers_are_mixed_up() {
        let values = random(5, 100);
        let reversed: Vec<u32> = values.iter().rev().copied().collect();
        assert_eq!(of(&values, 0).sketch(), of(&reversed, 0).sketch());
        let mixed: BTreeSet<u32> = (0..100_000).map(mixed).collect();
        assert_eq!(mixed.len(), 100_000);
    }
}
