//! From an uploaded file to what the model hears: decoded piece by piece, mixed to one channel at 16 kHz, cut into
//! segments that fit the model, turned into log-mel spectrograms. QWEN2_AUDIO.md section 1 has the numbers.

pub(crate) mod bands;
mod decoder;
mod error;
mod fingerprint;
mod log_mel;
mod resampler;
mod segments;

pub use error::AudioError;
pub use fingerprint::Fingerprint;
pub use log_mel::LogMel;
pub use segments::{Segment, Segments, open, spread};

/// Samples in a second of what the model hears.
pub const SAMPLE_RATE: u32 = 16_000;
/// Samples of the 30 s that Qwen2-Audio hears at once. A smaller network may hear less: its configuration says how much.
pub const LONGEST_WINDOW: usize = 480_000;
/// Samples from one spectrum to the next.
pub const HOP: usize = 160;
/// Samples in the shortest segment that gives the model one token, which takes three spectra.
const SHORTEST: usize = 2 * HOP + 1;
/// Samples in the shortest segment behind others, half a second: of less nothing can be told.
const REMNANT: usize = 8_000;

#[cfg(test)]
mod tests;
