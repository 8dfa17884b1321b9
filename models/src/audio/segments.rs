//! A file's sound in segments that fit the model.

use std::num::NonZeroUsize;
use std::path::Path;
use std::time::Duration;

use super::decoder::Decoder;
use super::resampler::Resampler;
use super::{AudioError, REMNANT, SHORTEST};

/// Streams a file's sound in segments of at most `window` samples, holding little more than one of them however long the
/// file is.
///
/// WAV, AIFF, FLAC, MP3, Ogg Vorbis, AAC and ALAC are heard. At most a twentieth of a file may be missing or damaged.
///
/// # Errors
/// An [`AudioError`] where the file cannot be read or is no audio, or where its header says that it is longer than
/// `longest`. The segments may still end in an error: damage is found, and length is known for sure, on the way.
pub fn open(path: &Path, longest: Duration, window: usize) -> Result<Segments, AudioError> {
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
    Ok(Segments { decoder, resampler, ready, window, given: 0, ended })
}

/// Iterates over the segments of a file: 16 kHz, one channel, as long as the window each but for the last. A last one of
/// less than half a second says nothing and is left out; where it is the only one, it is heard, or
/// [`AudioError::TooShort`]. After an error there is nothing more.
pub struct Segments {
    decoder: Decoder,
    resampler: Resampler,
    ready: Vec<f32>,
    window: usize,
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
        while !self.ended && self.ready.len() < self.window {
            if let Err(error) = self.advance() {
                self.ended = true;
                self.ready.clear();
                return Some(Err(error));
            }
        }
        let rest = self.ready.split_off(self.ready.len().min(self.window));
        let segment = std::mem::replace(&mut self.ready, rest);
        let shortest = if self.given == 0 { SHORTEST } else { REMNANT };
        self.given += 1;
        (segment.len() >= shortest).then_some(Ok(segment))
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

/// At most `count` segments of `window` samples, spread evenly over the file; all, where it has no more. A file with more is decoded twice,
/// because only its end tells for sure how long it is: so no more than `count` segments are ever held.
///
/// # Errors
/// An [`AudioError`], as [`open`] and its segments give.
pub fn spread(path: &Path, longest: Duration, window: usize, count: NonZeroUsize) -> Result<Vec<Segment>, AudioError> {
    let count = count.get();
    let place = |(index, samples): (usize, Result<Vec<f32>, AudioError>)| {
        samples.map(|samples| Segment { start: index * window, samples })
    };
    let mut first = Vec::new();
    let mut total = 0;
    for segment in open(path, longest, window)?.enumerate().map(place) {
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
    let segments = open(path, longest, window)?.enumerate().take(chosen[count - 1] + 1);
    segments.filter(|(index, _)| chosen.binary_search(index).is_ok()).map(place).collect()
}
