//! The pieces that the encoder and the language model share.

use tch::{Device, Kind, TchError, Tensor};

use super::linear::Linear;
use super::native;
use crate::ModelError;

/// Where a network's tensors come from: the files of a checkpoint, or the variables that training moves.
pub(crate) trait TensorSource {
    /// Whether there is a tensor of that name.
    fn has(&self, name: &str) -> bool;

    /// Whether the tensors stay what they are, so that laying them out for speed is worth it and no gradient is asked for.
    fn is_fixed(&self) -> bool;

    /// The tensor on `device`, as `kind`.
    fn read(&self, name: &str, device: Device, kind: Kind) -> Result<Tensor, ModelError>;
}

/// Takes tensors from a source onto one device, as one kind.
pub(crate) struct Loader<'a> {
    pub(crate) weights: &'a dyn TensorSource,
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
        Ok(self.made(joined(weights)?, bias))
    }

    /// A linear layer of a tensor of this source.
    pub(crate) fn made(&self, weight: Tensor, bias: Option<Tensor>) -> Linear {
        if self.weights.is_fixed() { Linear::new(weight, bias) } else { Linear::plain(weight, bias) }
    }

    /// `name.weight` and `name.bias` of a LayerNorm.
    pub(crate) fn layer_norm(&self, name: &str) -> Result<LayerNorm, ModelError> {
        let weight = self.tensor(&format!("{name}.weight"))?;
        Ok(LayerNorm { weight, bias: self.tensor(&format!("{name}.bias"))? })
    }

    /// `name.weight` of an RMSNorm.
    pub(crate) fn rms_norm(&self, name: &str, eps: f64) -> Result<RmsNorm, ModelError> {
        Ok(RmsNorm { weight: self.tensor(&format!("{name}.weight"))?, eps })
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

/// RMSNorm over the last dimension; it computes in float32 whatever the kind.
#[derive(Debug)]
pub(crate) struct RmsNorm {
    weight: Tensor,
    eps: f64,
}

impl RmsNorm {
    /// (…, width) to the same shape.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor, TchError> {
        match native::is_taken(x) && native::is_taken(&self.weight) {
            true => native::rms_norm(x, &self.weight, self.eps),
            false => x.f_rms_norm(self.weight.size(), Some(&self.weight), self.eps),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rms_norm_in_bfloat16_is_that_in_float32_rounded() {
        tch::manual_seed(3);
        for (rows, width) in [(1, 1), (3, 17), (40, 768)] {
            let random = |shape: &[i64]| Tensor::randn(shape, (Kind::Float, Device::Cpu)).to_kind(Kind::BFloat16);
            let (x, weight) = (random(&[2, rows, width]), random(&[width]));
            let found = RmsNorm { weight: weight.shallow_clone(), eps: 1e-5 }.forward(&x).expect("runs");
            let expected = RmsNorm { weight: weight.to_kind(Kind::Float), eps: 1e-5 };
            let expected = expected.forward(&x.to_kind(Kind::Float)).expect("runs");
            let error = ((found.to_kind(Kind::Float) - &expected) / expected.abs().clamp_min(1e-3)).abs().max();
            assert!(found.size() == expected.size() && error.double_value(&[]) < 0.005, "{rows} {width}: {error}");
        }
        let x = Tensor::from_slice(&[1.0f32, f32::NAN, 2.0]).to_kind(Kind::BFloat16);
        let normed = RmsNorm { weight: x.ones_like(), eps: 1e-5 }.forward(&x).expect("runs");
        assert!(bool::try_from(normed.isnan().all()).expect("a truth"), "what is no number is not hidden");
    }
}
