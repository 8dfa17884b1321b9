//! The answer as the network is to write it.

use records::Metadata;

use crate::ModelError;
use crate::qwen2_audio::ChatTokenizer;

/// The tokens of an answer, its end included: compact JSON, fields in the schema's order, which is what the
/// [grammar](crate::grammar) lets a network write.
///
/// # Errors
/// [`ModelError::Request`], which no answer is known to cause.
pub(crate) fn tokens(tokenizer: &ChatTokenizer, metadata: &Metadata) -> Result<Vec<u32>, ModelError> {
    let text = serde_json::Value::Object(metadata.clone()).to_string();
    let mut tokens = tokenizer.encode(&text)?;
    tokens.push(tokenizer.special().im_end);
    Ok(tokens)
}
