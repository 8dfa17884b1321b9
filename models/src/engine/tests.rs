//! The engine on a small model: whatever the order, the lanes and the failures of others, a row's answer is its own.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use tch::{Kind, TchError};

use super::*;
use crate::Greedy;
use crate::grammar::AnswerGrammar;
use crate::qwen2_audio::{Mel, fixture, test_device};
use crate::schema::MetadataSchema;

type Chooser = Box<dyn TokenChooser>;

fn model() -> Qwen2Audio {
    Qwen2Audio::load(&fixture("tiny-a"), test_device(), Kind::Float).expect("loads")
}

/// Seeded numbers below a bound.
fn random(seed: u64) -> impl FnMut(u64) -> u64 {
    let mut state = seed;
    move |below| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    }
}

/// A row of one clip of noise.
fn row(seed: u64, frames: usize) -> Row {
    let mut random = random(seed);
    let columns = frames + 8;
    let data = (0..128 * columns).map(|_| random(2000) as f32 / 1000.0 - 1.0).collect();
    let question = ["", "Describe this audio as JSON.", "Key?"][seed as usize % 3];
    Row { mels: vec![Mel { data, bins: 128, columns, frames }], question: question.into() }
}

fn greedy(max_new_tokens: usize) -> Chooser {
    Box::new(Greedy { eos: Arc::new([]), max_new_tokens })
}

fn grammar(model: &Qwen2Audio) -> AnswerGrammar {
    let schema = MetadataSchema::load("music-basic").expect("built in");
    let vocab = model.config().text_config.vocab_size;
    AnswerGrammar::new(&schema, model.tokenizer(), vocab, &model.eos_token_ids()).expect("a grammar")
}

fn urgency(lane: Lane, deadline: u64) -> Urgency {
    Urgency { lane, deadline: UtcMicros(deadline) }
}

fn engine(model: &Qwen2Audio, rows: usize, places: usize) -> Engine<'_, Chooser> {
    Engine::new(model, rows, places * model.kv_bytes_per_token()).expect("starts")
}

/// Steps until nothing is left: what came of each row.
fn run(engine: &mut Engine<'_, Chooser>) -> BTreeMap<u64, Result<Generated, ModelError>> {
    let mut answers = BTreeMap::new();
    while !engine.is_idle() {
        answers.extend(engine.step().into_iter().map(|(key, result)| (key, result.map(|(generated, _)| generated))));
    }
    answers
}

fn alone(model: &Qwen2Audio, row: &Row, chooser: Chooser) -> Generated {
    generate(model, vec![row.clone()], vec![chooser]).remove(0).expect("an answer")
}

fn assert_same(found: &Generated, expected: &Generated) {
    assert_eq!(found.tokens, expected.tokens);
    for (found, expected) in found.log_probs.iter().zip(&expected.log_probs) {
        assert!((found - expected).abs() < 1e-3, "{found}, {expected} alone");
    }
}

#[test]
fn two_hundred_rows_in_any_order_with_priorities_and_lost_slots_are_answered_as_if_each_were_alone() {
    let model = model();
    let grammar = grammar(&model);
    let mut random = random(7);
    let rows: Vec<(Row, Lane, usize)> = (0..200)
        .map(|seed| {
            let lane = if random(4) == 0 { Lane::High } else { Lane::Low };
            (row(seed, 3 + random(300) as usize), lane, 1 + random(24) as usize)
        })
        .collect();
    // Every twentieth answer is held to a grammar.
    let chooser = |key: usize, tokens| {
        if key.is_multiple_of(20) { Box::new(grammar.chooser()) as Chooser } else { greedy(tokens) }
    };
    let (lost, seen) = (Cell::new(0usize), RefCell::new(BTreeMap::<u64, usize>::new()));
    let mut engine = engine(&model, 8, 10 * slots::BLOCK);
    let mut answers = BTreeMap::new();
    let mut left: Vec<usize> = (0..rows.len()).collect();
    let mut now = 0;
    while !left.is_empty() || !engine.is_idle() {
        now += 1;
        for _ in 0..random(2).min(left.len() as u64) {
            let key = left.swap_remove(random(left.len() as u64) as usize);
            let (row, lane, tokens) = &rows[key];
            let due = now + if *lane == Lane::High { 5 } else { 60 + random(200) };
            engine.add(key as u64, row.clone(), chooser(key, *tokens), urgency(*lane, due));
        }
        answers.extend(engine.step());
        for (key, row) in &engine.rows {
            let held = seen.borrow_mut().insert(*key, row.held).unwrap_or_default();
            lost.set(lost.get() + usize::from(row.held < held));
        }
    }
    assert!(lost.get() > 10, "{} rows lost their slot on the way", lost.get());
    assert_eq!(answers.len(), rows.len());
    for (key, (row, _, tokens)) in rows.iter().enumerate() {
        let (found, _) = answers.remove(&(key as u64)).expect("an answer").expect("no failure");
        assert_same(&found, &alone(&model, row, chooser(key, *tokens)));
    }
}

#[test]
fn a_prefix_that_was_read_before_changes_nothing() {
    let model = model();
    let row = row(1, 120);
    let prompt = model.prompt(&row.mels, &row.question).expect("a prompt");
    let clips = model.project(&model.encode(&[&row.mels[0]]).expect("encodes")).expect("projects");
    let logits = model.first_logits(&[prompt], &clips).expect("runs");
    let expected = choice::choose(&logits, &[None]).expect("runs")[0].expect("a choice");
    let found = alone(&model, &row, greedy(1));
    assert_eq!(found.tokens, [expected.token]);
    assert!((found.log_probs[0] - expected.log_prob).abs() < 1e-4, "{found:?}, {expected:?}");
}

#[test]
fn what_the_grammar_forces_costs_no_pass_of_its_own() {
    let model = model();
    let passes = Rc::new(Cell::new(0));
    let mut engine = engine(&model, 1, 40 * slots::BLOCK);
    let counted = Rc::clone(&passes);
    engine.fault = Some(Box::new(move |_| {
        counted.set(counted.get() + 1);
        Ok(())
    }));
    engine.add(0, row(1, 60), Box::new(grammar(&model).chooser()), urgency(Lane::Low, 1));
    let answer = run(&mut engine).remove(&0).expect("an answer").expect("no failure");
    let forced = answer.log_probs.iter().filter(|&&log_prob| log_prob == 0.0).count();
    assert!(forced > 10, "{answer:?}");
    assert_eq!(passes.get(), answer.tokens.len() - forced);
}

#[test]
fn a_long_low_prompt_holds_up_no_high_answer() {
    let model = model();
    let mut engine = engine(&model, 4, 80 * slots::BLOCK);
    engine.add(1, row(1, 40), greedy(12), urgency(Lane::High, 1));
    engine.step();
    engine.add(2, row(2, 2400), greedy(1), urgency(Lane::Low, 2));
    let (mut steps, mut others) = (1, 0);
    while engine.rows.contains_key(&1) {
        let before = engine.rows.get(&2).map_or(0, |row| row.held);
        engine.step();
        let read = engine.rows.get(&2).map_or(0, |row| row.held).saturating_sub(before);
        assert!(read <= 100, "{read} tokens of the low prompt in one pass");
        others += read;
        steps += 1;
    }
    assert_eq!(steps, 12, "a token of the high answer in every step");
    assert!(others > 100, "the low prompt goes on beside it");
    run(&mut engine).remove(&2).expect("an answer").expect("no failure");
}

/// Fails, or panics in, every pass that reads this row.
fn poisoned<'m>(poison: u64, panics: bool) -> Box<Fault<'m>> {
    Box::new(move |keys| match keys.contains(&poison) {
        true if panics => panic!("a broken invariant"),
        true => Err(TchError::Torch("CUDA out of memory".into())),
        false => Ok(()),
    })
}

#[test]
fn a_row_that_the_model_does_not_bear_fails_alone_by_an_error_or_a_panic() {
    let model = model();
    for panics in [false, true] {
        let mut engine = engine(&model, 4, 40 * slots::BLOCK);
        engine.fault = Some(poisoned(2, panics));
        for key in 0..6 {
            engine.add(key, row(key, 50), greedy(6), urgency(Lane::Low, key));
        }
        let answers = run(&mut engine);
        assert!(matches!(answers[&2], Err(ModelError::Torch(_))), "{:?}", answers[&2]);
        for key in [0, 1, 3, 4, 5] {
            assert_same(answers[&key].as_ref().expect("an answer"), &alone(&model, &row(key, 50), greedy(6)));
        }
        assert!(!engine.is_broken());
    }
}

#[test]
fn rows_that_have_memory_only_one_by_one_are_answered_all_the_same() {
    let model = model();
    let mut engine = engine(&model, 4, 40 * slots::BLOCK);
    engine.fault = Some(Box::new(|keys| match keys.len() {
        0 | 1 => Ok(()),
        _ => Err(TchError::Torch("out of memory".into())),
    }));
    for key in 0..4 {
        engine.add(key, row(key, 50), greedy(6), urgency(Lane::Low, key));
    }
    let answers = run(&mut engine);
    for key in 0..4 {
        assert_same(answers[&key].as_ref().expect("an answer"), &alone(&model, &row(key, 50), greedy(6)));
    }
}

#[test]
fn a_row_of_no_numbers_fails_alone_and_the_next_one_in_its_slot_does_not() {
    let model = model();
    let mut engine = engine(&model, 2, 9 * slots::BLOCK);
    let mut nan = row(0, 50);
    nan.mels[0].data[5] = f32::NAN;
    engine.add(0, nan, greedy(6), urgency(Lane::Low, 0));
    for key in 1..4 {
        engine.add(key, row(key, 50), greedy(6), urgency(Lane::Low, key));
    }
    let answers = run(&mut engine);
    assert!(matches!(answers[&0], Err(ModelError::NotANumber { token: 0 })), "{:?}", answers[&0]);
    for key in 1..4 {
        assert_same(answers[&key].as_ref().expect("an answer"), &alone(&model, &row(key, 50), greedy(6)));
    }
}

#[test]
fn a_device_that_has_stopped_working_is_said_to_be_broken() {
    let model = model();
    let mut engine = engine(&model, 2, 9 * slots::BLOCK);
    engine.fault = Some(Box::new(|_| Err(TchError::Torch("CUDA error: an illegal memory access".into()))));
    engine.add(0, row(0, 50), greedy(6), urgency(Lane::Low, 0));
    assert!(!engine.is_broken());
    assert!(matches!(run(&mut engine)[&0], Err(ModelError::Torch(_))));
    assert!(engine.is_broken());
}

#[test]
fn a_row_that_is_forgotten_leaves_its_slot_to_others() {
    let model = model();
    let mut engine = engine(&model, 1, 9 * slots::BLOCK);
    engine.add(0, row(0, 50), greedy(60), urgency(Lane::Low, 0));
    engine.add(1, row(1, 50), greedy(2), urgency(Lane::Low, 1));
    engine.step();
    assert!(!engine.is_waiting(0) && engine.is_waiting(1));
    engine.forget(0);
    let answers = run(&mut engine);
    assert_eq!(answers.keys().copied().collect::<Vec<_>>(), [1]);
}

#[test]
fn a_row_that_could_never_run_is_refused_and_a_row_that_needs_no_model_is_done() {
    let model = model();
    let mut engine = engine(&model, 2, 9 * slots::BLOCK);
    engine.add(0, row(0, 1200), greedy(600), urgency(Lane::Low, 0));
    engine.add(1, row(1, 50), greedy(0), urgency(Lane::Low, 0));
    let answers = run(&mut engine);
    assert!(matches!(answers[&0], Err(ModelError::Request(_))), "{:?}", answers[&0]);
    assert_eq!(answers[&1].as_ref().expect("an answer"), &Generated::default());
}

#[test]
fn a_forecast_counts_what_goes_before_and_nothing_that_yields() {
    let model = model();
    let mut engine = engine(&model, 1, 40 * slots::BLOCK);
    let mut rates = Rates::default();
    // 1000 frames take a second; prompts cost nothing; an answer takes a second.
    rates.learn_step(&Work { frames: 0.0, tokens: 0, rows: 1 }, 0.1);
    rates.learn_step(&Work { frames: 1000.0, tokens: 0, rows: 0 }, 1.0);
    rates.learn_step(&Work { frames: 0.0, tokens: 100, rows: 0 }, 0.0);
    rates.learn_answer(10);
    for (key, frames, deadline) in [(1, 100, 50), (2, 200, 10), (3, 50, 99)] {
        engine.add(key, row(key, frames), greedy(4), urgency(Lane::Low, deadline));
    }
    let forecast = engine.forecast(&rates);
    assert_eq!(forecast.len(), 3);
    for ((key, seconds), (expected_key, expected)) in forecast.iter().zip([(2, 1.2), (1, 2.3), (3, 3.35)]) {
        assert!(*key == expected_key && (seconds - expected).abs() < 1e-9, "{forecast:?}");
    }
    let mut frames = 0.0;
    while engine.work().tokens == 0 {
        engine.step();
        frames += engine.work().frames;
    }
    let Work { tokens, rows, .. } = engine.work();
    assert!((frames - 200.0).abs() < 1e-9 && tokens > 50 && rows == 1, "{frames} {tokens} {rows}");
    engine.add(4, row(4, 100), greedy(4), urgency(Lane::High, 5));
    let (key, seconds) = engine.forecast(&rates)[0];
    assert!(key == 4 && (seconds - 1.1).abs() < 1e-9, "it does not wait for 2: {seconds}");
}
