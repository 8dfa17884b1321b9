//! AdamW (Loshchilov 2019, arXiv 1711.05101) and its schedule.
//!
//! libtorch's own optimizer hides its moments, and a run that resumes needs them to the last bit.

use std::collections::BTreeMap;

use tch::{TchError, Tensor};

use super::variables::Variables;

const BETA_1: f64 = 0.9;
const BETA_2: f64 = 0.98;
const EPSILON: f64 = 1e-8;

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

/// The two moments of each variable.
#[derive(Debug, Default)]
pub(crate) struct AdamW {
    pub(crate) moments: BTreeMap<String, [Tensor; 2]>,
}

impl AdamW {
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
        let (unbiased_1, unbiased_2) = (1.0 - BETA_1.powf(step as f64 + 1.0), 1.0 - BETA_2.powf(step as f64 + 1.0));
        for (name, variable, mut gradient) in gradients {
            if length.is_finite() {
                let mut variable = variable.shallow_clone();
                let zeros = || variable.zeros_like();
                let [first, second] = self.moments.entry(name.clone()).or_insert_with(|| [zeros(), zeros()]);
                let gradient = gradient.f_mul_scalar(shorten)?;
                *first = first.f_mul_scalar(BETA_1)?.f_add(&gradient.f_mul_scalar(1.0 - BETA_1)?)?;
                *second = second.f_mul_scalar(BETA_2)?.f_add(&gradient.f_square()?.f_mul_scalar(1.0 - BETA_2)?)?;
                let spread = second.f_div_scalar(unbiased_2)?.f_sqrt()?.f_add_scalar(EPSILON)?;
                if variable.dim() > 1 {
                    let _shrunk = variable.f_mul_scalar_(1.0 - rate * schedule.weight_decay)?;
                }
                let _moved = variable.f_sub_(&first.f_div(&spread)?.f_mul_scalar(rate / unbiased_1)?)?;
            }
            let _forgotten = gradient.f_zero_()?;
        }
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

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
        let length = AdamW::default().step(&variables, &schedule(), 9).expect("a step");
        assert!((length - 5.0).abs() < 1e-6);
        // Step 10's moments are divided by what ten steps would have filled, and hold one.
        let moved = 0.1 * (0.1 / (1.0 - 0.9f64.powi(10))) / (0.02 / (1.0 - 0.98f64.powi(10))).sqrt();
        assert!((bias.double_value(&[0]) - (2.0 - moved)).abs() < 1e-4, "{bias:?}");
        assert!((matrix.double_value(&[0, 0]) - (2.0 * 0.95 - moved)).abs() < 1e-4, "{matrix:?}");
        assert_eq!(bias.grad().double_value(&[0]), 0.0);
    }
}
