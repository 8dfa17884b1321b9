//! A checkpoint in the hub's layout, as Hugging Face's transformers loads it and Tidemark serves it.

use std::path::Path;

use serde_json::{Value, json};
use tch::Kind;

use super::checkpoint::{write, write_error};
use super::variables::Variables;
use crate::ModelError;
use crate::audio::{HOP, SAMPLE_RATE};
use crate::qwen2_audio::{ChatTokenizer, Config};

/// The chat template of the published processor, for one turn or more of text and audio.
const CHAT_TEMPLATE: &str = include_str!("chat_template.jinja");

/// Writes `config.json`, `model.safetensors` in bfloat16, the tokenizer and what the reference's processor reads, each
/// whole or not at all. Adapters are merged, helper heads left out.
///
/// # Errors
/// [`ModelError::Write`], [`ModelError::Torch`].
pub(crate) fn export(
    dir: &Path,
    config_json: &Value,
    (config, tokenizer): (&Config, &ChatTokenizer),
    variables: &Variables,
) -> Result<(), ModelError> {
    std::fs::create_dir_all(dir).map_err(|error| write_error(dir, error))?;
    let id = |token: &str| tokenizer.inner().token_to_id(token);
    let (end, pad) = (id("<|im_end|>"), id("<|endoftext|>"));
    let mut config_json = config_json.clone();
    config_json["dtype"] = "bfloat16".into();
    let text = |value: &Value| format!("{value:#}\n");
    let files = [
        ("config.json", text(&config_json)),
        (
            "generation_config.json",
            text(&json!({"do_sample": false, "eos_token_id": [end, pad], "pad_token_id": pad, "bos_token_id": pad})),
        ),
        ("preprocessor_config.json", text(&preprocessor(config))),
        (
            "tokenizer_config.json",
            text(&json!({
                "tokenizer_class": "PreTrainedTokenizerFast", "padding_side": "left", "eos_token": "<|im_end|>",
                "pad_token": "<|endoftext|>", "clean_up_tokenization_spaces": false,
                "processor_class": "Qwen2AudioProcessor",
            })),
        ),
        ("chat_template.jinja", CHAT_TEMPLATE.to_owned()),
        (
            "tokenizer.json",
            tokenizer.inner().to_string(true).map_err(|error| write_error(&dir.join("tokenizer.json"), error))?,
        ),
    ];
    for (name, text) in files {
        let (path, unfinished) = (dir.join(name), dir.join(format!("{name}.part")));
        std::fs::write(&unfinished, text)
            .and_then(|()| std::fs::rename(&unfinished, &path))
            .map_err(|error| write_error(&path, error))?;
    }
    write(
        &dir.join("model.safetensors"),
        &variables.merged(config)?,
        Kind::BFloat16,
        Some([("format".into(), "pt".into())].into()),
    )
}

fn preprocessor(config: &Config) -> Value {
    let window = config.window();
    json!({
        "feature_extractor_type": "WhisperFeatureExtractor", "processor_class": "Qwen2AudioProcessor",
        "feature_size": config.audio_config.num_mel_bins, "sampling_rate": SAMPLE_RATE, "hop_length": HOP, "n_fft": 400,
        "chunk_length": window / SAMPLE_RATE as usize, "n_samples": window, "nb_max_frames": window / HOP,
        "padding_side": "right",
        "padding_value": 0.0, "dither": 0.0, "return_attention_mask": true,
    })
}
