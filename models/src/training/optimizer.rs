//! Muon (Jordan 2024, kellerjordan.github.io/posts/muon) for the matrices of hidden layers, AdamW (Loshchilov 2019, arXiv
//! 1711.05101) for all else, under one schedule.
//!
//! Muon's steps are as long as AdamW's (Liu 2025, arXiv 2502.16982), so one learning rate fits both. libtorch's own
//! optimizers hide their moments, and a run that resumes needs them to the last bit.

use std::collections::BTreeMap;

use tch::{Kind, TchError, Tensor};

use super::variables::Variables;

const BETA_1: f64 = 0.9;
const BETA_2: f64 = 0.98;
const EPSILON: f64 = 1e-8;
const MOMENTUM: f64 = 0.95;
/// The factors of x, x³ and x⁵ in Muon's polynomial.
const QUINTIC: [f64; 3] = [3.4445, -4.7750, 2.0315];
/// The usual size of a number in a step of AdamW's.
const AS_LONG_AS_ADAM: f64 = 0.2;

/// How steps are taken.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Schedule {
    /// The highest learning rate.
    pub(crate) learning_rate: f64,
    /// Steps on which it rises from 0, evenly.
    pub(crate) warm_up: u64,
    /// The last step; from the warm-up on, the rate falls to a hundredth along a cosine.
    pub(crate) steps: u64,
    /// By how much matrices shrink, in learning rates; norms and biases do not.
    pub(crate) weight_decay: f64,
    /// The longest gradient, all variables together; a longer one is shortened to it.
    pub(crate) longest_gradient: f64,
}

impl Schedule {
    /// The learning rate of step `step`, the first of which is 0.
    pub(crate) fn rate(&self, step: u64) -> f64 {
        if step < self.warm_up {
            return self.learning_rate * (step + 1) as f64 / self.warm_up as f64;
        }
        let done = (step - self.warm_up) as f64 / (self.steps - self.warm_up).max(1) as f64;
        let cosine = 0.5 + 0.5 * (std::f64::consts::PI * done.min(1.0)).cos();
        self.learning_rate * (0.01 + 0.99 * cosine)
    }
}

/// What is kept of each variable's gradients: of a hidden layer's matrix one moment, of all else two.
#[derive(Debug, Default)]
pub(crate) struct Optimizer {
    pub(crate) moments: BTreeMap<String, Vec<Tensor>>,
}

impl Optimizer {
    /// Moves the variables against their gradients and forgets these; how long the gradient was. A variable that had no
    /// part in the loss stays where it is. A gradient that is no number moves nothing.
    pub(crate) fn step(&mut self, variables: &Variables, schedule: &Schedule, step: u64) -> Result<f64, TchError> {
        let _no_grad = tch::no_grad_guard();
        let gradients: Vec<(&String, &Tensor, Tensor)> = variables
            .trained()
            .iter()
            .map(|(name, variable)| (name, variable, variable.grad()))
            .filter(|(_, _, gradient)| gradient.defined())
            .collect();
        let squares = gradients.iter().map(|(_, _, gradient)| gradient.f_square()?.f_sum(None));
        let squares = Tensor::f_stack(&squares.collect::<Result<Vec<_>, _>>()?, 0)?;
        let length = squares.f_sum(None)?.f_double_value(&[])?.sqrt();
        let shorten = (schedule.longest_gradient / (length + 1e-6)).min(1.0);
        let rate = schedule.rate(step);
        for (name, variable, mut gradient) in gradients {
            if length.is_finite() {
                let mut variable = variable.shallow_clone();
                let zeros = || (0..if variables.is_hidden_matrix(name) { 1 } else { 2 }).map(|_| variable.zeros_like());
                let moments = self.moments.entry(name.clone()).or_insert_with(|| zeros().collect());
                let gradient = gradient.f_mul_scalar(shorten)?;
                let moved = match moments.as_mut_slice() {
                    [momentum] => orthogonal(momentum, &gradient)?,
                    [first, second] => adaptive(first, second, &gradient, step)?,
                    _ => return Err(TchError::Shape(format!("moments of {name}: one or two are kept"))),
                };
                if variable.dim() > 1 {
                    let _shrunk = variable.f_mul_scalar_(1.0 - rate * schedule.weight_decay)?;
                }
                let _moved = variable.f_sub_(&moved.f_mul_scalar(rate)?)?;
            }
            let _forgotten = gradient.f_zero_()?;
        }
        Ok(length)
    }
}

/// AdamW's step, for a rate of 1.
fn adaptive(first: &mut Tensor, second: &mut Tensor, gradient: &Tensor, step: u64) -> Result<Tensor, TchError> {
    let (unbiased_1, unbiased_2) = (1.0 - BETA_1.powf(step as f64 + 1.0), 1.0 - BETA_2.powf(step as f64 + 1.0));
    *first = first.f_mul_scalar(BETA_1)?.f_add(&gradient.f_mul_scalar(1.0 - BETA_1)?)?;
    *second = second.f_mul_scalar(BETA_2)?.f_add(&gradient.f_square()?.f_mul_scalar(1.0 - BETA_2)?)?;
    let spread = second.f_div_scalar(unbiased_2)?.f_sqrt()?.f_add_scalar(EPSILON)?;
    first.f_div(&spread)?.f_div_scalar(unbiased_1)
}

/// Muon's step, for a rate of 1: the nearest matrix to the momentum that stretches every direction alike, as long as a
/// step of AdamW's usually is.
fn orthogonal(momentum: &mut Tensor, gradient: &Tensor) -> Result<Tensor, TchError> {
    *momentum = momentum.f_mul_scalar(MOMENTUM)?.f_add(gradient)?;
    let ahead = gradient.f_add(&momentum.f_mul_scalar(MOMENTUM)?)?;
    let (rows, columns) = ahead.size2()?;
    let stretched = newton_schulz(&if rows > columns { ahead.f_tr()? } else { ahead })?;
    let stretched = if rows > columns { stretched.f_tr()? } else { stretched };
    stretched.f_mul_scalar(AS_LONG_AS_ADAM * (rows.max(columns) as f64).sqrt())
}

/// Singular values of a wide matrix brought near to 1 by five steps of a polynomial, in bfloat16, as it need not be exact.
fn newton_schulz(wide: &Tensor) -> Result<Tensor, TchError> {
    let length = wide.f_square()?.f_sum(None)?.f_sqrt()?.f_add_scalar(1e-7)?;
    let mut x = wide.f_div(&length)?.f_to_kind(Kind::BFloat16)?;
    for _ in 0..5 {
        let square = x.f_matmul(&x.f_tr()?)?;
        let factor = square.f_mul_scalar(QUINTIC[1])?.f_add(&square.f_matmul(&square)?.f_mul_scalar(QUINTIC[2])?)?;
        x = x.f_mul_scalar(QUINTIC[0])?.f_add(&factor.f_matmul(&x)?)?;
    }
    x.f_to_kind(Kind::Float)
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    fn schedule() -> Schedule {
        Schedule { learning_rate: 0.1, warm_up: 10, steps: 110, weight_decay: 0.5, longest_gradient: 1.0 }
    }

    #[test]
    fn the_rate_rises_evenly_and_falls_along_a_cosine_to_a_hundredth() {
        let rate = |step| schedule().rate(step);
        assert!((rate(0) - 0.01).abs() < 1e-12 && (rate(9) - 0.1).abs() < 1e-12);
        assert!((rate(60) - 0.0505).abs() < 1e-9 && (rate(110) - 0.001).abs() < 1e-9 && rate(500) == rate(110));
    }

    #[test]
    fn the_first_step_goes_by_the_rate_whatever_the_gradients_length_and_only_matrices_shrink() {
        let tensor = |shape: &[i64]| Tensor::full(shape, 2.0, (Kind::Float, Device::Cpu));
        let tensors = BTreeMap::from([("matrix".to_owned(), tensor(&[1, 1])), ("bias".to_owned(), tensor(&[1]))]);
        let variables = Variables::new(tensors, Device::Cpu).expect("variables");
        let (matrix, bias) = (&variables.trained()["matrix"], &variables.trained()["bias"]);
        (matrix.sum(Kind::Float) * 3.0 + bias.sum(Kind::Float) * 4.0).backward();
        let length = Optimizer::default().step(&variables, &schedule(), 9).expect("a step");
        assert!((length - 5.0).abs() < 1e-6);
        // Step 10's moments are divided by what ten steps would have filled, and hold one.
        let moved = 0.1 * (0.1 / (1.0 - 0.9f64.powi(10))) / (0.02 / (1.0 - 0.98f64.powi(10))).sqrt();
        assert!((bias.double_value(&[0]) - (2.0 - moved)).abs() < 1e-4, "{bias:?}");
        assert!((matrix.double_value(&[0, 0]) - (2.0 * 0.95 - moved)).abs() < 1e-4, "{matrix:?}");
        assert_eq!(bias.grad().double_value(&[0]), 0.0);
    }
    #[test]
    fn the_step_of_a_hidden_matrix_stretches_every_direction_alike() {
        for shape in [[6, 20], [20, 6]] {
            let (device, options) = (Device::Cpu, (Kind::Float, Device::Cpu));
            let tensors = BTreeMap::from([("a.layers.0.fc1.weight".to_owned(), Tensor::zeros(shape, options))]);
            let variables = Variables::new(tensors, device).expect("variables");
            let matrix = &variables.trained()["a.layers.0.fc1.weight"];
            // A gradient of which one direction is a hundred times as long as another.
            let gradient: Vec<f32> = (0..120).map(|n| ((n * n) as f32).sin() * 10f32.powi(n % 3)).collect();
            (matrix * Tensor::from_slice(&gradient).view(shape)).sum(Kind::Float).backward();
            Optimizer::default().step(&variables, &schedule(), 9).expect("a step");
            let (_, stretch, _) = matrix.detach().svd(true, true);
            let wanted = 0.1 * 0.2 * 20f64.sqrt();
            let (least, most) = (stretch.min().double_value(&[]) / wanted, stretch.max().double_value(&[]) / wanted);
            assert!(least > 0.5 && most < 1.3, "{least} {most}");
            let against = (matrix.detach() * Tensor::from_slice(&gradient).view(shape)).sum(Kind::Float);
            assert!(against.double_value(&[]) < 0.0);
        }
    }
}
