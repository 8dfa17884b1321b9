//! A checkpoint's tokens as bytes, which is how a grammar reads them.

use std::collections::BTreeMap;

use tokenizers::DecoderWrapper;
use toktrie::{TokRxInfo, TokTrie, TokenId, TokenizerEnv};

use crate::ModelError;
use crate::qwen2_audio::ChatTokenizer;

/// The bytes of each token. Added tokens, and ids that the model has and the tokenizer has not, have none, so that no
/// answer can hold them.
pub(super) struct Vocabulary {
    tokenizer: ChatTokenizer,
    trie: TokTrie,
}

impl Vocabulary {
    pub(super) fn new(tokenizer: &ChatTokenizer, vocab_size: usize, eos: &[u32]) -> Result<Self, ModelError> {
        if eos.is_empty() || eos.iter().any(|&token| token as usize >= vocab_size) {
            return Err(ModelError::Grammar(format!("end-of-text ids {eos:?} with a vocabulary of {vocab_size}")));
        }
        let inner = tokenizer.inner();
        if !matches!(inner.get_decoder(), Some(DecoderWrapper::ByteLevel(_))) {
            return Err(ModelError::Grammar("the tokenizer's decoder is not ByteLevel".into()));
        }
        let bytes = byte_level_alphabet();
        let added = inner.get_added_tokens_decoder();
        let word = |token: u32| -> Result<Vec<u8>, ModelError> {
            let Some(text) = inner.id_to_token(token).filter(|_| !added.contains_key(&token)) else {
                return Ok(Vec::new());
            };
            let byte = |letter| bytes.get(&letter).copied();
            let word: Option<Vec<u8>> = text.chars().map(byte).collect();
            word.ok_or_else(|| ModelError::Grammar(format!("token {token} is no byte-level token: {text:?}")))
        };
        let words = (0..vocab_size as u32).map(word).collect::<Result<Vec<_>, _>>()?;
        let trie = TokTrie::from(&TokRxInfo::new(vocab_size as u32, eos[0]), &words).with_eos_tokens(eos);
        // Without one of these, an answer could come to a point from which no token goes on.
        if let Some(byte) = (b' '..=0xf4).find(|&byte| trie.token_id_at_bytes(&[byte]).is_none()) {
            return Err(ModelError::Grammar(format!("the tokenizer has no token for the byte {byte:#04x}")));
        }
        Ok(Self { tokenizer: tokenizer.clone(), trie })
    }
}

impl TokenizerEnv for Vocabulary {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    /// What the model was trained to see for these bytes, where that gives exactly these bytes: the tokenizer normalises.
    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<TokenId> {
        let canonical = std::str::from_utf8(bytes).ok().and_then(|text| self.tokenizer.encode(text).ok());
        let exact = canonical.filter(|tokens| tokens.iter().flat_map(|&token| self.trie.token(token)).eq(bytes));
        exact.unwrap_or_else(|| self.trie.greedy_tokenize(bytes))
    }
}

/// Byte-level BPE writes each byte as one letter: printable Latin-1 as itself, the others, in their order, as the letters
/// from U+0100 on.
fn byte_level_alphabet() -> BTreeMap<char, u8> {
    let printable = |byte: &u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let others = (0..=u8::MAX).filter(|byte| !printable(byte));
    let letters = '\u{100}'..;
    (0..=u8::MAX).filter(printable).map(|byte| (char::from(byte), byte)).chain(letters.zip(others)).collect()
}
