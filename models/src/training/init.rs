//! Weights to begin with.

use std::collections::BTreeMap;

use fastrand::Rng;
use tch::{Device, Kind, TchError, Tensor};

use super::front::tune;
use super::positional::point_heads;
use super::variables::POSITIONS;
use crate::qwen2_audio::{Config, Expected, expected};

/// Fresh weights of a network, drawn from `rng`: linear layers keep the variance of what goes through them, those that
/// write into the residual stream are smaller by the root of their number, the convolutions [hear bands that stand
/// out](super::front), and some of the encoder's heads [look at fixed distances](super::positional).
///
/// # Errors
/// libtorch's, for want of memory.
pub(crate) fn fresh(config: &Config, rng: &mut Rng) -> Result<BTreeMap<String, Tensor>, TchError> {
    let wanted = expected(config).into_iter().filter(|tensor| !tensor.optional);
    let mut tensors: BTreeMap<_, _> =
        wanted.map(|tensor| Ok((tensor.name.clone(), draw(&tensor, config, rng)?))).collect::<Result<_, TchError>>()?;
    point_heads(&mut tensors, config)?;
    tune(&mut tensors, config)?;
    Ok(tensors)
}

/// How much louder positions are than Whisper's. What is heard grows in training, and where it drowns them, heads lose the
/// moments that they were pointed at: beats and tempo are then learned late or never.
const LOUDNESS: f64 = 4.0;

fn draw(tensor: &Expected, config: &Config, rng: &mut Rng) -> Result<Tensor, TchError> {
    let (name, options) = (tensor.name.as_str(), (Kind::Float, Device::Cpu));
    let shape: Vec<i64> = tensor.shape.iter().map(|&size| size as i64).collect();
    if name == POSITIONS {
        return sinusoids(shape[0], shape[1])?.f_mul_scalar(LOUDNESS);
    }
    if name.ends_with(".bias") {
        return Tensor::f_zeros(&shape, options);
    }
    let [_, inputs @ ..] = shape.as_slice() else { return Tensor::f_ones(&shape, options) };
    if inputs.is_empty() {
        // Norms.
        return Tensor::f_ones(&shape, options);
    }
    let layers = if name.starts_with("audio_tower") {
        config.audio_config.encoder_layers
    } else {
        config.text_config.num_hidden_layers
    };
    let is_residual = ["out_proj", "fc2", "o_proj", "down_proj"].iter().any(|part| name.contains(part));
    let scale = match name {
        _ if name.contains("embed_tokens") || name.contains("lm_head") => 0.05,
        _ => (inputs.iter().product::<i64>() as f64).powf(-0.5),
    };
    let scale = if is_residual { scale / (2.0 * layers as f64).sqrt() } else { scale };
    normal(&shape, scale, rng)
}

/// Normal numbers of this standard deviation (Box and Muller 1958). torch's generator is the process's: what else draws
/// from it would change what is drawn here.
pub(crate) fn normal(shape: &[i64], deviation: f64, rng: &mut Rng) -> Result<Tensor, TchError> {
    let mut pair = || {
        let (radius, turn) = ((-2.0 * (1.0 - rng.f64()).ln()).sqrt() * deviation, rng.f64() * std::f64::consts::TAU);
        [(radius * turn.cos()) as f32, (radius * turn.sin()) as f32]
    };
    let count = shape.iter().product::<i64>() as usize;
    let numbers: Vec<f32> = (0..count.div_ceil(2)).flat_map(|_| pair()).take(count).collect();
    Tensor::f_from_slice(&numbers)?.f_view(shape)
}

/// Whisper's positions, (length, channels): sines, then cosines, of wavelengths from 2π to 20,000π positions.
fn sinusoids(length: i64, channels: i64) -> Result<Tensor, TchError> {
    let options = (Kind::Float, Device::Cpu);
    let half = channels / 2;
    let step = 10_000f64.ln() / (half - 1).max(1) as f64;
    let frequency = Tensor::f_arange(half, options)?.f_mul_scalar(-step)?.f_exp()?;
    let angle = Tensor::f_arange(length, options)?.f_unsqueeze(1)?.f_mul(&frequency.f_unsqueeze(0)?)?;
    Tensor::f_cat(&[angle.f_sin()?, angle.f_cos()?], 1)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The dimensions of the small network.
    pub(crate) fn nano() -> Config {
        let mut json: serde_json::Value = serde_json::from_str(include_str!("nano.json")).expect("JSON");
        (json["text_config"]["vocab_size"], json["audio_token_index"]) = (448.into(), 444.into());
        serde_json::from_value(json).expect("a config")
    }

    #[test]
    fn one_seed_gives_one_network_of_every_tensor_and_at_most_six_million_weights() {
        let config = nano();
        let [first, again] = [7, 7].map(|seed| fresh(&config, &mut Rng::with_seed(seed)).expect("weights"));
        for tensor in expected(&config) {
            let shape: Vec<i64> = tensor.shape.iter().map(|&size| size as i64).collect();
            assert_eq!(first[&tensor.name].size(), shape, "{}", tensor.name);
            assert!(first[&tensor.name] == again[&tensor.name], "{}", tensor.name);
        }
        assert!(first.values().map(Tensor::numel).sum::<usize>() <= 6_000_000);
    }

    #[test]
    fn normal_numbers_have_their_mean_and_deviation() {
        let drawn = normal(&[101, 99], 0.5, &mut Rng::with_seed(3)).expect("drawn");
        let (mean, deviation) = (drawn.mean(Kind::Float).double_value(&[]), drawn.std(true).double_value(&[]));
        assert!(mean.abs() < 0.02 && (deviation - 0.5).abs() < 0.02, "{mean} {deviation}");
    }
}
