//! Qwen2-Audio in libtorch: a Whisper encoder whose outputs take the place of tokens in the prompt of a Qwen2 model.

mod audio_tower;
mod config;
mod description;
mod generate;
mod kv_cache;
mod language_model;
mod layers;
mod mel;
mod prompt;
mod tensors;
mod tokenizer;
mod weights;

use std::path::Path;

use tch::{Device, Kind, TchError, Tensor};

use crate::ModelError;
use audio_tower::AudioTower;
use kv_cache::KvCache;
use language_model::LanguageModel;
use layers::{Linear, Loader};
use weights::Weights;

pub use config::{AudioConfig, Config, TextConfig};
pub use description::Description;
pub use generate::{Generated, Row};
pub use mel::Mel;
pub(crate) use prompt::Prompt;
pub use tokenizer::{ChatTokenizer, SpecialIds};

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
        let loader = Loader { weights: &weights, device, kind: dtype };
        Ok(Self {
            audio_tower: AudioTower::load(&loader, &config)?,
            projector: loader.linear("multi_modal_projector.linear")?,
            language_model: LanguageModel::load(&loader, &config)?,
            config,
            tokenizer,
            kind: dtype,
            stored: weights.kinds(),
        })
    }

    /// How many mel bands a clip must have.
    pub fn num_mel_bins(&self) -> usize {
        self.config.audio_config.num_mel_bins
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

    /// Reads prompts, with `clips` (tokens, hidden) in their order in place of their `<|AUDIO|>`: the logits (rows, vocab)
    /// of each first token, in float32, and the cache to go on with.
    pub(crate) fn prefill(&self, prompts: &[&Prompt], clips: &[Tensor]) -> Result<(Tensor, KvCache), TchError> {
        let longest = prompts.iter().map(|prompt| prompt.ids.len()).max().unwrap_or_default();
        let padding: Vec<i64> = prompts.iter().map(|prompt| (longest - prompt.ids.len()) as i64).collect();
        let mut ids = Vec::with_capacity(prompts.len() * longest);
        for (prompt, &padding) in prompts.iter().zip(&padding) {
            ids.resize(ids.len() + padding as usize, 0i64);
            ids.extend(prompt.ids.iter().map(|&id| i64::from(id)));
        }
        let ids = Tensor::f_from_slice(&ids)?.f_view([prompts.len() as i64, longest as i64])?;
        let embeddings = self.language_model.embed(&ids)?;
        let mut clips = clips.iter();
        for ((row, prompt), padding) in (0..).zip(prompts).zip(&padding) {
            for (range, clip) in prompt.audio.iter().zip(&mut clips) {
                let (start, length) = (padding + range.start as i64, range.len() as i64);
                embeddings.f_select(0, row)?.f_narrow(0, start, length)?.f_copy_(clip)?;
            }
        }
        let mut cache = self.language_model.new_cache(&padding)?;
        Ok((self.language_model.forward(embeddings, &mut cache)?, cache))
    }

    /// Reads one further token in each row: the logits (rows, vocab) of the next, in float32.
    pub(crate) fn step(&self, tokens: &[u32], cache: &mut KvCache) -> Result<Tensor, TchError> {
        let ids: Vec<i64> = tokens.iter().map(|&token| i64::from(token)).collect();
        let ids = Tensor::f_from_slice(&ids)?.f_unsqueeze(1)?;
        self.language_model.forward(self.language_model.embed(&ids)?, cache)
    }
}

/// Tells the weights of the checkpoint in `dir` from others.
///
/// # Errors
/// [`ModelError::Read`] or [`ModelError::Invalid`], for a file of weights.
pub(crate) fn fingerprint(dir: &Path) -> Result<String, ModelError> {
    Weights::open(dir)?.fingerprint()
}

/// A checkpoint of the test data.
#[cfg(test)]
pub(crate) fn fixture(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/qwen2_audio").join(name)
}
