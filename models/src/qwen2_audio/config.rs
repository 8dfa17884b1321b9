//! The dimensions of a Qwen2-Audio checkpoint, read from its JSON files.

use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::ModelError;
use crate::audio::HOP;

/// `config.json`. What the file leaves out has the default of Hugging Face's classes, which is how the 7B's file is
/// written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Config {
    #[serde(default = "default::model_type")]
    model_type: String,
    /// The encoder of sound.
    #[serde(default)]
    pub audio_config: AudioConfig,
    /// The language model.
    #[serde(default)]
    pub text_config: TextConfig,
    /// The token whose embeddings are replaced by sound.
    #[serde(default = "default::audio_token_index")]
    pub audio_token_index: u32,
    /// Files differ in where they say that `lm_head` is the embedding: here or in `text_config`.
    #[serde(default)]
    tie_word_embeddings: bool,
    /// Tokens that end an answer, of `generation_config.json`, else of `text_config`.
    #[serde(skip)]
    pub eos_token_ids: Vec<u32>,
}

/// The encoder: Whisper's with a pooling.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AudioConfig {
    /// Mel bands of the input.
    pub num_mel_bins: usize,
    /// Width.
    pub d_model: usize,
    /// Layers.
    pub encoder_layers: usize,
    /// Attention heads.
    pub encoder_attention_heads: usize,
    /// Width of the feed-forward part.
    pub encoder_ffn_dim: usize,
    /// Positions after the convolutions; twice as many mel frames fit.
    pub max_source_positions: usize,
    activation_function: String,
}

impl Default for AudioConfig {
    fn default() -> Self {
        Self {
            num_mel_bins: 128,
            d_model: 1280,
            encoder_layers: 32,
            encoder_attention_heads: 20,
            encoder_ffn_dim: 5120,
            max_source_positions: 1500,
            activation_function: "gelu".into(),
        }
    }
}

/// The language model: Qwen2.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TextConfig {
    /// Tokens with an embedding, those without a meaning included.
    pub vocab_size: usize,
    /// Width.
    pub hidden_size: usize,
    /// Width of the feed-forward part.
    pub intermediate_size: usize,
    /// Layers.
    pub num_hidden_layers: usize,
    /// Heads of the queries.
    pub num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    /// Prompt and answer together.
    pub max_position_embeddings: usize,
    /// Added to the mean square in RMSNorm.
    pub rms_norm_eps: f64,
    rope_theta: Option<f64>,
    rope_parameters: Option<RopeParameters>,
    rope_scaling: Option<serde_json::Value>,
    tie_word_embeddings: bool,
    hidden_act: String,
    use_sliding_window: bool,
    eos_token_id: Option<OneOrMany>,
}

impl Default for TextConfig {
    fn default() -> Self {
        Self {
            vocab_size: 151_936,
            hidden_size: 4096,
            intermediate_size: 22_016,
            num_hidden_layers: 32,
            num_attention_heads: 32,
            num_key_value_heads: Some(32),
            head_dim: None,
            max_position_embeddings: 32_768,
            rms_norm_eps: 1e-6,
            rope_theta: None,
            rope_parameters: None,
            rope_scaling: None,
            tie_word_embeddings: false,
            hidden_act: "silu".into(),
            use_sliding_window: false,
            eos_token_id: None,
        }
    }
}

impl TextConfig {
    /// Heads of keys and values; a group of query heads shares each.
    pub fn num_key_value_heads(&self) -> usize {
        self.num_key_value_heads.unwrap_or(self.num_attention_heads)
    }

    /// Width of one head.
    pub fn head_dim(&self) -> usize {
        self.head_dim.unwrap_or(self.hidden_size / self.num_attention_heads.max(1))
    }

    /// The base of the rotary angles: flat in old files, under `rope_parameters` in new ones.
    pub fn rope_theta(&self) -> f64 {
        let nested = self.rope_parameters.as_ref().and_then(|rope| rope.rope_theta);
        nested.or(self.rope_theta).unwrap_or(10_000.0)
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct RopeParameters {
    rope_theta: Option<f64>,
    rope_type: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(u32),
    Many(Vec<u32>),
}

impl OneOrMany {
    fn into_vec(self) -> Vec<u32> {
        match self {
            Self::One(id) => vec![id],
            Self::Many(ids) => ids,
        }
    }
}

mod default {
    pub(super) fn model_type() -> String {
        "qwen2_audio".into()
    }

    pub(super) fn audio_token_index() -> u32 {
        151_646
    }
}

impl Config {
    /// How many samples at 16 kHz the encoder hears at once: it has a position for two mel frames.
    pub fn window(&self) -> usize {
        2 * self.audio_config.max_source_positions * HOP
    }

    /// Reads `config.json`, and from `generation_config.json` and `preprocessor_config.json`, where they exist, the
    /// end-of-text ids and the check that the front end makes as many mel bands as the encoder takes.
    ///
    /// # Errors
    /// [`ModelError::Read`] or [`ModelError::Invalid`] with the file and the key that is wrong or not supported.
    pub fn load(dir: &Path) -> Result<Self, ModelError> {
        #[derive(Deserialize)]
        struct Generation {
            eos_token_id: Option<OneOrMany>,
        }
        #[derive(Deserialize)]
        struct Preprocessor {
            feature_size: Option<usize>,
        }
        let path = dir.join("config.json");
        let mut config: Self = read_json(&path)?;
        config.validate().map_err(|reason| ModelError::invalid(&path, reason))?;

        let generation: Option<Generation> = read_json_if_there(&dir.join("generation_config.json"))?;
        let eos = generation.and_then(|file| file.eos_token_id).or_else(|| config.text_config.eos_token_id.clone());
        config.eos_token_ids = eos.map(OneOrMany::into_vec).unwrap_or_default();

        let path = dir.join("preprocessor_config.json");
        let preprocessor: Option<Preprocessor> = read_json_if_there(&path)?;
        let (bins, made) = (config.audio_config.num_mel_bins, preprocessor.and_then(|file| file.feature_size));
        if made.is_some_and(|made| made != bins) {
            let reason = format!("feature_size is {made:?}, but config.json has num_mel_bins {bins}");
            return Err(ModelError::invalid(&path, reason));
        }
        Ok(config)
    }

    /// Whether `lm_head` is the embedding.
    pub fn tie_word_embeddings(&self) -> bool {
        self.tie_word_embeddings || self.text_config.tie_word_embeddings
    }

    fn validate(&self) -> Result<(), String> {
        let (audio, text) = (&self.audio_config, &self.text_config);
        let same = |key: &str, found: &str, supported: &str| {
            if found == supported {
                Ok(())
            } else {
                Err(format!("{key} is {found:?}; only {supported:?} is supported"))
            }
        };
        same("model_type", &self.model_type, "qwen2_audio")?;
        same("audio_config.activation_function", &audio.activation_function, "gelu")?;
        same("text_config.hidden_act", &text.hidden_act, "silu")?;
        let rope_type = text.rope_parameters.as_ref().and_then(|rope| rope.rope_type.as_deref());
        same("text_config.rope_parameters.rope_type", rope_type.unwrap_or("default"), "default")?;
        for (key, used) in [
            ("text_config.use_sliding_window", text.use_sliding_window),
            ("text_config.rope_scaling", text.rope_scaling.as_ref().is_some_and(|scaling| !scaling.is_null())),
        ] {
            if used {
                return Err(format!("{key} is not supported"));
            }
        }
        for (key, number) in [
            ("audio_config.num_mel_bins", audio.num_mel_bins),
            ("audio_config.d_model", audio.d_model),
            ("audio_config.encoder_attention_heads", audio.encoder_attention_heads),
            ("audio_config.max_source_positions", audio.max_source_positions),
            ("text_config.vocab_size", text.vocab_size),
            ("text_config.hidden_size", text.hidden_size),
            ("text_config.num_attention_heads", text.num_attention_heads),
            ("text_config.num_key_value_heads", text.num_key_value_heads()),
        ] {
            if number == 0 {
                return Err(format!("{key} must not be 0"));
            }
        }
        for (what, whole, part) in [
            ("audio_config.d_model by encoder_attention_heads", audio.d_model, audio.encoder_attention_heads),
            ("num_attention_heads by num_key_value_heads", text.num_attention_heads, text.num_key_value_heads()),
            ("text_config's head_dim by 2", text.head_dim(), 2),
        ] {
            if !whole.is_multiple_of(part) {
                return Err(format!("{what}: {whole} is not a multiple of {part}"));
            }
        }
        if self.audio_token_index as usize >= text.vocab_size {
            return Err(format!(
                "audio_token_index {} is outside vocab_size {}",
                self.audio_token_index, text.vocab_size
            ));
        }
        Ok(())
    }
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, ModelError> {
    let bytes = std::fs::read(path).map_err(|error| ModelError::read(path, &error))?;
    serde_json::from_slice(&bytes).map_err(|error| ModelError::invalid(path, error))
}

fn read_json_if_there<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, ModelError> {
    if path.exists() { read_json(path).map(Some) } else { Ok(None) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(config: &str, generation: Option<&str>) -> Result<Config, ModelError> {
        let dir = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(dir.path().join("config.json"), config).expect("written");
        if let Some(text) = generation {
            std::fs::write(dir.path().join("generation_config.json"), text).expect("written");
        }
        Config::load(dir.path())
    }

    #[test]
    fn the_sparse_file_of_the_7b_gives_the_dimensions_of_the_7b() {
        let config = load(
            r#"{"model_type": "qwen2_audio", "audio_token_index": 151646, "audio_config": {"model_type": "qwen2_audio_encoder"},
                "text_config": {"intermediate_size": 11008, "max_position_embeddings": 8192, "rms_norm_eps": 1e-05,
                "rope_theta": 10000, "vocab_size": 156032, "use_sliding_window": false}}"#,
            Some(r#"{"eos_token_id": [151645, 151643], "temperature": 0.7}"#),
        )
        .expect("loads");
        let text = &config.text_config;
        assert_eq!((text.hidden_size, text.num_hidden_layers, text.head_dim()), (4096, 32, 128));
        assert_eq!((text.num_attention_heads, text.num_key_value_heads()), (32, 32));
        assert_eq!((config.audio_config.d_model, config.audio_config.encoder_layers), (1280, 32));
        assert!(!config.tie_word_embeddings());
        assert_eq!(config.eos_token_ids, [151_645, 151_643]);
    }

    #[test]
    fn rope_theta_is_read_from_both_layouts_and_one_eos_id_is_enough() {
        let flat = r#"{"audio_token_index": 1, "text_config": {"rope_theta": 5e5, "eos_token_id": 7}}"#;
        let flat = load(flat, None).expect("loads");
        assert_eq!((flat.text_config.rope_theta(), flat.eos_token_ids), (5e5, vec![7]));
        let nested = r#"{"text_config": {"rope_parameters": {"rope_theta": 1e6, "rope_type": "default"}}}"#;
        let nested = load(nested, Some(r#"{"eos_token_id": 9}"#)).expect("loads");
        assert_eq!((nested.text_config.rope_theta(), nested.eos_token_ids), (1e6, vec![9]));
    }

    #[test]
    fn what_is_not_supported_is_refused_with_its_key() {
        for (config, key) in [
            (r#"{"model_type": "whisper"}"#, "model_type"),
            (r#"{"text_config": {"use_sliding_window": true}}"#, "use_sliding_window"),
            (r#"{"text_config": {"rope_parameters": {"rope_type": "yarn"}}}"#, "rope_type"),
            (r#"{"text_config": {"num_attention_heads": 6, "num_key_value_heads": 4}}"#, "num_key_value_heads"),
            (r#"{"audio_config": {"d_model": 0}}"#, "d_model"),
            (r#"{"text_config": {"vocab_size": 100}}"#, "audio_token_index"),
            (r#"{"text_config": {"hidden_size": "wide"}}"#, "invalid type"),
        ] {
            let error = load(config, None).expect_err("refused").to_string();
            assert!(error.contains(key) && error.contains("config.json"), "{error}");
        }
    }
}
