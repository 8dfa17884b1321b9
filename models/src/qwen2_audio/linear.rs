//! A linear layer, with what the network does right behind it.

use tch::{TchError, Tensor};

use super::native::{self, Packed};

/// `x · weightᵀ + bias`; weight (out, in).
#[derive(Debug)]
pub(crate) struct Linear {
    weight: Weight,
    bias: Option<Tensor>,
}

#[derive(Debug)]
enum Weight {
    Plain(Tensor),
    /// In bfloat16 on a processor that has it, where nothing is trained.
    Packed(Packed),
}

impl Linear {
    /// Of a weight (out, in) and a bias (out), which are laid out for speed where that is known.
    pub(crate) fn new(weight: Tensor, bias: Option<Tensor>) -> Self {
        let packed = if native::is_taken(&weight) { Packed::new(&weight).ok() } else { None };
        Self { weight: packed.map_or(Weight::Plain(weight), Weight::Packed), bias }
    }

    /// The same as they are, so that gradients reach them and pass them.
    pub(crate) fn plain(weight: Tensor, bias: Option<Tensor>) -> Self {
        Self { weight: Weight::Plain(weight), bias }
    }

    /// (…, in) to (…, out).
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor, TchError> {
        match &self.weight {
            Weight::Plain(weight) => x.f_linear(weight, self.bias.as_ref()),
            Weight::Packed(weight) => weight.forward(x, self.bias.as_ref(), c"none"),
        }
    }

    /// The same behind a GELU (exact).
    pub(crate) fn forward_gelu(&self, x: &Tensor) -> Result<Tensor, TchError> {
        match &self.weight {
            Weight::Plain(weight) => x.f_linear(weight, self.bias.as_ref())?.f_gelu("none"),
            Weight::Packed(weight) => weight.forward(x, self.bias.as_ref(), c"gelu"),
        }
    }

    /// The same behind a SiLU.
    pub(crate) fn forward_silu(&self, x: &Tensor) -> Result<Tensor, TchError> {
        match &self.weight {
            Weight::Plain(weight) => x.f_linear(weight, self.bias.as_ref())?.f_silu(),
            Weight::Packed(weight) => weight.forward(x, self.bias.as_ref(), c"swish"),
        }
    }

    /// The same times `factor` (…, out).
    pub(crate) fn forward_times(&self, x: &Tensor, factor: &Tensor) -> Result<Tensor, TchError> {
        match &self.weight {
            Weight::Plain(weight) => x.f_linear(weight, self.bias.as_ref())?.f_mul(factor),
            Weight::Packed(weight) => weight.forward_with(x, self.bias.as_ref(), c"mul", factor),
        }
    }

    /// The same added to `residual` (…, out).
    pub(crate) fn forward_onto(&self, x: &Tensor, residual: &Tensor) -> Result<Tensor, TchError> {
        match &self.weight {
            Weight::Plain(weight) => residual.f_add(&x.f_linear(weight, self.bias.as_ref())?),
            Weight::Packed(weight) => weight.forward_with(x, self.bias.as_ref(), c"add", residual),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tch::{Device, Kind};

    use super::*;

    fn close(found: &Tensor, expected: &Tensor) -> bool {
        let (found, expected) = (found.to_kind(Kind::Float), expected.to_kind(Kind::Float));
        let scale = expected.abs().max().double_value(&[]);
        found.size() == expected.size() && (found - expected).abs().max().double_value(&[]) <= 0.02 * scale
    }

    proptest! {
        #[test]
        fn packed_weights_give_what_plain_ones_give(
            rows in 1i64..40, fan_in in 1i64..200, out in 1i64..200, has_bias: bool, seed: u32,
        ) {
            tch::manual_seed(i64::from(seed));
            let random = |shape: &[i64]| Tensor::randn(shape, (Kind::Float, Device::Cpu)).to_kind(Kind::BFloat16);
            let (weight, bias) = (random(&[out, fan_in]), has_bias.then(|| random(&[out])));
            let plain = Linear::plain(weight.shallow_clone(), bias.as_ref().map(Tensor::shallow_clone));
            let linear = Linear::new(weight, bias);
            #[cfg(target_arch = "x86_64")]
            prop_assert_eq!(is_x86_feature_detected!("avx512bw"), matches!(linear.weight, Weight::Packed(_)));
            let (x, other) = (random(&[2, rows, fan_in]), random(&[2, rows, out]));
            prop_assert!(close(&linear.forward(&x).expect("runs"), &plain.forward(&x).expect("runs")));
            prop_assert!(close(&linear.forward_gelu(&x).expect("runs"), &plain.forward_gelu(&x).expect("runs")));
            prop_assert!(close(&linear.forward_silu(&x).expect("runs"), &plain.forward_silu(&x).expect("runs")));
            prop_assert!(close(&linear.forward_times(&x, &other).expect("runs"), &plain.forward_times(&x, &other).expect("runs")));
            prop_assert!(close(&linear.forward_onto(&x, &other).expect("runs"), &plain.forward_onto(&x, &other).expect("runs")));
        }
    }

    #[test]
    fn a_weight_that_does_not_fit_is_an_error() {
        let random = |shape: &[i64]| Tensor::randn(shape, (Kind::BFloat16, Device::Cpu));
        let error = Linear::new(random(&[8, 16]), None).forward(&random(&[2, 15])).expect_err("15 numbers, not 16");
        assert!(matches!(error, TchError::Torch(_)), "{error:?}");
    }
}
