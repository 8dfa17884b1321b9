//! What a checkpoint is, read from its headers alone: no weight is loaded.

use std::path::{Path, PathBuf};

use tch::Kind;

use super::config::Config;
use super::layers::TensorSource;
use super::tensors::{self, Expected};
use super::weights::Weights;
use crate::ModelError;

/// A checkpoint, described.
#[derive(Clone, Debug)]
pub struct Description {
    /// Its dimensions.
    pub config: Config,
    /// Parameters of the encoder.
    pub audio_tower_parameters: u64,
    /// Parameters of the projector.
    pub projector_parameters: u64,
    /// Parameters of the language model; a tied `lm_head` counts once.
    pub language_model_parameters: u64,
    /// The kinds of number in the files: `f32`, `f16`, `bf16`.
    pub dtypes: Vec<&'static str>,
    /// The weight files with their sizes in bytes.
    pub files: Vec<(PathBuf, u64)>,
}

impl Description {
    /// All parameters.
    pub fn parameters(&self) -> u64 {
        self.audio_tower_parameters + self.projector_parameters + self.language_model_parameters
    }

    /// Describes the checkpoint in `dir`, after the same checks that loading makes of its tensors.
    ///
    /// # Errors
    /// A [`ModelError`] that names the file, and the tensor or key, that is wrong.
    pub fn read(dir: &Path) -> Result<Self, ModelError> {
        let config = Config::load(dir)?;
        let weights = Weights::open(dir)?;
        let expected = tensors::expected(&config);
        weights.check(&expected)?;
        let parameters = |part: &str| {
            let of_part = |tensor: &&Expected| tensor.name.starts_with(part) && weights.has(&tensor.name);
            expected.iter().filter(of_part).map(|tensor| tensor.shape.iter().product::<usize>() as u64).sum()
        };
        Ok(Self {
            audio_tower_parameters: parameters("audio_tower."),
            projector_parameters: parameters("multi_modal_projector."),
            language_model_parameters: parameters("language_model."),
            dtypes: weights.kinds().into_iter().map(name).collect(),
            files: weights.files()?,
            config,
        })
    }
}

fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Half => "f16",
        Kind::BFloat16 => "bf16",
        _ => "f32",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::qwen2_audio::fixture;

    #[test]
    fn a_checkpoint_is_described_without_loading_it() {
        let description = Description::read(&fixture("tiny-sharded")).expect("described");
        assert_eq!(description.parameters(), 429_888, "the total in the fixture's index");
        assert_eq!((description.dtypes, description.files.len()), (vec!["f32"], 15));
        assert_eq!(description.config.audio_config.d_model, 48);
    }
}
