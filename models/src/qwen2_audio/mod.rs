//! Qwen2-Audio in libtorch: a Whisper encoder whose outputs take the place of tokens in the prompt of a Qwen2 model.

mod audio_tower;
mod config;
mod description;
mod kv_cache;
mod language_model;
mod layers;
mod linear;
mod mel;
mod native;
mod prompt;
mod row;
mod tensors;
mod tokenizer;
mod weights;

use std::path::Path;

use tch::{Device, Kind, TchError, Tensor};

use crate::ModelError;
use audio_tower::AudioTower;
use language_model::LanguageModel;
use layers::Loader;

pub(crate) use audio_tower::Encoding;
pub use config::{AudioConfig, Config, TextConfig};
pub use description::Description;
pub(crate) use kv_cache::{KvCache, Span};
pub(crate) use layers::TensorSource;
pub(crate) use linear::Linear;
pub use mel::Mel;
pub use native::cuda_memory;
pub(crate) use prompt::Prompt;
pub use row::{Generated, Row};
pub(crate) use tensors::{Expected, expected};
pub use tokenizer::{ChatTokenizer, SpecialIds};
pub(crate) use weights::Weights;

/// A Qwen2-Audio checkpoint, loaded. It belongs to one thread at a time; how many threads libtorch uses, its caller says
/// once.
#[derive(Debug)]
pub struct Qwen2Audio {
    config: Config,
    tokenizer: ChatTokenizer,
    audio_tower: AudioTower,
    projector: Linear,
    language_model: LanguageModel,
    kind: Kind,
    stored: Vec<Kind>,
}

impl Qwen2Audio {
    /// Loads the checkpoint in `dir` onto `device`, to compute in `dtype`: float32 or bfloat16, whatever the files hold.
    ///
    /// # Errors
    /// A [`ModelError`] that names the file, and the tensor or key, that is missing, superfluous, misshapen, cut or not
    /// supported; [`ModelError::Torch`] for want of memory.
    pub fn load(dir: &Path, device: Device, dtype: Kind) -> Result<Self, ModelError> {
        let _no_grad = tch::no_grad_guard();
        if !matches!(dtype, Kind::Float | Kind::BFloat16) {
            return Err(ModelError::invalid(dir, format!("it cannot run in {dtype:?}, only in Float or BFloat16")));
        }
        let config = Config::load(dir)?;
        let tokenizer = ChatTokenizer::load(dir)?;
        let (special, index) = (tokenizer.special(), config.audio_token_index);
        if special.audio != index {
            let reason = format!("audio_token_index is {index}, but <|AUDIO|> is {} in tokenizer.json", special.audio);
            return Err(ModelError::invalid(&dir.join("config.json"), reason));
        }
        let marks = [special.im_start, special.im_end, special.audio_bos, special.audio_eos];
        if let Some(mark) = marks.iter().find(|&&mark| mark as usize >= config.text_config.vocab_size) {
            let reason = format!("token {mark} is outside the model's {} tokens", config.text_config.vocab_size);
            return Err(ModelError::invalid(&dir.join("tokenizer.json"), reason));
        }
        let weights = Weights::open(dir)?;
        weights.check(&tensors::expected(&config))?;
        let stored = weights.kinds();
        Ok(Self { stored, ..Self::assemble(config, tokenizer, &weights, (device, dtype))? })
    }

    /// Puts a network together of tensors from anywhere.
    ///
    /// # Errors
    /// What the source says of a tensor, and [`ModelError::Torch`].
    pub(crate) fn assemble(
        config: Config,
        tokenizer: ChatTokenizer,
        weights: &dyn TensorSource,
        (device, kind): (Device, Kind),
    ) -> Result<Self, ModelError> {
        let loader = Loader { weights, device, kind };
        Ok(Self {
            audio_tower: AudioTower::load(&loader, &config)?,
            projector: loader.linear("multi_modal_projector.linear")?,
            language_model: LanguageModel::load(&loader, &config)?,
            config,
            tokenizer,
            kind,
            stored: vec![kind],
        })
    }

    /// Puts the network together anew: training moves its tensors with every step.
    ///
    /// # Errors
    /// As [`Self::assemble`].
    pub(crate) fn assemble_again(&mut self, weights: &dyn TensorSource) -> Result<(), ModelError> {
        let loader = Loader { weights, device: self.language_model.device(), kind: self.kind };
        self.audio_tower = AudioTower::load(&loader, &self.config)?;
        self.projector = loader.linear("multi_modal_projector.linear")?;
        self.language_model = LanguageModel::load(&loader, &self.config)?;
        Ok(())
    }

    /// How many mel bands a clip must have.
    pub fn num_mel_bins(&self) -> usize {
        self.config.audio_config.num_mel_bins
    }

    /// How many samples at 16 kHz it hears at once.
    pub fn window(&self) -> usize {
        self.config.window()
    }

    /// The checkpoint's dimensions.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The checkpoint's tokenizer.
    pub fn tokenizer(&self) -> &ChatTokenizer {
        &self.tokenizer
    }

    /// Tokens that end an answer: those the checkpoint names, else `<|im_end|>`.
    pub fn eos_token_ids(&self) -> Vec<u32> {
        match self.config.eos_token_ids.as_slice() {
            [] => vec![self.tokenizer.special().im_end],
            ids => ids.to_vec(),
        }
    }

    /// Memory that one token of prompt or answer holds while its row is being answered, in bytes.
    pub fn kv_bytes_per_token(&self) -> usize {
        let text = &self.config.text_config;
        2 * text.num_hidden_layers * text.num_key_value_heads() * text.head_dim() * self.kind.elt_size_in_bytes()
    }

    /// The kinds of number in the checkpoint's files.
    pub(crate) fn stored_kinds(&self) -> &[Kind] {
        &self.stored
    }

    /// Rounds the rotary frequencies to `kind`; see `verify`.
    pub(crate) fn round_rotary_frequencies(&mut self, kind: Kind) -> Result<(), TchError> {
        self.language_model.round_frequencies(kind)
    }

    /// The prompt for clips and a question.
    ///
    /// # Errors
    /// [`ModelError::Request`] where a clip or the prompt does not fit the model.
    pub(crate) fn prompt(&self, clips: &[Mel], question: &str) -> Result<Prompt, ModelError> {
        let tokens: Vec<usize> =
            clips.iter().map(|clip| self.audio_tower.audio_tokens(clip)).collect::<Result<_, _>>()?;
        let prompt = prompt::chat(&self.tokenizer, &tokens, question)?;
        let (found, fit) = (prompt.ids.len(), self.config.text_config.max_position_embeddings);
        if found > fit {
            return Err(ModelError::Request(format!("a prompt of {found} tokens; {fit} fit")));
        }
        Ok(prompt)
    }

    /// Encodes clips together: (tokens, d_model) each.
    pub(crate) fn encode(&self, clips: &[&Mel]) -> Result<Vec<Tensor>, TchError> {
        self.audio_tower.encode(clips)
    }

    /// Takes encoded clips to the width of the language model: (tokens, hidden) each.
    pub(crate) fn project(&self, encoded: &[Tensor]) -> Result<Vec<Tensor>, TchError> {
        if encoded.is_empty() {
            return Ok(Vec::new());
        }
        let lengths: Vec<i64> = encoded.iter().map(|clip| clip.size()[0]).collect();
        self.projector.forward(&Tensor::f_cat(encoded, 0)?)?.f_split_with_sizes(lengths, 0)
    }

    /// The encoder, to be run layer by layer.
    pub(crate) fn audio_tower(&self) -> &AudioTower {
        &self.audio_tower
    }

    /// An empty cache of keys and values for so many tokens.
    pub(crate) fn new_cache(&self, places: usize) -> Result<KvCache, TchError> {
        self.language_model.new_cache(places)
    }

    /// Whether it runs on the processor.
    pub(crate) fn is_on_cpu(&self) -> bool {
        self.language_model.device() == Device::Cpu
    }

    /// Waits until the device has done what it was asked to.
    pub(crate) fn wait(&self) {
        if let Device::Cuda(index) = self.language_model.device() {
            tch::Cuda::synchronize(index as i64);
        }
    }

    /// Fails where the device does no longer compute.
    pub(crate) fn probe(&self) -> Result<(), TchError> {
        let device = self.language_model.device();
        Tensor::f_ones([1], (Kind::Float, device))?.f_add_scalar(1.0)?.f_double_value(&[0]).map(|_| ())
    }

    /// The tokens in front of the first clip: every prompt begins with them.
    pub(crate) fn prompt_prefix(&self) -> Result<Vec<u32>, ModelError> {
        let mut prompt = prompt::chat(&self.tokenizer, &[1], "")?;
        prompt.ids.truncate(prompt.audio[0].start);
        Ok(prompt.ids)
    }

    /// Reads new tokens: those of all spans, behind each other. `sound` (tokens, hidden) takes the place of the tokens
    /// from its number on. Returns the logits (asked, vocab), in float32, behind the tokens asked for by number.
    pub(crate) fn read(
        &self,
        ids: &[u32],
        sound: &[(usize, Tensor)],
        spans: &[Span],
        cache: &mut KvCache,
        asked: &[i64],
    ) -> Result<Tensor, TchError> {
        let embeddings = self.language_model.embed(ids)?;
        for (at, clip) in sound {
            embeddings.f_narrow(0, *at as i64, clip.size()[0])?.f_copy_(clip)?;
        }
        self.language_model.forward(embeddings, spans, cache, asked)
    }

    /// The logits (prompts, vocab) of each prompt's first token of answer, with `clips` (tokens, hidden) in their order
    /// in place of their `<|AUDIO|>`.
    pub(crate) fn first_logits(&self, prompts: &[Prompt], clips: &[Tensor]) -> Result<Tensor, TchError> {
        let (mut ids, mut sound, mut spans, mut asked) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut clips = clips.iter();
        for prompt in prompts {
            let start = ids.len();
            let heard = prompt.audio.iter().zip(&mut clips).map(|(at, clip)| (start + at.start, clip.shallow_clone()));
            sound.extend(heard);
            ids.extend(&prompt.ids);
            spans.push(Span { slot: start..ids.len(), held: 0, new: prompt.ids.len() });
            asked.push(ids.len() as i64 - 1);
        }
        self.read(&ids, &sound, &spans, &mut self.new_cache(ids.len())?, &asked)
    }
}

/// Tells the weights of the checkpoint in `dir` from others.
///
/// # Errors
/// [`ModelError::Read`] or [`ModelError::Invalid`], for a file of weights.
pub fn fingerprint(dir: &Path) -> Result<String, ModelError> {
    Weights::open(dir)?.fingerprint()
}

/// Where tests compute: on a GPU where there is one.
#[cfg(test)]
pub(crate) fn test_device() -> Device {
    Device::cuda_if_available()
}

/// A checkpoint of the test data.
#[cfg(test)]
pub(crate) fn fixture(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/qwen2_audio").join(name)
}
