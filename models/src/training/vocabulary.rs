//! A tokenizer for a small network: what a schema's answers and the prompt consist of are single tokens, all else is bytes.

use serde_json::{Value, json};
use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::normalizers::NFC;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, SplitDelimiterBehavior, Tokenizer};

use crate::ModelError;
use crate::schema::MetadataSchema;

/// How Qwen2 splits text before merging: words with the sign in front, digits one by one, signs together.
const SPLIT: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// ChatML's and the audio's marks, in the order of the published tokenizer.
const SPECIAL: [&str; 6] =
    ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|AUDIO|>", "<|audio_bos|>", "<|audio_eos|>"];

/// Byte-level BPE as Qwen2's, whose merges make one token of each word and each run of signs in the answers of `schema`
/// and in the prompt with `question`; the marks come last.
///
/// # Errors
/// [`ModelError::Training`], which no schema is known to cause.
pub(crate) fn tokenizer(schema: &MetadataSchema, question: &str) -> Result<Tokenizer, ModelError> {
    build(schema, question).map_err(|error| ModelError::Training(format!("no tokenizer: {error}")))
}

fn build(schema: &MetadataSchema, question: &str) -> tokenizers::Result<Tokenizer> {
    let mut tokenizer = Tokenizer::new(BPE::default());
    let split = Split::new(SplitPattern::Regex(SPLIT.into()), SplitDelimiterBehavior::Isolated, false)?;
    let bytes = ByteLevel::new(false, false, false);
    tokenizer.with_normalizer(Some(NFC));
    tokenizer.with_pre_tokenizer(Some(Sequence::new(vec![split.into(), bytes.into()])));
    tokenizer.with_decoder(Some(ByteLevel::new(false, false, false)));
    let trainer = BpeTrainer::builder()
        .show_progress(false)
        .min_frequency(1)
        .vocab_size(1 << 16)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .build();
    tokenizer.train(&mut TrainerWrapper::BpeTrainer(trainer), texts(schema, question).into_iter())?;
    tokenizer.add_special_tokens(&SPECIAL.map(|mark| AddedToken::from(mark, true)));
    Ok(tokenizer)
}

/// What the network reads and writes.
fn texts(schema: &MetadataSchema, question: &str) -> Vec<String> {
    let mut texts = vec![
        "system\nYou are a helpful assistant.".to_owned(),
        "user\nAudio 1: ".to_owned(),
        format!("\n{question}"),
        "assistant\n".to_owned(),
    ];
    let before: Vec<(&String, &Value)> = schema.properties().collect();
    // Each value stands between its neighbours' names, so that the signs between them are the answer's.
    for (n, (name, of_field)) in before.iter().enumerate() {
        let mut values = examples(of_field);
        if values.is_empty() {
            values.push(Value::from(0));
        }
        for value in values {
            let mut answer = serde_json::Map::new();
            answer.insert((*name).clone(), value);
            if let Some((next, of_next)) = before.get(n + 1) {
                answer.insert((*next).clone(), examples(of_next).into_iter().next().unwrap_or(0.into()));
            }
            texts.push(Value::Object(answer).to_string());
        }
    }
    texts
}

/// The values of a closed schema, and pairs of them for a list.
fn examples(schema: &Value) -> Vec<Value> {
    match (schema["enum"].as_array(), schema["items"]["enum"].as_array()) {
        (Some(values), _) => values.clone(),
        (None, Some(items)) => items.iter().map(|item| json!([item, item])).collect(),
        (None, None) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUESTION: &str = "Describe this audio as JSON.";

    fn music() -> Tokenizer {
        tokenizer(&MetadataSchema::load("music-basic").expect("built in"), QUESTION).expect("a tokenizer")
    }

    #[test]
    fn words_of_an_answer_and_of_the_prompt_are_single_tokens_and_digits_stand_alone() {
        let tokenizer = music();
        let tokens = |text: &str| {
            let ids = tokenizer.encode(text, false).expect("encodes").get_ids().to_vec();
            ids.iter().map(|&id| tokenizer.decode(&[id], false).expect("decodes")).collect::<Vec<_>>()
        };
        let answer =
            r#"{"genre":"rock","tempo_bpm":120,"key":"F# minor","instruments":["chromatic percussion","bass"]}"#;
        let expected = "{\"|genre|\":\"|rock|\",\"|tempo|_bpm|\":|1|2|0|,\"|key|\":\"|F|#| minor|\",\"|instruments|\":[\"|chromatic| percussion|\",\"|bass|\"]}";
        assert_eq!(tokens(answer), expected.split('|').collect::<Vec<_>>());
        assert_eq!(tokens("Describe this audio as JSON.").len(), 6);
        let bytes = tokenizer.encode("ü 7", false).expect("encodes");
        assert_eq!(tokenizer.decode(bytes.get_ids(), false).expect("decodes"), "ü 7");
    }

    #[test]
    fn the_same_schema_gives_the_same_tokenizer_and_the_marks_come_last() {
        let [first, second] = [music(), music()].map(|it| it.to_string(false).expect("JSON"));
        assert_eq!(first, second);
        let (tokenizer, size) = (music(), music().get_vocab_size(true) as u32);
        assert_eq!(tokenizer.token_to_id("<|audio_eos|>"), Some(size - 1));
        assert!(size < 600, "{size}");
    }
}
