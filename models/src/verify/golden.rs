//! The files of golden values beside a checkpoint.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tch::{Kind, Tensor};

use super::{Report, differing};
use crate::ModelError;

/// What the reference computed.
pub(super) struct Golden {
    pub(super) question: String,
    pub(super) cases: BTreeMap<String, Case>,
    texts: BTreeMap<String, Vec<u32>>,
    tensors: Vec<u8>,
    path: PathBuf,
}

/// One batch that the reference ran.
#[derive(Deserialize)]
pub(super) struct Case {
    /// The clips of all rows, in order.
    pub(super) audio: Vec<String>,
    prompt: String,
    input_ids: Vec<Vec<u32>>,
    attention_mask: Vec<Vec<u8>>,
    /// By row, end-of-text ignored.
    pub(super) generated: Vec<Vec<u32>>,
    /// By clip.
    pub(super) mel_frames: Vec<usize>,
    pub(super) logprobs: Vec<Vec<f32>>,
}

impl Case {
    pub(super) fn clips_a_row(&self) -> usize {
        self.prompt.matches("<|AUDIO|>").count().max(1)
    }

    /// Each row's prompt without its padding.
    pub(super) fn prompt_ids(&self) -> Vec<Vec<u32>> {
        let real = |(ids, mask): (&Vec<u32>, &Vec<u8>)| {
            ids.iter().zip(mask).filter(|(_, mask)| **mask == 1).map(|(&id, _)| id).collect()
        };
        self.input_ids.iter().zip(&self.attention_mask).map(real).collect()
    }

    fn check(&self) -> Result<(), String> {
        let (rows, clips) = (self.input_ids.len(), self.audio.len());
        let lengths = [self.attention_mask.len(), self.generated.len(), self.logprobs.len()];
        if lengths.iter().any(|&length| length != rows) || clips != rows * self.clips_a_row() {
            return Err(format!("{clips} clips and {rows} rows with {lengths:?} masks, answers, log-probabilities"));
        }
        Ok(())
    }
}

impl Golden {
    /// Reads `expected.json`, `expected.safetensors` and `expected_tokens.json`.
    pub(super) fn load(dir: &Path) -> Result<Self, ModelError> {
        #[derive(Deserialize)]
        struct Expected {
            question: String,
            cases: BTreeMap<String, Case>,
        }
        let path = dir.join("expected.json");
        let Expected { question, cases } = read_json(&path)?;
        if cases.is_empty() {
            return Err(ModelError::invalid(&path, "it has no case"));
        }
        for (name, case) in &cases {
            case.check().map_err(|reason| ModelError::invalid(&path, format!("case {name}: {reason}")))?;
        }
        let path = dir.join("expected.safetensors");
        let tensors = std::fs::read(&path).map_err(|error| ModelError::read(&path, &error))?;
        SafeTensors::deserialize(&tensors).map_err(|error| ModelError::invalid(&path, error))?;
        Ok(Self { question, cases, texts: read_json(&dir.join("expected_tokens.json"))?, tensors, path })
    }

    /// Every clip that a case names.
    pub(super) fn clips(&self) -> BTreeSet<&str> {
        self.cases.values().flat_map(|case| case.audio.iter().map(String::as_str)).collect()
    }

    /// A golden tensor.
    pub(super) fn tensor(&self, name: &str) -> Result<Tensor, ModelError> {
        let invalid = |reason: String| ModelError::invalid(&self.path, reason);
        let tensors = SafeTensors::deserialize(&self.tensors).map_err(|error| invalid(error.to_string()))?;
        let view = tensors.tensor(name).map_err(|error| invalid(error.to_string()))?;
        if view.dtype() != Dtype::F32 {
            return Err(invalid(format!("tensor {name} holds {:?}, not F32", view.dtype())));
        }
        let shape: Vec<i64> = view.shape().iter().map(|&size| size as i64).collect();
        Ok(Tensor::f_from_data_size(view.data(), &shape, Kind::Float)?)
    }

    /// Compares texts with their ids. The reference reads special tokens out of them, which prompts never do: so this
    /// takes the tokenizer as its file describes it.
    pub(super) fn compare_texts(&self, dir: &Path, report: &mut Report) -> Result<(), ModelError> {
        let path = dir.join("tokenizer.json");
        let invalid = |error: tokenizers::Error| ModelError::invalid(&path, error);
        let tokenizer = tokenizers::Tokenizer::from_file(&path).map_err(invalid)?;
        for (text, expected) in &self.texts {
            let ids = tokenizer.encode(text.as_str(), true).map_err(invalid)?;
            report.add(format!("tokens of {text:?} (differing)"), differing(ids.get_ids(), expected), 0.0);
        }
        Ok(())
    }
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, ModelError> {
    let bytes = std::fs::read(path).map_err(|error| ModelError::read(path, &error))?;
    serde_json::from_slice(&bytes).map_err(|error| ModelError::invalid(path, error))
}
