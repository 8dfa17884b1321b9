//! What training moves: named leaf tensors in float32, from which the serving network is put together for each step.
//!
//! They are rounded to the kind in which the network computes when it asks for them, so mixed precision is nothing but a
//! network of bfloat16 over variables of float32: rounding has a gradient, and the step is taken in float32.

use std::collections::BTreeMap;
use std::path::PathBuf;

use fastrand::Rng;
use tch::{Device, Kind, Tensor};

use super::lora::Adapters;
use crate::ModelError;
use crate::qwen2_audio::{Config, TensorSource, Weights, expected};

/// The tensors of a network in training.
#[derive(Debug)]
pub(crate) struct Variables {
    /// Moved by training.
    trained: BTreeMap<String, Tensor>,
    /// Only read.
    frozen: BTreeMap<String, Tensor>,
    adapters: Option<Adapters>,
    device: Device,
}

impl Variables {
    /// Of these tensors, all are trained but the encoder's positions, which stay what they are, as Whisper's.
    ///
    /// # Errors
    /// [`ModelError::Torch`] for want of memory.
    pub(crate) fn new(tensors: BTreeMap<String, Tensor>, device: Device) -> Result<Self, ModelError> {
        let mut variables = Self { trained: BTreeMap::new(), frozen: BTreeMap::new(), adapters: None, device };
        for (name, tensor) in tensors {
            let tensor = tensor.f_to_device(device)?.f_to_kind(Kind::Float)?.f_detach()?;
            if name == POSITIONS {
                variables.frozen.insert(name, tensor);
            } else {
                variables.add(name, tensor)?;
            }
        }
        Ok(variables)
    }

    /// The checkpoint's tensors, all of them trained.
    ///
    /// # Errors
    /// A [`ModelError`] for weights that are not what `config` asks for.
    pub(crate) fn of_checkpoint(weights: &Weights, config: &Config, device: Device) -> Result<Self, ModelError> {
        let read = |name: String| Ok((name.clone(), weights.read(&name, device, Kind::Float)?));
        let tensors = names(weights, config)?.into_iter().map(read).collect::<Result<_, ModelError>>()?;
        Self::new(tensors, device)
    }

    /// The checkpoint's tensors as they are, in `kind`, under adapters of `rank` that alone are trained.
    ///
    /// # Errors
    /// A [`ModelError`] for weights that are not what `config` asks for.
    pub(crate) fn adapted(
        weights: &Weights,
        config: &Config,
        rank: usize,
        (device, kind): (Device, Kind),
        rng: &mut Rng,
    ) -> Result<Self, ModelError> {
        let read = |name: String| Ok((name.clone(), weights.read(&name, device, kind)?));
        let frozen: BTreeMap<_, _> =
            names(weights, config)?.into_iter().map(read).collect::<Result<_, ModelError>>()?;
        let adapters = Adapters { rank };
        let shapes: Vec<_> = frozen.iter().map(|(name, tensor)| (name.clone(), tensor.size())).collect();
        let mut variables = Self { trained: BTreeMap::new(), frozen, adapters: Some(adapters), device };
        for (name, tensor) in shapes.iter().filter_map(|(name, shape)| adapters.fresh(name, shape, rng)).flatten() {
            variables.add(name, tensor?.f_to_device(device)?)?;
        }
        Ok(variables)
    }

    /// Adds a variable: the weights of a helper head are trained beside the network.
    ///
    /// # Errors
    /// [`ModelError::Torch`].
    pub(crate) fn add(&mut self, name: String, tensor: Tensor) -> Result<(), ModelError> {
        let tensor = tensor.f_to_device(self.device)?.f_to_kind(Kind::Float)?.f_set_requires_grad(true)?;
        self.trained.insert(name, tensor);
        Ok(())
    }

    /// The trained tensors, by name.
    pub(crate) fn trained(&self) -> &BTreeMap<String, Tensor> {
        &self.trained
    }

    /// Whether the variable is a matrix between two hidden layers; of adapters none is.
    pub(crate) fn is_hidden_matrix(&self, name: &str) -> bool {
        self.adapters.is_none() && name.contains(".layers.") && self.trained[name].dim() == 2
    }

    /// Every tensor of the network, adapters merged into the weights under them.
    ///
    /// # Errors
    /// [`ModelError::Torch`].
    pub(crate) fn merged(&self, config: &Config) -> Result<BTreeMap<String, Tensor>, ModelError> {
        let _no_grad = tch::no_grad_guard();
        let of_network = expected(config).into_iter().map(|tensor| tensor.name).filter(|name| self.has(name));
        of_network
            .map(|name| {
                let tensor = self.read(&name, self.device, Kind::Float)?;
                Ok((name, tensor))
            })
            .collect()
    }
}

/// The encoder's positions.
pub(crate) const POSITIONS: &str = "audio_tower.embed_positions.weight";

fn names(weights: &Weights, config: &Config) -> Result<Vec<String>, ModelError> {
    let expected = expected(config);
    weights.check(&expected)?;
    Ok(expected.into_iter().map(|tensor| tensor.name).filter(|name| weights.has(name)).collect())
}

impl TensorSource for Variables {
    fn has(&self, name: &str) -> bool {
        self.trained.contains_key(name) || self.frozen.contains_key(name)
    }

    fn is_fixed(&self) -> bool {
        false
    }

    fn read(&self, name: &str, device: Device, kind: Kind) -> Result<Tensor, ModelError> {
        let found = self.trained.get(name).or_else(|| self.frozen.get(name));
        let tensor = found.ok_or_else(|| ModelError::MissingTensor {
            name: name.to_owned(),
            file: PathBuf::from("the variables of training"),
            expected: Vec::new(),
        })?;
        let tensor = match self.adapters.and_then(|adapters| adapters.delta(name, &self.trained)) {
            None => tensor.f_to_kind(kind)?,
            Some(delta) => tensor.f_to_kind(kind)?.f_add(&delta?.f_to_kind(kind)?)?,
        };
        Ok(tensor.f_to_device(device)?)
    }
}
