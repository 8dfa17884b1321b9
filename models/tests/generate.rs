//! A batch answers each of its rows as if it were alone, and a row's failure is its own.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use models::engine::generate;
use models::qwen2_audio::{Generated, Mel, Qwen2Audio, Row};
use models::{Chosen, Greedy, ModelError, TokenChooser};
use safetensors::SafeTensors;
use tch::{Device, Kind};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/qwen2_audio").join(name)
}

fn model(name: &str) -> Qwen2Audio {
    Qwen2Audio::load(&fixture(name), Device::cuda_if_available(), Kind::Float).expect("loads")
}

/// A clip as the reference hears it.
fn mel(name: &str, frames: usize) -> Mel {
    let bytes = std::fs::read(fixture("tiny-a").join("expected.safetensors")).expect("read");
    let tensors = SafeTensors::deserialize(&bytes).expect("safetensors");
    let view = tensors.tensor(&format!("{name}.log_mel")).expect("a spectrogram");
    let number = |bytes: &[u8]| f32::from_le_bytes(bytes.try_into().expect("four bytes"));
    Mel {
        data: view.data().chunks_exact(4).map(number).collect(),
        bins: view.shape()[0],
        columns: view.shape()[1],
        frames,
    }
}

fn chirp() -> Mel {
    mel("chirp_500ms", 50)
}

fn chord() -> Mel {
    mel("chord_3200ms", 320)
}

fn row(mels: Vec<Mel>, question: &str) -> Row {
    Row { mels, question: Arc::from(question) }
}

fn greedy(max_new_tokens: usize) -> Box<dyn TokenChooser> {
    Box::new(Greedy { eos: Arc::new([]), max_new_tokens })
}

fn alone(model: &Qwen2Audio, row: &Row, tokens: usize) -> Generated {
    let mut answers = generate(model, vec![row.clone()], vec![greedy(tokens)]);
    answers.remove(0).expect("an answer")
}

fn assert_same(batched: &Generated, alone: &Generated) {
    assert_eq!(batched.tokens, alone.tokens);
    for (batched, alone) in batched.log_probs.iter().zip(&alone.log_probs) {
        assert!((batched - alone).abs() < 1e-4, "{batched} in the batch, {alone} alone");
    }
}

#[test]
fn rows_of_other_lengths_questions_and_clips_are_answered_as_if_alone() {
    for name in ["tiny-a", "tiny-sharded"] {
        let model = model(name);
        let rows = [
            row(vec![chirp()], "Describe this audio as JSON."),
            row(vec![chord(), chirp()], "What differs?"),
            row(vec![chord()], "A much longer question, which asks for many things at once: genre, key and tempo."),
            row(vec![mel("stereo_44k_2s", 200)], ""),
        ];
        // Each row is done at another time, so the batch shrinks while it runs.
        let lengths = [5, 140, 1, 20];
        let answers = generate(&model, rows.to_vec(), lengths.map(greedy).into());
        for ((answer, row), length) in answers.iter().zip(&rows).zip(lengths) {
            let answer = answer.as_ref().expect("an answer");
            assert_eq!(answer.tokens.len(), length);
            assert_same(answer, &alone(&model, row, length));
        }
    }
}

#[test]
fn a_row_that_cannot_be_answered_fails_alone() {
    /// Takes nothing, or what is no token, or panics.
    enum Broken {
        Fails,
        Outside,
        Panics,
    }
    impl TokenChooser for Broken {
        fn take(&mut self, _: &Chosen) -> Result<Option<u32>, ModelError> {
            match self {
                Self::Fails => Err(ModelError::Grammar("no token fits".into())),
                Self::Outside => Ok(Some(448)),
                Self::Panics => panic!("a broken invariant"),
            }
        }
        fn is_complete(&self) -> bool {
            false
        }
        fn most_tokens(&self) -> usize {
            8
        }
    }
    let model = model("tiny-a");
    let mut poisoned = chirp();
    poisoned.data[7] = f32::NAN;
    let mut few_bands = chirp();
    few_bands.bins = 64;
    few_bands.data.truncate(64 * few_bands.columns);
    let good = row(vec![chord()], "Describe this audio as JSON.");
    let rows = vec![
        row(vec![poisoned], "NaN"),
        good.clone(),
        row(vec![Mel { frames: 2, ..chirp() }], "too short"),
        row(vec![], "no clip"),
        row(vec![few_bands], "another front end"),
        row(vec![chirp()], "broken grammar"),
        row(vec![chirp()], "no such token"),
        row(vec![chirp()], &"too long ".repeat(8192)),
        row(vec![chirp()], "panics"),
    ];
    let mut choosers: Vec<Box<dyn TokenChooser>> = rows.iter().map(|_| greedy(8)).collect();
    choosers[5] = Box::new(Broken::Fails);
    choosers[6] = Box::new(Broken::Outside);
    choosers[8] = Box::new(Broken::Panics);
    let answers = generate(&model, rows, choosers);
    assert!(matches!(answers[0], Err(ModelError::NotANumber { token: 0 })), "{:?}", answers[0]);
    assert_same(answers[1].as_ref().expect("an answer"), &alone(&model, &good, 8));
    for request in [2, 3, 4, 7] {
        assert!(matches!(answers[request], Err(ModelError::Request(_))), "{:?}", answers[request]);
    }
    for grammar in [5, 6, 8] {
        assert!(matches!(answers[grammar], Err(ModelError::Grammar(_))), "{:?}", answers[grammar]);
    }
}

#[test]
fn end_of_text_ends_an_answer_and_is_no_part_of_it() {
    let model = model("tiny-a");
    let row = row(vec![chord()], "Describe this audio as JSON.");
    let whole = alone(&model, &row, 12);
    let last = whole.tokens[11];
    let end = whole.tokens.iter().position(|&token| token == last).expect("it is there");
    let chooser = Box::new(Greedy { eos: Arc::new([last]), max_new_tokens: 12 });
    let answers = generate(&model, vec![row], vec![chooser as Box<dyn TokenChooser>]);
    assert_eq!(answers[0].as_ref().expect("an answer").tokens, whole.tokens[..end]);
}

#[test]
fn bfloat16_gives_nearly_the_same_probability() {
    let rows = [row(vec![chord()], "Describe this audio as JSON."), row(vec![chirp()], "Key?")];
    let half = Qwen2Audio::load(&fixture("tiny-a"), Device::cuda_if_available(), Kind::BFloat16).expect("loads");
    let full = model("tiny-a");
    let answers = generate(&half, rows.to_vec(), vec![greedy(1), greedy(1)]);
    for (answer, row) in answers.iter().zip(&rows) {
        let (found, expected) = (answer.as_ref().expect("an answer").log_probs[0], alone(&full, row, 1).log_probs[0]);
        assert!((found - expected).abs() < 0.2, "{found} in bfloat16, {expected} in float32");
    }
    assert_eq!(half.kv_bytes_per_token() * 2, full.kv_bytes_per_token());
}

#[test]
fn no_row_gives_no_answer() {
    assert!(generate::<Greedy>(&model("tiny-a"), Vec::new(), Vec::new()).is_empty());
}
