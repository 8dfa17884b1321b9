//! Gradients through the serving network, checked against finite differences; and a network that learns by heart.

use serde_json::{Value, json};
use tch::{Kind, Tensor};

use super::super::augment::Example;
use super::super::optimizer::{Optimizer, Schedule};
use super::super::score::{Note, Score};
use super::super::targets;
use super::*;
use crate::audio::{self, LogMel};
use crate::qwen2_audio::{ChatTokenizer, Config, Weights, fixture, test_device};
use crate::schema::MetadataSchema;

const QUESTION: &str = "Describe this audio as JSON.";

/// A clip of a tone and its octave, a third of a second each.
fn heard(bins: usize, hertz: f64, seconds: f64, answer: Value) -> Heard {
    let sample = |n: usize| {
        let (time, octave) = (n as f64 / 16_000.0, if (n / 5_333).is_multiple_of(2) { 1.0 } else { 2.0 });
        ((std::f64::consts::TAU * hertz * octave * time).sin() * 0.3) as f32
    };
    let samples: Vec<f32> = (0..(seconds * 16_000.0) as usize).map(sample).collect();
    let mel = LogMel::new(bins, audio::LONGEST_WINDOW).mel(&samples);
    let score = Score {
        beats: vec![0.0, 1.0 / 3.0],
        notes: vec![Note { onset: 0.0, offset: 5.0, pitch: 60, family: 0 }],
        ..Score::default()
    };
    let frames = Some(targets::draw(&score, (mel.frames + 1) / 4));
    let metadata = answer.as_object().cloned().expect("an object");
    Heard { example: Example { mel, metadata, score: Some(score) }, frames }
}

fn answer(genre: &str, tempo: u64, key: &str) -> Value {
    json!({"genre": genre, "tempo_bpm": tempo, "key": key, "instruments": ["piano", "bass"]})
}

struct School {
    model: Qwen2Audio,
    variables: Variables,
    heads: Heads,
}

/// A fixture's network with helper heads.
fn school() -> School {
    let dir = fixture("tiny-a");
    let (config, tokenizer) = (Config::load(&dir).expect("loads"), ChatTokenizer::load(&dir).expect("loads"));
    let weights = Weights::open(&dir).expect("opens");
    let mut variables = Variables::of_checkpoint(&weights, &config, test_device()).expect("variables");
    let heads = Heads::new(&MetadataSchema::load("music-basic").expect("built in"));
    heads.add_to(&mut variables, config.audio_config.d_model, &mut fastrand::Rng::with_seed(1)).expect("heads");
    let model = Qwen2Audio::assemble(config, tokenizer, &variables, (test_device(), Kind::Float)).expect("assembled");
    School { model, variables, heads }
}

impl School {
    fn loss(&mut self, heard: &[Heard]) -> Tensor {
        let Self { model, variables, heads } = self;
        let losses = losses(model, variables, heads, QUESTION, heard, Lesson::Answering).expect("losses");
        losses.into_iter().map(|(_, loss)| loss).reduce(|sum, loss| sum + loss).expect("some losses")
    }
}

#[test]
fn gradients_through_the_serving_network_are_those_of_finite_differences() {
    let mut school = school();
    let clips =
        [heard(128, 440.0, 1.0, answer("rock", 120, "A minor")), heard(128, 300.0, 0.6, answer("jazz", 87, "D major"))];
    school.loss(&clips).backward();
    let names: Vec<String> = school.variables.trained().keys().cloned().collect();
    for name in names {
        let variable = school.variables.trained()[&name].shallow_clone();
        let gradient = variable.grad();
        assert!(gradient.defined(), "{name} has no part in the loss");
        // Along its own gradient a loss changes by the gradient's length.
        let length = gradient.norm().double_value(&[]);
        if length < 1e-3 {
            continue;
        }
        let step = 2e-3 / length.max(1.0) * 4.0;
        let direction = &gradient / length;
        let mut at = |place: f64| {
            let _no_grad = tch::no_grad_guard();
            let mut moved = variable.shallow_clone();
            let before = variable.copy();
            moved.copy_(&(&before + &direction * place));
            let loss = school.loss(&clips).double_value(&[]);
            moved.copy_(&before);
            loss
        };
        let found = (at(step) - at(-step)) / (2.0 * step);
        assert!((found / length - 1.0).abs() < 0.05, "{name}: {found} by differences, {length} by gradients");
    }
}

#[test]
fn eight_clips_are_learnt_by_heart_and_answered_as_served() {
    let mut school = school();
    let keys = ["C major", "A minor", "F# minor", "Bb major"];
    let clips: Vec<Heard> = (0..8u64)
        .map(|n| {
            let genre = if n % 2 == 0 { "rock" } else { "jazz" };
            heard(128, 200.0 * 1.3f64.powi(n as i32), 1.0, answer(genre, 60 + 17 * n, keys[n as usize % 4]))
        })
        .collect();
    let schedule = Schedule { learning_rate: 3e-3, warm_up: 10, steps: 90, weight_decay: 0.01, longest_gradient: 1.0 };
    let mut optimizer = Optimizer::default();
    for step in 0..90 {
        school.loss(&clips).backward();
        optimizer.step(&school.variables, &schedule, step).expect("a step");
    }
    let _no_grad = tch::no_grad_guard();
    let schema = MetadataSchema::load("music-basic").expect("built in");
    let model = &mut school.model;
    model.assemble_again(&school.variables).expect("assembled");
    let eos = model.eos_token_ids();
    let grammar = crate::grammar::AnswerGrammar::new(&schema, model.tokenizer(), 448, &eos).expect("a grammar");
    let row = |it: &Heard| crate::qwen2_audio::Row { mels: vec![it.example.mel.clone()], question: QUESTION.into() };
    let rows: Vec<_> = clips.iter().map(row).collect();
    let choosers = rows.iter().map(|_| grammar.chooser()).collect();
    for (answer, clip) in crate::engine::generate(model, rows, choosers).into_iter().zip(&clips) {
        let text = model.tokenizer().decode(&answer.expect("an answer").tokens).expect("text");
        assert_eq!(schema.read(&text).expect("valid"), clip.example.metadata);
    }
}
