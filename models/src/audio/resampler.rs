//! Any sample rate to 16 kHz, piece by piece.

use rubato::audioadapter_buffers::direct::SequentialSlice;
use rubato::{Fft, FixedSync, Resampler as _, WindowFunction};

use super::SAMPLE_RATE;

/// Resamples one channel to 16 kHz by Fourier transform: sample `n` of the output is the sound at `n / 16000` s, and
/// `len` samples become `ceil(len * 16000 / rate)`. Sound that is at 16 kHz already is left as it is.
pub(super) struct Resampler {
    rate: u32,
    fft: Option<Fft<f32>>,
    /// Samples that wait for a block to be full.
    waiting: Vec<f32>,
    block: Vec<f32>,
    /// Samples of the filter's delay that are still to be dropped.
    delay: usize,
    read: u64,
    written: u64,
}

impl Resampler {
    /// From `rate` Hz, which is not 0.
    pub(super) fn new(rate: u32) -> Self {
        let fft = (rate != SAMPLE_RATE).then(|| {
            let (from, to) = (rate as usize, SAMPLE_RATE as usize);
            // Blocks of a tenth of a second keep the filter's edge within 3 % of the band's end. Only in blocks of an
            // even length is the filter's delay a whole number of samples.
            let even = 2 * from / gcd(from, to);
            let block = even * from.div_ceil(10 * even);
            Fft::new_custom(from, to, block, 1, 1, WindowFunction::BlackmanHarris2, FixedSync::Both)
                .expect("rates and block are not 0")
        });
        Self {
            rate,
            waiting: Vec::new(),
            block: vec![0.0; fft.as_ref().map_or(0, |fft| fft.output_frames_max())],
            delay: fft.as_ref().map_or(0, |fft| fft.output_delay()),
            fft,
            read: 0,
            written: 0,
        }
    }

    /// The rate it resamples from, in Hz.
    pub(super) fn rate(&self) -> u32 {
        self.rate
    }

    /// Takes samples in and appends to `out` what is ready.
    pub(super) fn push(&mut self, samples: &[f32], out: &mut Vec<f32>) {
        let Some(fft) = &mut self.fft else { return out.extend_from_slice(samples) };
        self.read += samples.len() as u64;
        self.waiting.extend_from_slice(samples);
        let len = fft.input_frames_next();
        let blocks = self.waiting.len() / len;
        for block in self.waiting[..blocks * len].chunks_exact(len) {
            let input = SequentialSlice::new(block, 1, len).expect("a block of that length");
            let frames = self.block.len();
            let mut output = SequentialSlice::new_mut(&mut self.block, 1, frames).expect("all of it");
            let (_, written) = fft.process_into_buffer(&input, &mut output, None).expect("both blocks have their size");
            let skipped = self.delay.min(written);
            self.delay -= skipped;
            self.written += (written - skipped) as u64;
            out.extend_from_slice(&self.block[skipped..written]);
        }
        self.waiting.drain(..blocks * len);
    }

    /// Appends the rest. Nothing may be pushed after.
    pub(super) fn finish(&mut self, out: &mut Vec<f32>) {
        let Some(fft) = &self.fft else { return };
        let silence = vec![0.0; fft.input_frames_next()];
        let length = (self.read * u64::from(SAMPLE_RATE)).div_ceil(u64::from(self.rate));
        while self.written < length {
            self.push(&silence, out);
        }
        let beyond = (self.written - length) as usize;
        out.truncate(out.len() - beyond);
    }
}

/// The greatest common divisor.
fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sine(rate: u32, hertz: f64, samples: usize) -> Vec<f32> {
        let at = |n: usize| 0.7 * (std::f64::consts::TAU * hertz * n as f64 / f64::from(rate)).sin();
        (0..samples).map(|n| at(n) as f32).collect()
    }

    /// The largest difference from the same sine at 16 kHz, a tenth of a second from the ends.
    fn difference(rate: u32, hertz: f64, seconds: f64, piece: usize) -> f32 {
        let sound = sine(rate, hertz, (f64::from(rate) * seconds) as usize);
        let mut resampler = Resampler::new(rate);
        let mut out = Vec::new();
        for piece in sound.chunks(piece) {
            resampler.push(piece, &mut out);
        }
        resampler.finish(&mut out);
        let length = (sound.len() as u64 * u64::from(SAMPLE_RATE)).div_ceil(rate.into());
        assert_eq!(out.len() as u64, length, "from {rate} Hz");
        let expected = sine(SAMPLE_RATE, hertz, out.len());
        let edge = SAMPLE_RATE as usize / 10;
        let pairs = out.iter().zip(&expected).skip(edge).take(out.len().saturating_sub(2 * edge));
        pairs.map(|(found, expected)| (found - expected).abs()).fold(0.0, f32::max)
    }

    #[test]
    fn a_sine_from_every_common_rate_keeps_its_place_frequency_and_amplitude() {
        for rate in [8_000, 11_025, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 88_200, 96_000, 192_000] {
            for hertz in [50.0, 440.0, 3_000.0, 7_000.0] {
                if hertz < 0.45 * f64::from(rate) {
                    let difference = difference(rate, hertz, 1.0, 1_152);
                    assert!(difference < 1e-3, "{hertz} Hz from {rate} Hz: {difference}");
                }
            }
        }
    }

    #[test]
    fn what_16_khz_cannot_hold_is_filtered_away() {
        let mut resampler = Resampler::new(44_100);
        let mut out = Vec::new();
        resampler.push(&sine(44_100, 9_000.0, 44_100), &mut out);
        resampler.finish(&mut out);
        let edge = SAMPLE_RATE as usize / 10;
        let loudest = out[edge..out.len() - edge].iter().map(|sample| sample.abs()).fold(0.0, f32::max);
        assert!(loudest < 1e-3, "{loudest}");
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..Default::default() })]

        #[test]
        fn a_sine_from_any_rate_in_any_pieces_keeps_its_place_frequency_and_amplitude(
            rate in 4_000u32..100_000,
            part in 0.01f64..0.9,
            seconds in 0.01f64..1.5,
            piece in 1usize..5_000,
        ) {
            let hertz = part * 0.5 * f64::from(rate.min(SAMPLE_RATE));
            let difference = difference(rate, hertz, seconds, piece);
            prop_assert!(difference < 1e-3, "{} Hz from {} Hz: {}", hertz, rate, difference);
        }
    }
}
