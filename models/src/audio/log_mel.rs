//! Sound to log-mel spectrogram, as Whisper's feature extractor makes it.

use std::sync::Arc;

use realfft::{RealFftPlanner, RealToComplex};

use super::bands::{hertz_to_mel, mel_to_hertz};
use super::{HOP, SAMPLE_RATE};
use crate::qwen2_audio::Mel;

/// Samples under one window.
const WINDOW: usize = 400;
/// Frames of silence that are kept behind the sound: more than the encoder's convolutions reach.
const SILENT_FRAMES: usize = 8;
/// The least power, so that silence has a logarithm.
const LEAST_POWER: f64 = 1e-10;

/// One mel band: a triangle of weights over neighbouring frequencies.
struct Band {
    first: usize,
    weights: Vec<f64>,
}

/// Turns sound into log-mel spectrograms (QWEN2_AUDIO.md section 1). Made once; any thread may use it. It computes in
/// double precision: next to a loud tone, single precision has nothing left at the floor of 80 dB below it.
pub struct LogMel {
    window: Vec<f64>,
    fft: Arc<dyn RealToComplex<f64>>,
    bands: Vec<Band>,
    longest: usize,
}

impl LogMel {
    /// With `bins` mel bands from 0 to 8000 Hz, for a network that hears `longest` samples at once.
    pub fn new(bins: usize, longest: usize) -> Self {
        // Periodic: the window's last point, the same as its first, is left to the next period.
        let hann = |n: usize| 0.5 - 0.5 * (std::f64::consts::TAU * n as f64 / WINDOW as f64).cos();
        Self {
            window: (0..WINDOW).map(hann).collect(),
            fft: RealFftPlanner::new().plan_fft_forward(WINDOW),
            bands: bands(bins),
            longest,
        }
    }

    /// The spectrogram of 16 kHz sound, of which no more is heard than the network can at once.
    pub fn mel(&self, samples: &[f32]) -> Mel {
        let samples = &samples[..samples.len().min(self.longest)];
        let bins = self.bands.len();
        let frames = samples.len().div_ceil(HOP);
        let columns = (frames + SILENT_FRAMES).min(self.longest / HOP);
        let padded = reflect(samples, self.longest, (columns - 1) * HOP + WINDOW);
        let mut data = vec![0.0; bins * columns];
        let mut windowed = self.fft.make_input_vec();
        let mut spectrum = self.fft.make_output_vec();
        let mut scratch = self.fft.make_scratch_vec();
        let mut power = vec![0.0; spectrum.len()];
        let mut loudest = f32::MIN;
        for column in 0..columns {
            let sound = &padded[column * HOP..][..WINDOW];
            for ((out, sample), weight) in windowed.iter_mut().zip(sound).zip(&self.window) {
                *out = f64::from(*sample) * weight;
            }
            self.fft.process_with_scratch(&mut windowed, &mut spectrum, &mut scratch).expect("made for this plan");
            for (out, bin) in power.iter_mut().zip(&spectrum) {
                *out = bin.norm_sqr();
            }
            for (band, row) in self.bands.iter().zip(data.chunks_exact_mut(columns)) {
                let powers = &power[band.first..][..band.weights.len()];
                let sum: f64 = powers.iter().zip(&band.weights).map(|(power, weight)| power * weight).sum();
                row[column] = sum.max(LEAST_POWER).log10() as f32;
                loudest = loudest.max(row[column]);
            }
        }
        // The frames that are left out hold silence, the least there is: the loudest is among those that are here.
        for value in &mut data {
            *value = (value.max(loudest - 8.0) + 4.0) / 4.0;
        }
        Mel { data, bins, columns, frames }
    }
}

/// The first `len` samples of the `longest` that the network hears, around `samples`: half a window is reflected at both
/// ends, and silence fills what is behind the sound.
fn reflect(samples: &[f32], longest: usize, len: usize) -> Vec<f32> {
    let half = WINDOW / 2;
    let at = |index: usize| samples.get(index).copied().unwrap_or(0.0);
    let mut padded: Vec<f32> = (1..=half).rev().map(at).chain(samples.iter().copied()).collect();
    padded.resize(len.min(half + longest), 0.0);
    padded.extend((longest + half..len).map(|place| at(2 * longest - 2 - (place - half))));
    padded
}

/// The bands of Slaney's auditory toolbox, each scaled to the same area.
fn bands(bins: usize) -> Vec<Band> {
    let highest = f64::from(SAMPLE_RATE) / 2.0;
    let edge = |n: usize| mel_to_hertz(hertz_to_mel(highest) * n as f64 / (bins + 1) as f64);
    let step = f64::from(SAMPLE_RATE) / WINDOW as f64;
    let band = |n: usize| {
        let (low, centre, high) = (edge(n), edge(n + 1), edge(n + 2));
        let weight = |bin: usize| {
            let hertz = bin as f64 * step;
            let rising = (hertz - low) / (centre - low);
            let falling = (high - hertz) / (high - centre);
            rising.min(falling).max(0.0) * 2.0 / (high - low)
        };
        let (first, end) = ((low / step).floor() as usize, (high / step).ceil() as usize);
        Band { first, weights: (first..=end.min(WINDOW / 2)).map(weight).collect() }
    };
    (0..bins).map(band).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::LONGEST_WINDOW;
    use super::*;

    /// The definition, word for word, in double precision over the whole 30 s window.
    fn reference(samples: &[f32], bins: usize, columns: usize) -> Vec<f64> {
        let (half, len) = (WINDOW as i64 / 2, LONGEST_WINDOW as i64);
        let at = |index: i64| {
            let index = if index < 0 {
                -index
            } else if index >= len {
                2 * len - 2 - index
            } else {
                index
            };
            samples.get(index as usize).map_or(0.0, |&sample| f64::from(sample))
        };
        let turn = |n: i64| std::f64::consts::TAU * n as f64 / WINDOW as f64;
        let bands = bands(bins);
        let column = |column: i64| {
            let sound: Vec<f64> =
                (0..2 * half).map(|n| at(column * HOP as i64 - half + n) * (0.5 - 0.5 * turn(n).cos())).collect();
            let power = |bin: i64| {
                let sum =
                    |wave: fn(f64) -> f64| sound.iter().zip(0..).map(|(s, n)| s * wave(turn(bin * n))).sum::<f64>();
                sum(f64::cos).powi(2) + sum(f64::sin).powi(2)
            };
            let powers: Vec<f64> = (0..=half).map(power).collect();
            let level = |band: &Band| {
                let pairs = powers[band.first..].iter().zip(&band.weights);
                pairs.map(|(power, &weight)| power * weight).sum::<f64>().max(1e-10).log10()
            };
            bands.iter().map(level).collect::<Vec<f64>>()
        };
        let levels: Vec<Vec<f64>> = (0..columns as i64).map(column).collect();
        let loudest = levels.iter().flatten().fold(-10.0, |most: f64, &level| most.max(level));
        let value = |bin: usize, column: usize| (levels[column][bin].max(loudest - 8.0) + 4.0) / 4.0;
        (0..bins).flat_map(|bin| (0..columns).map(move |column| (bin, column))).map(|(b, c)| value(b, c)).collect()
    }

    #[test]
    fn bands_have_the_published_edges_and_one_area() {
        // 80 bands to 8000 Hz: the first peaks at 37.24 Hz, and 1000 Hz is where the scale turns.
        assert!((mel_to_hertz(hertz_to_mel(8_000.0) / 81.0) - 37.24).abs() < 0.01);
        assert_eq!((hertz_to_mel(1_000.0), mel_to_hertz(15.0)), (15.0, 1_000.0));
        assert!((hertz_to_mel(6_400.0) - 42.0).abs() < 1e-9);
        // Where bands are wide, the sum of a band's weights times the step between bins is its area, one.
        for band in bands(80).iter().skip(50) {
            let area = band.weights.iter().sum::<f64>() * 40.0;
            assert!((area - 1.0).abs() < 0.05, "{area}");
        }
    }

    #[test]
    fn columns_are_the_frames_with_sound_and_eight_of_silence_at_most_3000() {
        for (samples, frames, columns) in
            [(1, 1, 9), (160, 1, 9), (161, 2, 10), (8_000, 50, 58), (479_000, 2_994, 3_000), (500_000, 3_000, 3_000)]
        {
            let mel = LogMel::new(80, LONGEST_WINDOW).mel(&vec![0.1; samples]);
            assert_eq!((mel.bins, mel.frames, mel.columns, mel.data.len()), (80, frames, columns, 80 * columns));
        }
    }

    #[test]
    fn silence_is_at_the_least_level_everywhere() {
        assert!(LogMel::new(128, LONGEST_WINDOW).mel(&[0.0; 16_000]).data.iter().all(|&value| value == -1.5));
    }

    #[test]
    fn the_end_of_a_full_window_is_reflected() {
        let noise: Vec<f32> =
            (0..LONGEST_WINDOW as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 16) as f32 / 65_536.0 - 0.5).collect();
        let padded = reflect(&noise, LONGEST_WINDOW, LONGEST_WINDOW - HOP + WINDOW);
        assert_eq!(padded.len(), LONGEST_WINDOW + 240);
        assert_eq!(padded[LONGEST_WINDOW + 200..LONGEST_WINDOW + 202], [noise[479_998], noise[479_997]]);
        assert_eq!(padded[..2], [noise[200], noise[199]]);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..Default::default() })]

        #[test]
        fn the_spectrogram_is_what_its_definition_gives(
            samples in prop::collection::vec(-1.0f32..1.0, 1..1_500),
            bins in prop::sample::select(vec![40usize, 80, 128]),
            gain in prop::sample::select(vec![1.0f32, 1e-3, 1e-6]),
        ) {
            let samples: Vec<f32> = samples.iter().map(|sample| sample * gain).collect();
            let mel = LogMel::new(bins, LONGEST_WINDOW).mel(&samples);
            let expected = reference(&samples, bins, mel.columns);
            for (found, expected) in mel.data.iter().zip(&expected) {
                prop_assert!((f64::from(*found) - expected).abs() < 1e-6, "{} is not {}", found, expected);
            }
        }
    }
}
