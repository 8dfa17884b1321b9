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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::vocabulary;
    use super::*;
    use crate::grammar::AnswerGrammar;
    use crate::schema::MetadataSchema;
    use crate::{Chosen, TokenChooser};

    #[test]
    fn a_network_that_says_what_it_learned_writes_the_very_tokens_it_learned_under_the_grammar() {
        let schema = MetadataSchema::load("music-basic").expect("built in");
        let dir = tempfile::tempdir().expect("a temporary folder");
        let made = vocabulary::tokenizer(&schema, "What is it?").expect("a tokenizer");
        made.save(dir.path().join("tokenizer.json"), false).expect("saved");
        let tokenizer = ChatTokenizer::load(dir.path()).expect("loads");
        let size = tokenizer.inner().get_vocab_size(true);
        let end = tokenizer.special().im_end;
        let grammar = AnswerGrammar::new(&schema, &tokenizer, size, &[end]).expect("a grammar");
        for answer in [
            json!({"genre": "rock", "tempo_bpm": 120, "key": "F# minor", "instruments": ["chromatic percussion", "bass"]}),
            json!({"genre": "waltz", "tempo_bpm": 96, "key": "Bb major", "instruments": ["synth lead", "synth pad", "drums"]}),
        ] {
            let learned = tokens(&tokenizer, answer.as_object().expect("an object")).expect("tokens");
            let (mut chooser, mut written) = (grammar.chooser(), Vec::new());
            while !chooser.is_complete() {
                let forced = chooser.forced().expect("a grammar");
                written.extend(&forced);
                if !forced.is_empty() {
                    continue;
                }
                let (token, allowed) = (learned[written.len()], chooser.allowed().expect("a grammar"));
                assert!(allowed.is_none_or(|allowed| allowed.is_allowed(token)), "{token} behind {written:?}");
                let chosen = Chosen { token, log_prob: 0.0, mass: 1.0, share: 1.0 };
                written.extend(chooser.take(&chosen).expect("takes"));
            }
            assert_eq!(written, learned[..learned.len() - 1]);
        }
    }
}
