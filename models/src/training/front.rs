//! Convolutions that begin by hearing what music is told by: which bands stand out over their neighbours, where a group of
//! bands grows louder, and how loud each part of the spectrum is.
//!
//! In a spectrogram loudness and timbre are large and pitch is small: the contrast of a band to those around it. Filters
//! that begin at random hear the large first, and pitch after many thousand clips.

use std::collections::BTreeMap;

use tch::{TchError, Tensor};

use crate::qwen2_audio::Config;

/// The distances of the bands that a contrast subtracts: about one and two semitones where bands are spaced by ratio.
const AROUND: [i64; 4] = [-4, -2, 2, 4];
/// Contrasts are a fraction of the levels they are taken from.
const CONTRAST: f64 = 4.0;
const RISE: f64 = 1.5;
const LEVEL: f64 = 2.0;
/// Bands that grow louder together, and whose level is heard together, on either side of the middle one.
const GROUP: i64 = 4;
const BROAD: i64 = 6;
/// What of the drawn weights stays, so that no two channels are alike.
const DRAWN: f64 = 0.3;

/// Sets both convolutions: half of the channels hear contrasts, a quarter rises, a quarter levels, and the second passes them on.
pub(super) fn tune(tensors: &mut BTreeMap<String, Tensor>, config: &Config) -> Result<(), TchError> {
    let (d, bins) = (config.audio_config.d_model as i64, config.audio_config.num_mel_bins as i64);
    let (contrasts, rises) = (d / 2, d / 4);
    let levels = d - contrasts - rises;
    let mut first = vec![0f32; (d * bins * 3) as usize];
    let mut second = vec![0f32; (d * d * 3) as usize];
    for channel in 0..d {
        let mut add = |band: i64, time: i64, value: f64| {
            if (0..bins).contains(&band) {
                first[((channel * bins + band) * 3 + time) as usize] += value as f32;
            }
        };
        if channel < contrasts {
            let band = channel * bins / contrasts;
            for time in 0..3 {
                add(band, time, CONTRAST / 3.0);
                AROUND.iter().for_each(|away| add(band + away, time, -CONTRAST / 12.0));
            }
        } else if channel < contrasts + rises {
            let band = (channel - contrasts) * bins / rises;
            for near in band - GROUP..=band + GROUP {
                add(near, 0, -RISE / (2 * GROUP + 1) as f64);
                add(near, 2, RISE / (2 * GROUP + 1) as f64);
            }
        } else {
            let band = (channel - contrasts - rises) * bins / levels;
            for near in band - BROAD..=band + BROAD {
                (0..3).for_each(|time| add(near, time, LEVEL / (3 * (2 * BROAD + 1)) as f64));
            }
        }
        for time in 0..3 {
            second[((channel * d + channel) * 3 + time) as usize] = 0.5;
        }
    }
    for (name, values) in [("conv1", first), ("conv2", second)] {
        if let Some(weight) = tensors.get_mut(&format!("audio_tower.{name}.weight")) {
            let begun = Tensor::f_from_slice(&values)?.f_view_as(weight)?;
            *weight = weight.f_mul_scalar(DRAWN)?.f_add(&begun)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::super::init::tests::nano;
    use super::*;

    /// What the first convolution alone makes of a spectrogram (bins, time), without what was drawn.
    fn heard(spectrogram: &Tensor) -> Tensor {
        let config = nano();
        let (d, bins) = (config.audio_config.d_model as i64, config.audio_config.num_mel_bins as i64);
        let options = (Kind::Float, Device::Cpu);
        let weight = |name: &str, from| (format!("audio_tower.{name}.weight"), Tensor::zeros([d, from, 3], options));
        let mut tensors = BTreeMap::from([weight("conv1", bins), weight("conv2", d)]);
        tune(&mut tensors, &config).expect("tuned");
        let none: Option<&Tensor> = None;
        spectrogram.unsqueeze(0).conv1d(&tensors["audio_tower.conv1.weight"], none, [1], [0], [1], 1).squeeze()
    }

    #[test]
    fn a_tone_is_heard_by_its_own_channel_most_a_rise_by_those_of_rises_and_loudness_by_those_of_levels() {
        let flat = Tensor::full([128, 9], 0.7, (Kind::Float, Device::Cpu));
        let [contrasts, rises, levels] = [(5, 85), (100, 40), (150, 36)];
        let of = |heard: &Tensor, (from, channels): (i64, i64)| heard.narrow(0, from, channels).copy();
        let silent = |heard: Tensor| assert!(heard.abs().max().double_value(&[]) < 1e-5, "{heard}");
        let calm = heard(&flat);
        silent(of(&calm, contrasts));
        silent(of(&calm, rises));
        assert!((of(&calm, levels) - 0.7 * LEVEL).abs().max().double_value(&[]) < 1e-5);
        let tone = flat.copy();
        let _louder = tone.select(0, 60).fill_(1.2);
        assert_eq!((heard(&tone) - &calm).select(1, 3).argmax(0, false).int64_value(&[]), 60 * 96 / 128);
        let rise = flat.copy();
        let _louder = rise.narrow(1, 5, 4).fill_(1.2);
        let heard = heard(&rise).select(1, 4);
        assert!(of(&heard, rises).min().double_value(&[]) > 0.5, "{heard}");
        silent(of(&heard, contrasts));
    }
}
