//! A file's sound in segments that fit the model.

use std::num::NonZeroUsize;
use std::path::Path;
use std::time::Duration;

use super::decoder::Decoder;
use super::resampler::Resampler;
use super::{AudioError, LONGEST_SEGMENT, SHORTEST};

/// Streams a file's sound, holding little more than one segment of it however long it is.
///
/// WAV, AIFF, FLAC, MP3, Ogg Vorbis, AAC and ALAC are heard. At most a twentieth of a file may be missing or damaged.
///
/// # Errors
/// An [`AudioError`] where the file cannot be read or is no audio, or where its header says that it is longer than
/// `longest`. The segments may still end in an error: damage is found, and length is known for sure, on the way.
pub fn open(path: &Path, longest: Duration) -> Result<Segments, AudioError> {
    let mut decoder = Decoder::open(path, longest)?;
    let mut ready = Vec::new();
    let (resampler, ended) = match decoder.next()? {
        Some(sound) => {
            let mut resampler = Resampler::new(sound.rate);
            resampler.push(sound.samples, &mut ready);
            (resampler, false)
        }
        None => return Err(AudioError::TooShort { path: path.to_owned(), samples: 0 }),
    };
    Ok(Segments { decoder, resampler, ready, given: 0, ended })
}

/// Iterates over the segments of a file: 16 kHz, one channel, 480,000 samples each but for the last. A last one that is
/// too short to be heard is left out, or [`AudioError::TooShort`] where it is the only one. After an error there is
/// nothing more.
pub struct Segments {
    decoder: Decoder,
    resampler: Resampler,
    ready: Vec<f32>,
    given: usize,
    ended: bool,
}

impl Segments {
    /// The file's own sample rate, in Hz.
    pub fn source_rate(&self) -> u32 {
        self.resampler.rate()
    }

    /// Decodes one packet more.
    fn advance(&mut self) -> Result<(), AudioError> {
        let rate = self.resampler.rate();
        match self.decoder.next()? {
            Some(sound) if sound.rate == rate => self.resampler.push(sound.samples, &mut self.ready),
            Some(_) => {
                let reason = "its sample rate changes on the way: export it again";
                return Err(AudioError::undecodable(self.decoder.path(), reason));
            }
            None => {
                self.ended = true;
                self.resampler.finish(&mut self.ready);
                if self.given == 0 && self.ready.len() < SHORTEST {
                    let (path, samples) = (self.decoder.path().to_owned(), self.ready.len());
                    return Err(AudioError::TooShort { path, samples });
                }
            }
        }
        Ok(())
    }
}

impl Iterator for Segments {
    type Item = Result<Vec<f32>, AudioError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.ended && self.ready.len() < LONGEST_SEGMENT {
            if let Err(error) = self.advance() {
                self.ended = true;
                self.ready.clear();
                return Some(Err(error));
            }
        }
        let rest = self.ready.split_off(self.ready.len().min(LONGEST_SEGMENT));
        let segment = std::mem::replace(&mut self.ready, rest);
        self.given += 1;
        (segment.len() >= SHORTEST).then_some(Ok(segment))
    }
}

/// A segment and its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Segment {
    /// Where it begins in the file, in samples at 16 kHz.
    pub start: usize,
    /// Its sound at 16 kHz.
    pub samples: Vec<f32>,
}

/// At most `count` segments, spread evenly over the file; all, where it has no more. A file with more is decoded twice,
/// because only its end tells for sure how long it is: so no more than `count` segments are ever held.
///
/// # Errors
/// An [`AudioError`], as [`open`] and its segments give.
pub fn spread(path: &Path, longest: Duration, count: NonZeroUsize) -> Result<Vec<Segment>, AudioError> {
    let count = count.get();
    let place = |(index, samples): (usize, Result<Vec<f32>, AudioError>)| {
        samples.map(|samples| Segment { start: index * LONGEST_SEGMENT, samples })
    };
    let mut first = Vec::new();
    let mut total = 0;
    for segment in open(path, longest)?.enumerate().map(place) {
        let segment = segment?;
        total += 1;
        if total <= count {
            first.push(segment);
        } else {
            first.clear();
        }
    }
    if total <= count {
        return Ok(first);
    }
    // The middle of each of `count` equal parts.
    let chosen: Vec<usize> = (0..count).map(|part| (2 * part + 1) * total / (2 * count)).collect();
    let segments = open(path, longest)?.enumerate().take(chosen[count - 1] + 1);
    segments.filter(|(index, _)| chosen.binary_search(index).is_ok()).map(place).collect()
}
