//! The network a run begins with: fresh, or a checkpoint's.

use std::path::PathBuf;

use fastrand::Rng;
use serde_json::Value;
use tch::{Device, Kind};

use super::heads::Heads;
use super::trainer::{NUMBERS, Options};
use super::variables::Variables;
use super::{init, vocabulary};
use crate::ModelError;
use crate::qwen2_audio::{ChatTokenizer, Config, Qwen2Audio, Weights};

/// Where a run begins.
#[derive(Clone, Debug)]
pub enum Start {
    /// With fresh weights of these dimensions, and a tokenizer made for the schema.
    Scratch {
        /// A `config.json`; its vocabulary and token ids are the tokenizer's.
        config: Value,
    },
    /// With a checkpoint's weights.
    Checkpoint {
        /// The checkpoint, in the hub's layout.
        dir: PathBuf,
        /// Train adapters of this rank, and leave the weights as they are.
        lora: Option<usize>,
    },
}

impl Start {
    /// Tidemark's own small network: 5 layers of 192 hear, 2 layers of 192 answer.
    ///
    /// # Panics
    /// Never: its dimensions come with Tidemark.
    pub fn nano() -> Self {
        Self::Scratch { config: serde_json::from_str(include_str!("nano.json")).expect("it is JSON") }
    }
}

/// A network in training, with all that its checkpoint consists of.
pub(super) struct Network {
    pub(super) config_json: Value,
    pub(super) config: Config,
    pub(super) tokenizer: ChatTokenizer,
    pub(super) variables: Variables,
}

impl Network {
    /// The network that the options ask for, with helper heads.
    ///
    /// # Errors
    /// A [`ModelError`] for a checkpoint or dimensions that cannot be used.
    pub(super) fn begin(options: &Options) -> Result<Self, ModelError> {
        let mut rng = Rng::with_seed(options.seed);
        let mut network = match &options.start {
            Start::Scratch { config } => Self::fresh(options, config, &mut rng)?,
            Start::Checkpoint { dir, lora } => {
                let path = dir.join("config.json");
                let config = Config::load(dir)?;
                let text = std::fs::read(&path).map_err(|error| ModelError::read(&path, &error))?;
                let config_json = serde_json::from_slice(&text).map_err(|error| ModelError::invalid(&path, error))?;
                let weights = Weights::open(dir)?;
                let variables = match lora {
                    None => Variables::of_checkpoint(&weights, &config, options.device())?,
                    Some(rank) => Variables::adapted(&weights, &config, *rank, (options.device(), NUMBERS), &mut rng)?,
                };
                Self { config_json, config, tokenizer: ChatTokenizer::load(dir)?, variables }
            }
        };
        let d = network.config.audio_config.d_model;
        Heads::new(&options.schema).add_to(&mut network.variables, d, &mut rng)?;
        Ok(network)
    }

    fn fresh(options: &Options, config: &Value, rng: &mut Rng) -> Result<Self, ModelError> {
        let path = options.out.join("tokenizer.json");
        let tokenizer = vocabulary::tokenizer(&options.schema, &options.question)?;
        tokenizer.save(&path, true).map_err(|error| super::checkpoint::write_error(&path, error))?;
        let tokenizer = ChatTokenizer::load(&options.out)?;
        let mut config_json = config.clone();
        let size = tokenizer.inner().get_vocab_size(true);
        config_json["text_config"]["vocab_size"] = size.next_multiple_of(VOCABULARY_STEP).into();
        config_json["audio_token_index"] = tokenizer.special().audio.into();
        for part in ["bos_token_id", "pad_token_id"] {
            config_json["text_config"][part] = tokenizer.inner().token_to_id("<|endoftext|>").into();
        }
        config_json["text_config"]["eos_token_id"] = tokenizer.special().im_end.into();
        let path = options.out.join("config.json");
        std::fs::write(&path, format!("{config_json:#}"))
            .map_err(|error| super::checkpoint::write_error(&path, error))?;
        let config = Config::load(&options.out)?;
        let variables = Variables::new(init::fresh(&config, rng)?, options.device())?;
        Ok(Self { config_json, config, tokenizer, variables })
    }

    /// The network as it is served, of the variables as they are.
    ///
    /// # Errors
    /// [`ModelError::Torch`].
    pub(super) fn assemble(&self, device: Device, kind: Kind) -> Result<Qwen2Audio, ModelError> {
        Qwen2Audio::assemble(self.config.clone(), self.tokenizer.clone(), &self.variables, (device, kind))
    }
}

/// Products are fastest where a side is a multiple of this.
const VOCABULARY_STEP: usize = 32;
