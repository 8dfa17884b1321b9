//! In which numbers a model is fastest here.

use tch::{Device, Kind, TchError, Tensor};

use super::Clock;
use crate::qwen2_audio::Linear;

/// Rows and width of the product that is measured: a batch of answers in a layer of a small model.
const SHAPE: [i64; 2] = [16, 1024];
/// Products in a measurement, and measurements of each kind, the best of which counts: some milliseconds in all.
const PRODUCTS: usize = 20;
const RUNS: usize = 5;
/// How much faster bfloat16 has to be to be worth its roundings.
const WORTH: f64 = 1.2;

/// bfloat16 on a GPU, and on a processor that computes faster in it; else float32.
pub(super) fn fastest(device: Device, clock: &Clock) -> Result<Kind, TchError> {
    if device != Device::Cpu {
        return Ok(Kind::BFloat16);
    }
    let _no_grad = tch::no_grad_guard();
    let micros = |kind: Kind| -> Result<f64, TchError> {
        let [rows, width] = SHAPE;
        let linear = Linear::new(Tensor::f_ones([width, width], (kind, device))?, None);
        let x = Tensor::f_ones([rows, width], (kind, device))?;
        let run = |_| {
            let before = clock();
            (0..PRODUCTS).try_for_each(|_| linear.forward(&x).map(drop))?;
            Ok(clock().0.saturating_sub(before.0) as f64)
        };
        // The first one warms up.
        (0..=RUNS).map(run).skip(1).try_fold(f64::INFINITY, |best, micros: Result<f64, TchError>| Ok(best.min(micros?)))
    };
    let (single, half) = (micros(Kind::Float)?, micros(Kind::BFloat16)?);
    tracing::debug!(f32_us = single, bf16_us = half, products = PRODUCTS, "measured the precisions");
    Ok(if half * WORTH < single { Kind::BFloat16 } else { Kind::Float })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use records::UtcMicros;

    use super::*;

    /// A clock on which each of the looks takes so many microseconds.
    fn clock(micros: &'static [u64]) -> Clock {
        let (looks, now) = (AtomicU64::new(0), AtomicU64::new(0));
        Arc::new(move || {
            let look = looks.fetch_add(1, Ordering::Relaxed) as usize;
            UtcMicros(now.fetch_add(micros[look * micros.len() / (4 * (RUNS + 1))], Ordering::Relaxed))
        })
    }

    #[test]
    fn the_faster_precision_is_taken_and_float32_where_it_hardly_matters() {
        let fastest = |micros| fastest(Device::Cpu, &clock(micros)).expect("runs");
        assert_eq!(fastest(&[130, 100]), Kind::BFloat16);
        assert_eq!(fastest(&[110, 100]), Kind::Float);
        assert_eq!(fastest(&[100, 300]), Kind::Float);
    }
}
