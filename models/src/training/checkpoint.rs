//! A run's state on disk: what it needs to go on as if it had never been cut.
//!
//! Which clips a step hears and how they are changed follows from seed and step, and no step draws at random otherwise; so
//! the state is the variables, their moments and the number of the step.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView, serialize_to_file};
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, TchError, Tensor};

use super::optimizer::Optimizer;
use super::variables::Variables;
use crate::ModelError;

/// What must be the same for a run to go on: all else would be another run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Run {
    /// Clips of the manifest that the run learns from: one that has grown since does not change the order.
    pub(crate) clips: usize,
    pub(crate) epochs: u64,
    pub(crate) hearing_epochs: u64,
    pub(crate) batch: usize,
    pub(crate) learning_rate: f64,
    pub(crate) seed: u64,
    pub(crate) lora: Option<usize>,
    pub(crate) question: String,
}

/// A state that was read.
pub(crate) struct State {
    pub(crate) run: Run,
    /// Steps that were taken.
    pub(crate) step: u64,
    tensors: BTreeMap<String, Tensor>,
}

const RUN: &str = "run";
const STEP: &str = "step";
const PARTS: [&str; 3] = ["variable", "first_moment", "second_moment"];

/// Writes the state, in place of an earlier one: under another name first, so that a kill leaves one of the two.
///
/// # Errors
/// [`ModelError::Write`], [`ModelError::Torch`].
pub(crate) fn save(
    path: &Path,
    run: &Run,
    step: u64,
    variables: &Variables,
    optimizer: &Optimizer,
) -> Result<(), ModelError> {
    let mut tensors = BTreeMap::new();
    for (name, variable) in variables.trained() {
        tensors.insert(format!("{}.{name}", PARTS[0]), variable.shallow_clone());
        for (part, moment) in PARTS[1..].iter().zip(optimizer.moments.get(name).into_iter().flatten()) {
            tensors.insert(format!("{part}.{name}"), moment.shallow_clone());
        }
    }
    let run = serde_json::to_string(run).map_err(|error| write_error(path, error))?;
    let about = HashMap::from([(RUN.to_owned(), run), (STEP.to_owned(), step.to_string())]);
    write(path, &tensors, Kind::Float, Some(about))
}

/// Reads a state; `None` where there is none.
///
/// # Errors
/// [`ModelError::Read`] or [`ModelError::Invalid`] for a file that cannot be used.
pub(crate) fn load(path: &Path) -> Result<Option<State>, ModelError> {
    if !path.exists() {
        return Ok(None);
    }
    let bytes = std::fs::read(path).map_err(|error| ModelError::read(path, &error))?;
    let invalid = |error: String| ModelError::invalid(path, error);
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|error| invalid(error.to_string()))?;
    let about = header.metadata().clone().unwrap_or_default();
    let entry = |key: &str| about.get(key).ok_or_else(|| invalid(format!("it has no {key}")));
    let run = serde_json::from_str(entry(RUN)?).map_err(|error| invalid(error.to_string()))?;
    let step = entry(STEP)?.parse().map_err(|error| invalid(format!("{STEP}: {error}")))?;
    let stored = SafeTensors::deserialize(&bytes).map_err(|error| invalid(error.to_string()))?;
    let tensor = |(name, view): (String, TensorView<'_>)| {
        let shape: Vec<i64> = view.shape().iter().map(|&size| size as i64).collect();
        Ok((name, Tensor::f_from_data_size(view.data(), &shape, Kind::Float)?))
    };
    let tensors = stored.tensors().into_iter().map(tensor).collect::<Result<_, TchError>>()?;
    Ok(Some(State { run, step, tensors }))
}

impl State {
    /// All of its tensors.
    #[cfg(test)]
    pub(crate) fn tensors(&self) -> &BTreeMap<String, Tensor> {
        &self.tensors
    }

    /// Gives variables and moments the values of the state.
    ///
    /// # Errors
    /// [`ModelError::Training`] where the network is another one.
    pub(crate) fn restore(&self, variables: &Variables, optimizer: &mut Optimizer) -> Result<(), ModelError> {
        let _no_grad = tch::no_grad_guard();
        for (name, variable) in variables.trained() {
            let stored = |part: &str| self.tensors.get(&format!("{part}.{name}"));
            let value = stored(PARTS[0]).filter(|value| value.size() == variable.size());
            let value = value.ok_or_else(|| ModelError::Training(format!("the state has no {name} of that shape")))?;
            variable.shallow_clone().f_copy_(value)?;
            let moments = PARTS[1..].iter().map_while(|part| stored(part));
            let moments: Vec<Tensor> = moments.map(|moment| moment.to_device(variable.device())).collect();
            if !moments.is_empty() {
                optimizer.moments.insert(name.clone(), moments);
            }
        }
        Ok(())
    }

    /// Gives those variables the state's values that both know, as a run's helper heads know what another run taught them.
    ///
    /// # Errors
    /// [`ModelError::Torch`].
    pub(crate) fn lend(&self, variables: &Variables, prefix: &str) -> Result<(), ModelError> {
        let _no_grad = tch::no_grad_guard();
        for (name, variable) in variables.trained().iter().filter(|(name, _)| name.starts_with(prefix)) {
            let stored = self.tensors.get(&format!("{}.{name}", PARTS[0]));
            if let Some(value) = stored.filter(|value| value.size() == variable.size()) {
                variable.shallow_clone().f_copy_(value)?;
            }
        }
        Ok(())
    }
}

/// Writes tensors as `kind` in safetensors: under another name first.
///
/// # Errors
/// [`ModelError::Write`], [`ModelError::Torch`].
pub(crate) fn write(
    path: &Path,
    tensors: &BTreeMap<String, Tensor>,
    kind: Kind,
    about: Option<HashMap<String, String>>,
) -> Result<(), ModelError> {
    let dtype = match kind {
        Kind::BFloat16 => Dtype::BF16,
        _ => Dtype::F32,
    };
    let held = tensors.iter().map(|(name, tensor)| {
        let tensor = tensor.f_detach()?.f_to_device(Device::Cpu)?.f_to_kind(kind)?.f_contiguous()?;
        let mut bytes = vec![0; tensor.numel() * kind.elt_size_in_bytes()];
        tensor.f_copy_data_u8(&mut bytes, tensor.numel())?;
        Ok((name, tensor.size().iter().map(|&size| size as usize).collect::<Vec<_>>(), bytes))
    });
    let held = held.collect::<Result<Vec<_>, TchError>>()?;
    let views = held.iter().map(|(name, shape, bytes)| {
        TensorView::new(dtype, shape.clone(), bytes).map(|view| (name, view)).map_err(|error| write_error(path, error))
    });
    let unfinished = unfinished(path);
    serialize_to_file(views.collect::<Result<Vec<_>, _>>()?, about, &unfinished)
        .map_err(|error| write_error(path, error))?;
    std::fs::rename(&unfinished, path).map_err(|error| write_error(path, error))
}

/// The name of a file that is being written.
fn unfinished(path: &Path) -> PathBuf {
    path.with_extension("part")
}

pub(crate) fn write_error(path: &Path, error: impl std::fmt::Display) -> ModelError {
    ModelError::Write { path: path.to_owned(), reason: error.to_string() }
}
