//! Weights to begin with.

use std::collections::BTreeMap;

use tch::{Device, Kind, TchError, Tensor};

use super::front::tune;
use super::positional::point_heads;
use super::variables::POSITIONS;
use crate::qwen2_audio::{Config, Expected, expected};

/// Fresh weights of a network, drawn from `seed`: linear layers keep the variance of what goes through them, those that
/// write into the residual stream are smaller by the root of their number, the convolutions [hear bands that stand
/// out](super::front), and some of the encoder's heads [look at fixed distances](super::positional).
///
/// # Errors
/// libtorch's, for want of memory.
pub(crate) fn fresh(config: &Config, seed: i64) -> Result<BTreeMap<String, Tensor>, TchError> {
    tch::manual_seed(seed);
    let wanted = expected(config).into_iter().filter(|tensor| !tensor.optional);
    let mut tensors: BTreeMap<_, _> =
        wanted.map(|tensor| Ok((tensor.name.clone(), draw(&tensor, config)?))).collect::<Result<_, TchError>>()?;
    point_heads(&mut tensors, config)?;
    tune(&mut tensors, config)?;
    Ok(tensors)
}

fn draw(tensor: &Expected, config: &Config) -> Result<Tensor, TchError> {
    let (name, options) = (tensor.name.as_str(), (Kind::Float, Device::Cpu));
    let shape: Vec<i64> = tensor.shape.iter().map(|&size| size as i64).collect();
    if name == POSITIONS {
        return sinusoids(shape[0], shape[1]);
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
    Tensor::f_randn(&shape, options)?.f_mul_scalar(scale)
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
