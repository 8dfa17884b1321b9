//! The pieces that the encoder and the language model share.

use tch::{Device, Kind, TchError, Tensor};

use super::linear::Linear;
use super::weights::Weights;
use crate::ModelError;

/// Reads tensors onto one device, as one kind.
pub(crate) struct Loader<'a> {
    pub(crate) weights: &'a Weights,
    pub(crate) device: Device,
    pub(crate) kind: Kind,
}

impl Loader<'_> {
    /// The tensor of that name.
    pub(crate) fn tensor(&self, name: &str) -> Result<Tensor, ModelError> {
        self.weights.read(name, self.device, self.kind)
    }

    /// `name.weight` with `name.bias` where there is one.
    pub(crate) fn linear(&self, name: &str) -> Result<Linear, ModelError> {
        self.fused(&[name.to_owned()])
    }

    /// Several linear layers of one input as one, their outputs behind each other: one large product costs less than
    /// several small ones. A layer without a bias beside others that have one gets zeros.
    pub(crate) fn fused(&self, names: &[String]) -> Result<Linear, ModelError> {
        let has_bias = |name: &String| self.weights.has(&format!("{name}.bias"));
        let weights: Vec<Tensor> =
            names.iter().map(|name| self.tensor(&format!("{name}.weight"))).collect::<Result<_, _>>()?;
        let bias = if names.iter().any(has_bias) {
            let parts: Vec<Tensor> = names
                .iter()
                .zip(&weights)
                .map(|(name, weight)| match has_bias(name) {
                    true => self.tensor(&format!("{name}.bias")),
                    false => Ok(Tensor::f_zeros([weight.size()[0]], (self.kind, self.device))?),
                })
                .collect::<Result<_, ModelError>>()?;
            Some(joined(parts)?)
        } else {
            None
        };
        Ok(Linear::new(joined(weights)?, bias))
    }

    /// `name.weight` and `name.bias` of a LayerNorm.
    pub(crate) fn layer_norm(&self, name: &str) -> Result<LayerNorm, ModelError> {
        let weight = self.tensor(&format!("{name}.weight"))?;
        Ok(LayerNorm { weight, bias: self.tensor(&format!("{name}.bias"))? })
    }
}

fn joined(mut parts: Vec<Tensor>) -> Result<Tensor, TchError> {
    match parts.pop() {
        Some(only) if parts.is_empty() => Ok(only),
        Some(last) => {
            parts.push(last);
            Tensor::f_cat(&parts, 0)
        }
        None => Err(TchError::Shape("no tensor to join".into())),
    }
}

/// LayerNorm over the last dimension, eps 1e-5.
#[derive(Debug)]
pub(crate) struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
}

impl LayerNorm {
    /// (…, width) to the same shape.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor, TchError> {
        x.f_layer_norm(self.weight.size(), Some(&self.weight), Some(&self.bias), 1e-5, true)
    }
}

/// What is added to attention's scores: 0 where `masked` is false, else the smallest finite number: with -inf, a query
/// that sees nothing would give NaN.
pub(crate) fn additive_mask(masked: &Tensor, kind: Kind) -> Result<Tensor, TchError> {
    let smallest = match kind {
        Kind::BFloat16 => -3.389_531_389_251_535_5e38,
        _ => f64::from(f32::MIN),
    };
    Tensor::f_zeros(masked.size(), (kind, masked.device()))?.f_masked_fill(masked, smallest)
}
