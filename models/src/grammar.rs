//! Answers held to a schema: which tokens may come next, whatever the model would rather say.

mod vocabulary;

use std::sync::Arc;

use llguidance::api::TopLevelGrammar;
use llguidance::{JsonCompileOptions, Matcher, ParserFactory};
use toktrie::{SimpleVob, TokEnv};

use crate::confidence::Choice;
use crate::qwen2_audio::ChatTokenizer;
use crate::schema::MetadataSchema;
use crate::{Chosen, ModelError, TokenChooser};
use vocabulary::Vocabulary;

/// The answers of a schema in the tokens of one checkpoint: compact JSON, fields in the schema's order, no control
/// characters. Built once; each answer has a [`GrammarChooser`] of its own.
pub struct AnswerGrammar {
    start: Matcher,
    vocabulary: TokEnv,
    most_bytes: usize,
}

impl AnswerGrammar {
    /// The grammar of `schema` for a model of `vocab_size` tokens whose first ones are `tokenizer`'s.
    ///
    /// # Errors
    /// [`ModelError::Grammar`] where the tokenizer is no byte-level one or lacks a byte, `eos` is empty or outside the
    /// vocabulary, or the schema uses a keyword that no grammar can hold an answer to.
    pub fn new(
        schema: &MetadataSchema,
        tokenizer: &ChatTokenizer,
        vocab_size: usize,
        eos: &[u32],
    ) -> Result<Self, ModelError> {
        let vocabulary: TokEnv = Arc::new(Vocabulary::new(tokenizer, vocab_size, eos)?);
        let mut factory = ParserFactory::new_simple(&vocabulary).map_err(grammar_error)?;
        // Its messages would hold the answer, which must not reach a log.
        factory.quiet().limits_mut().verbose_errors = false;
        let options = JsonCompileOptions {
            whitespace_flexible: false,
            json_allowed_escapes: Some("\"\\".into()),
            ..JsonCompileOptions::default()
        };
        let mut json = schema.json().clone();
        options.apply_to(&mut json);
        let mut start = Matcher::new(factory.create_parser(TopLevelGrammar::from_json_schema(json)));
        let unusable = |reason: String| ModelError::Grammar(format!("schema {}: {reason}", schema.name()));
        if let Some(error) = start.get_error() {
            return Err(unusable(error));
        }
        match start.grammar_warnings().as_slice() {
            [] => Ok(Self { start, vocabulary, most_bytes: schema.longest_answer() }),
            warnings => Err(unusable(warnings.join("; "))),
        }
    }

    /// Steers one answer.
    pub fn chooser(&self) -> GrammarChooser {
        GrammarChooser {
            matcher: self.start.clone(),
            vocabulary: Arc::clone(&self.vocabulary),
            answer: Vec::new(),
            choices: Vec::new(),
            allowed: 0,
            most_bytes: self.most_bytes,
        }
    }
}

/// The likeliest token each time among those that the grammar allows.
pub struct GrammarChooser {
    matcher: Matcher,
    vocabulary: TokEnv,
    answer: Vec<u8>,
    choices: Vec<Choice>,
    /// Tokens that the model chooses from.
    allowed: usize,
    most_bytes: usize,
}

impl GrammarChooser {
    /// The finished answer, and the choices that made it.
    ///
    /// # Errors
    /// [`ModelError::Grammar`] where the answer is not finished.
    pub fn into_answer(self) -> Result<(String, Vec<Choice>), ModelError> {
        if !self.is_complete() {
            return Err(ModelError::Grammar("the answer was cut off".into()));
        }
        Ok((String::from_utf8(self.answer).map_err(grammar_error)?, self.choices))
    }

    fn write(&mut self, token: u32) {
        self.answer.extend_from_slice(self.vocabulary.tok_trie().token(token));
    }
}

impl TokenChooser for GrammarChooser {
    fn forced(&mut self) -> Result<Vec<u32>, ModelError> {
        let tokens = self.matcher.consume_ff_tokens();
        match self.matcher.get_error() {
            Some(error) => Err(ModelError::Grammar(error)),
            None => {
                tokens.iter().for_each(|&token| self.write(token));
                Ok(tokens)
            }
        }
    }

    fn allowed(&mut self) -> Result<Option<SimpleVob>, ModelError> {
        let allowed = self.matcher.compute_mask().map_err(grammar_error)?;
        self.allowed = allowed.num_set();
        match self.allowed {
            0 => Err(ModelError::Grammar("the grammar allows no token of the model".into())),
            _ => Ok(Some(allowed)),
        }
    }

    fn take(&mut self, chosen: &Chosen) -> Result<Option<u32>, ModelError> {
        self.matcher.consume_token(chosen.token).map_err(grammar_error)?;
        let start = self.answer.len();
        self.write(chosen.token);
        if self.allowed > 1 {
            self.choices.push(Choice { bytes: start..self.answer.len(), mass: chosen.mass, share: chosen.share });
        }
        Ok(Some(chosen.token))
    }

    /// Known as soon as nothing more can follow, so no step is spent on the end-of-text token.
    fn is_complete(&self) -> bool {
        self.matcher.is_stopped() && !self.matcher.is_error()
    }

    /// No token of an answer is without a byte.
    fn most_tokens(&self) -> usize {
        self.most_bytes.saturating_sub(self.answer.len())
    }
}

fn grammar_error(error: impl std::fmt::Display) -> ModelError {
    ModelError::Grammar(error.to_string())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::chooser::choice;
    use crate::confidence::{by_field, overall};
    use crate::qwen2_audio::{Config, fixture};

    const VOCAB: usize = 448;

    fn schema(name: &str) -> MetadataSchema {
        MetadataSchema::load(name).expect("built in")
    }

    fn grammar(schema: &MetadataSchema, checkpoint: &str) -> AnswerGrammar {
        let tokenizer = ChatTokenizer::load(&fixture(checkpoint)).expect("loads");
        let config = Config::load(&fixture(checkpoint)).expect("loads");
        assert_eq!(config.text_config.vocab_size, VOCAB);
        AnswerGrammar::new(schema, &tokenizer, VOCAB, &config.eos_token_ids).expect("a grammar")
    }

    /// The next tokens: those that are forced, else the model's choice; `None` at the end.
    fn step(chooser: &mut GrammarChooser, mut think: impl FnMut(&[u8]) -> Vec<f32>) -> Option<Vec<u32>> {
        let forced = chooser.forced().expect("a grammar");
        if !forced.is_empty() || chooser.is_complete() {
            return (!forced.is_empty()).then_some(forced);
        }
        let allowed = chooser.allowed().expect("a grammar");
        let chosen = choice(&think(&chooser.answer), allowed.as_ref()).expect("a token is allowed");
        chooser.take(&chosen).expect("takes").map(|token| vec![token])
    }

    /// The whole answer of a model whose log-probabilities after the bytes so far are `think`, and its tokens.
    fn answer(grammar: &AnswerGrammar, mut think: impl FnMut(&[u8]) -> Vec<f32>) -> (String, Vec<Choice>, Vec<u32>) {
        let (mut chooser, mut tokens) = (grammar.chooser(), Vec::new());
        while let Some(next) = step(&mut chooser, &mut think) {
            tokens.extend(next);
        }
        let (answer, choices) = chooser.into_answer().expect("finished");
        (answer, choices, tokens)
    }

    fn confidence(schema: &MetadataSchema, answer: &str, choices: &[Choice]) -> f64 {
        overall(schema, &by_field(schema, answer, choices)).get()
    }

    /// A model that is certain of `whole`, and would write it in tokens as long as there are.
    fn certain(grammar: &AnswerGrammar, whole: &str) -> impl FnMut(&[u8]) -> Vec<f32> {
        let trie = grammar.vocabulary.tok_trie();
        move |written| {
            let (token, _) = trie.prefix_token_id(&whole.as_bytes()[written.len()..]);
            let mut log_probs = vec![f32::NEG_INFINITY; VOCAB];
            log_probs[token as usize] = 0.0;
            log_probs
        }
    }

    /// Seeded noise in [0, 1).
    fn noise(seed: u64) -> impl FnMut() -> f32 {
        let mut state = seed;
        move || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((mixed ^ (mixed >> 31)) >> 40) as f32 / (1u64 << 24) as f32
        }
    }

    /// As softmax makes them of random logits.
    fn log_probs(mut noise: impl FnMut() -> f32, sharpness: f32) -> Vec<f32> {
        let logits: Vec<f32> = (0..VOCAB).map(|_| noise() * sharpness).collect();
        let total = logits.iter().map(|logit| logit.exp()).sum::<f32>().ln();
        logits.into_iter().map(|logit| logit - total).collect()
    }

    #[test]
    fn a_certain_model_gives_its_own_answer_with_confidence_1() {
        let schema = schema("music");
        let grammar = grammar(&schema, "tiny-a");
        let whole = r#"{"genre":"hip_hop","tempo_bpm":93,"key":"F# minor","instruments":["drums","bass"],"mood":["dark"],"vocals":"male","energy":"high","description":"A \"dry\" beat \\ für 𝄞.","tags":[]}"#;
        let (text, choices, tokens) = answer(&grammar, certain(&grammar, whole));
        assert_eq!(text, whole);
        assert!(tokens.len() < whole.len(), "the tokenizer has tokens of several bytes: {tokens:?}");
        let fields = by_field(&schema, &text, &choices);
        assert!(fields.values().all(|confidence| confidence.get() == 1.0), "{fields:?}");
        assert_eq!(overall(&schema, &fields).get(), 1.0);
    }

    #[test]
    fn a_model_that_knows_the_closed_list_and_nothing_else_has_its_share_and_one_that_does_not_know_it_less() {
        let text = r#"{"type":"object","additionalProperties":false,"required":["f"],"properties":{"f":{"enum":["q","w","x","z"]}}}"#;
        let dir = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(dir.path().join("four.json"), text).expect("written");
        let schema = schema(&dir.path().join("four.json").to_string_lossy());
        let grammar = grammar(&schema, "tiny-a");
        let trie = grammar.vocabulary.tok_trie();
        let mut knowing = vec![f32::NEG_INFINITY; VOCAB];
        for letter in ["q", "w", "x", "z"] {
            knowing[trie.token_id(letter.as_bytes()).expect("a token") as usize] = 0.25f32.ln();
        }
        let (text, choices, _) = answer(&grammar, |_| knowing.clone());
        assert_eq!(text, r#"{"f":"q"}"#);
        assert!((confidence(&schema, &text, &choices) - 0.25).abs() < 1e-6, "{choices:?}");

        let uniform = (VOCAB as f32).recip().ln();
        let (text, choices, _) = answer(&grammar, |_| vec![uniform; VOCAB]);
        assert!((confidence(&schema, &text, &choices) - (VOCAB as f64).recip()).abs() < 1e-6, "{choices:?}");
    }

    #[test]
    fn a_model_that_would_only_end_or_say_special_tokens_still_gives_an_answer_and_is_not_sure() {
        let schema = schema("music-basic");
        let grammar = grammar(&schema, "tiny-a");
        let log_probs: Vec<f32> = (0..VOCAB).map(|token| if token < 391 { f32::NEG_INFINITY } else { -4.0 }).collect();
        let (text, choices, _) = answer(&grammar, |_| log_probs.clone());
        schema.read(&text).expect("every answer reads");
        assert_eq!(confidence(&schema, &text, &choices), 0.0);
    }

    #[test]
    fn a_model_that_wants_only_parts_of_characters_still_writes_whole_ones() {
        let schema = schema("music");
        let grammar = grammar(&schema, "tiny-a");
        let trie = grammar.vocabulary.tok_trie();
        for wanted in [0x80..=0xff, 0xc0..=0xdf, 0xf0..=0xff] {
            let likes = |token| matches!(trie.token(token), [byte] if wanted.contains(byte));
            let log_probs: Vec<f32> = (0..VOCAB as u32).map(|token| if likes(token) { -3.0 } else { -9.0 }).collect();
            let (text, ..) = answer(&grammar, |_| log_probs.clone());
            let metadata = schema.read(&text).expect("every answer reads");
            let description = metadata["description"].as_str().expect("a text");
            assert_eq!(description.chars().count(), 300, "{description}");
            assert!(!description.is_ascii(), "{description}");
        }
    }

    #[test]
    fn an_answer_is_complete_at_its_last_brace_and_not_before() {
        let grammar = grammar(&schema("music-basic"), "tiny-a");
        let mut chooser = grammar.chooser();
        let log_probs = vec![-6.0; VOCAB];
        while !chooser.is_complete() {
            assert_ne!(chooser.answer.last(), Some(&b'}'));
            step(&mut chooser, |_| log_probs.clone()).expect("tokens");
        }
        assert_eq!(chooser.answer.last(), Some(&b'}'));
        assert_eq!(step(&mut chooser, |_| log_probs.clone()), None);
        grammar.chooser().into_answer().expect_err("an answer that was not begun is not finished");
    }

    #[test]
    fn what_the_schema_leaves_no_choice_about_is_forced_and_counts_for_nothing() {
        let grammar = grammar(&schema("music-basic"), "tiny-a");
        let mut chooser = grammar.chooser();
        let most = chooser.most_tokens();
        let forced = chooser.forced().expect("a grammar");
        let text: Vec<u8> =
            forced.iter().flat_map(|&token| grammar.vocabulary.tok_trie().token(token)).copied().collect();
        assert!(text.starts_with(br#"{"genre"#) && forced.len() > 1, "{text:?}");
        assert_eq!((&chooser.answer, chooser.choices.len()), (&text, 0));
        assert_eq!(chooser.most_tokens(), most - text.len());
        assert!(chooser.forced().expect("a grammar").is_empty());
        assert!(chooser.allowed().expect("a grammar").is_some_and(|allowed| allowed.num_set() > 1));
    }

    #[test]
    fn what_cannot_hold_an_answer_is_refused_at_the_start_with_its_reason() {
        let text = r#"{"type":"object","additionalProperties":false,"required":["f"],"properties":{"f":
            {"type":"array","maxItems":3,"uniqueItems":true,"items":{"type":"integer","minimum":1,"maximum":2}}}}"#;
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("distinct.json");
        std::fs::write(&path, text).expect("written");
        let tokenizer = ChatTokenizer::load(&fixture("tiny-a")).expect("loads");
        let unique = schema(&path.to_string_lossy());
        let basic = schema("music-basic");
        for (schema, vocab_size, eos, names) in [
            (&unique, VOCAB, &[391][..], "uniqueItems"),
            (&unique, VOCAB, &[391], "distinct"),
            (&basic, VOCAB, &[], "[]"),
            (&basic, VOCAB, &[391, 448], "448"),
            (&basic, 200, &[7], "byte"),
        ] {
            let error = AnswerGrammar::new(schema, &tokenizer, vocab_size, eos).err().expect("refused").to_string();
            assert!(error.contains(names), "{error}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn every_answer_of_random_weights_reads_and_has_a_confidence(seed: u64, sharpness in 0.0f32..60.0) {
            for name in ["music-basic", "music"] {
                let schema = schema(name);
                for checkpoint in ["tiny-a", "tiny-sharded"] {
                    let grammar = grammar(&schema, checkpoint);
                    let mut noise = noise(seed);
                    let (text, choices, tokens) = answer(&grammar, |_| log_probs(&mut noise, sharpness));
                    schema.read(&text).expect("every answer reads");
                    prop_assert!(tokens.iter().all(|&token| token < 391), "{tokens:?}");
                    prop_assert!(tokens.len() <= text.len() && text.len() <= schema.longest_answer());
                    prop_assert_eq!(choices.last().map(|choice| choice.bytes.end <= text.len()), Some(true));
                    let fields = by_field(&schema, &text, &choices);
                    prop_assert!(overall(&schema, &fields).get() <= 1.0);
                }
            }
        }
    }
}
