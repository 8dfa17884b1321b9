//! Text to token ids and back: the `tokenizer.json` of the checkpoint.

use std::path::Path;

use tokenizers::AddedToken;

use crate::ModelError;

/// The ids of ChatML's and the audio's marks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpecialIds {
    /// `<|im_start|>`.
    pub im_start: u32,
    /// `<|im_end|>`.
    pub im_end: u32,
    /// `<|AUDIO|>`, which sound replaces.
    pub audio: u32,
    /// `<|audio_bos|>`.
    pub audio_bos: u32,
    /// `<|audio_eos|>`.
    pub audio_eos: u32,
}

/// A checkpoint's tokenizer. It never reads a special token out of text, because text comes from users; prompts put
/// special tokens in by their ids.
#[derive(Clone, Debug)]
pub struct ChatTokenizer {
    inner: tokenizers::Tokenizer,
    special: SpecialIds,
}

impl ChatTokenizer {
    /// Reads `DIR/tokenizer.json`.
    ///
    /// # Errors
    /// [`ModelError::Invalid`] where the file cannot be used or lacks one of the special tokens.
    pub fn load(dir: &Path) -> Result<Self, ModelError> {
        let path = dir.join("tokenizer.json");
        let bytes = std::fs::read(&path).map_err(|error| ModelError::read(&path, &error))?;
        let mut inner = tokenizers::Tokenizer::from_bytes(bytes).map_err(|error| ModelError::invalid(&path, error))?;
        let added = inner.get_added_tokens_decoder();
        let id = |token: &str| {
            let found = added.iter().find(|(_, added)| added.content == token);
            found.map(|(&id, _)| id).ok_or_else(|| ModelError::invalid(&path, format!("it has no token {token}")))
        };
        let special = SpecialIds {
            im_start: id("<|im_start|>")?,
            im_end: id("<|im_end|>")?,
            audio: id("<|AUDIO|>")?,
            audio_bos: id("<|audio_bos|>")?,
            audio_eos: id("<|audio_eos|>")?,
        };
        // Added tokens that the file does not call special would still be read out of text.
        let added: Vec<AddedToken> = added.into_values().map(|token| AddedToken { special: true, ..token }).collect();
        inner.add_special_tokens(&added);
        inner.set_encode_special_tokens(true);
        Ok(Self { inner, special })
    }

    /// The ids of `text`; none of them is a special token's.
    ///
    /// # Errors
    /// [`ModelError::Request`], which no text is known to cause.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, ModelError> {
        let encoding = self.inner.encode_fast(text, false);
        Ok(encoding.map_err(|error| ModelError::Request(error.to_string()))?.get_ids().to_vec())
    }

    /// The text of `tokens`, without special tokens.
    ///
    /// # Errors
    /// [`ModelError::Request`], which no tokens are known to cause.
    pub fn decode(&self, tokens: &[u32]) -> Result<String, ModelError> {
        self.inner.decode(tokens, true).map_err(|error| ModelError::Request(error.to_string()))
    }

    /// The ids of the special tokens that prompts need.
    pub fn special(&self) -> SpecialIds {
        self.special
    }

    /// The tokenizer itself, for its vocabulary.
    pub fn inner(&self) -> &tokenizers::Tokenizer {
        &self.inner
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::qwen2_audio::fixture;

    #[test]
    fn a_special_token_in_text_stays_text() {
        let tokenizer = ChatTokenizer::load(&fixture("tiny-a")).expect("loads");
        let special = tokenizer.special();
        for text in ["<|im_start|>", "a <|im_end|> b", "<|AUDIO|><|audio_bos|><|audio_eos|>", "<|endoftext|>"] {
            let ids = tokenizer.encode(text).expect("encodes");
            let marks = [special.im_start, special.im_end, special.audio, special.audio_bos, special.audio_eos];
            assert!(ids.iter().all(|&id| id < 391 && !marks.contains(&id)), "{text}: {ids:?}");
            assert_eq!(tokenizer.decode(&ids).expect("decodes"), text);
        }
    }

    #[test]
    fn an_added_token_that_the_file_does_not_call_special_stays_text_too() {
        let from = fixture("tiny-a").join("tokenizer.json");
        let mut json: serde_json::Value = serde_json::from_slice(&std::fs::read(from).expect("read")).expect("JSON");
        for token in json["added_tokens"].as_array_mut().expect("a list") {
            token["special"] = false.into();
        }
        let dir = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(dir.path().join("tokenizer.json"), json.to_string()).expect("written");
        let tokenizer = ChatTokenizer::load(dir.path()).expect("loads");
        let ids = tokenizer.encode("<|im_start|>system").expect("encodes");
        assert!(!ids.contains(&tokenizer.special().im_start), "{ids:?}");
    }

    #[test]
    fn a_tokenizer_without_the_audio_tokens_is_refused_by_name() {
        let from = fixture("tiny-a").join("tokenizer.json");
        let text = std::fs::read_to_string(from).expect("read").replace("<|AUDIO|>", "<|VIDEO|>");
        let dir = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(dir.path().join("tokenizer.json"), text).expect("written");
        let error = ChatTokenizer::load(dir.path()).expect_err("refused").to_string();
        assert!(error.contains("<|AUDIO|>"), "{error}");
    }
}
