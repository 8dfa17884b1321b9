//! LoRA: weights stay as they are, and a product of two thin matrices is added to some (Hu 2021, arXiv 2106.09685).

use std::collections::BTreeMap;

use fastrand::Rng;
use tch::{Device, Kind, TchError, Tensor};

use super::init::normal;

/// Adapters on the projections of the language model's attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Adapters {
    /// The thin side of both matrices.
    pub(crate) rank: usize,
}

/// The product is scaled by this over the rank, so that one learning rate fits every rank.
const ALPHA: f64 = 16.0;
const PLACES: [&str; 4] = ["q_proj", "k_proj", "v_proj", "o_proj"];

impl Adapters {
    /// The two matrices (rank, in) and (out, rank) of a weight, drawn from `rng`, where it has an adapter.
    /// The second is 0: before the first step the network is the checkpoint's.
    pub(crate) fn fresh(
        self,
        name: &str,
        shape: &[i64],
        rng: &mut Rng,
    ) -> Option<[(String, Result<Tensor, TchError>); 2]> {
        let (&[out, input], [down, up]) = (shape, keys(name)?) else { return None };
        let rank = self.rank as i64;
        let drawn = normal(&[rank, input], (input as f64).powf(-0.5), rng);
        Some([(down, drawn), (up, Tensor::f_zeros([out, rank], (Kind::Float, Device::Cpu)))])
    }

    /// What is added to the weight of that name, (out, in); `None` where it has no adapter.
    pub(crate) fn delta(self, name: &str, trained: &BTreeMap<String, Tensor>) -> Option<Result<Tensor, TchError>> {
        let [down, up] = keys(name)?;
        let (down, up) = (trained.get(&down)?, trained.get(&up)?);
        Some(up.f_matmul(down).and_then(|product| product.f_mul_scalar(ALPHA / self.rank as f64)))
    }
}

/// The names of a weight's adapter: down to the rank, and up again.
fn keys(weight: &str) -> Option<[String; 2]> {
    let layer = weight.strip_suffix(".weight")?;
    let is_adapted = weight.starts_with("language_model.") && PLACES.iter().any(|place| layer.ends_with(place));
    is_adapted.then(|| [format!("{layer}.lora_A.weight"), format!("{layer}.lora_B.weight")])
}
