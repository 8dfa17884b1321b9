//! Runs of a tiny network on tones: cut and gone on with, and under adapters.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use serde_json::{Value, json};

use super::*;
use crate::qwen2_audio::{TensorSource, Weights};

/// Ten clips of a second with their manifest.
fn manifest(folder: &Path) -> PathBuf {
    let mut lines = String::new();
    for n in 0..10u32 {
        let hertz = 200.0 + 40.0 * f64::from(n);
        let sample = |at: u32| ((f64::from(at) / 16_000.0 * hertz * std::f64::consts::TAU).sin() * 9_000.0) as i16;
        let sound: Vec<u8> = (0..16_000).flat_map(|at| sample(at).to_le_bytes()).collect();
        let mut wav = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x80\x3e\0\0\0\x7d\0\0\x02\0\x10\0data".to_vec();
        wav.extend((sound.len() as u32).to_le_bytes());
        wav.extend(&sound);
        let size = (wav.len() as u32 - 8).to_le_bytes();
        wav[4..8].copy_from_slice(&size);
        std::fs::write(folder.join(format!("{n}.wav")), wav).expect("written");
        let metadata = json!({"genre": "rock", "tempo_bpm": 60 + n, "key": "A minor", "instruments": ["pipe"]});
        let frames = json!({"beats": [0.1], "downbeats": [], "notes": [[0.0, 1.0, 60, 9]], "drums": []});
        lines += &format!("{}\n", json!({"audio": format!("{n}.wav"), "metadata": metadata, "frames": frames}));
    }
    let path = folder.join("manifest.jsonl");
    std::fs::write(&path, lines).expect("written");
    path
}

fn tiny() -> Value {
    json!({
        "model_type": "qwen2_audio",
        "audio_config": {
            "num_mel_bins": 40, "d_model": 32, "encoder_layers": 2, "encoder_attention_heads": 4, "encoder_ffn_dim": 64,
            "max_source_positions": 1500
        },
        "text_config": {
            "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2,
            "num_key_value_heads": 1, "max_position_embeddings": 2048, "rms_norm_eps": 1e-5
        }
    })
}

/// A run of three epochs of two steps, the first of which the encoder learns alone.
fn options(folder: &Path, out: &str, start: Start) -> Options {
    let manifest = folder.join("manifest.jsonl");
    Options {
        manifest: manifest.clone(),
        validation: manifest,
        out: folder.join(out),
        start,
        schema: Arc::new(MetadataSchema::load("music-basic").expect("built in")),
        question: "What is it?".into(),
        device: Device::Cpu,
        threads: 1,
        epochs: 3,
        hearing_epochs: 1,
        batch: 4,
        learning_rate: 3e-3,
        seed: 5,
    }
}

fn steps(event: &Event) -> Option<u64> {
    if let Event::Stepped(point) = event { Some(point.step) } else { None }
}

fn weights(dir: &Path) -> BTreeMap<String, Vec<f32>> {
    let weights = Weights::open(dir).expect("opens");
    let config = crate::qwen2_audio::Config::load(dir).expect("loads");
    let names = crate::qwen2_audio::expected(&config).into_iter().map(|tensor| tensor.name);
    let read = |name: String| {
        let tensor = weights.read(&name, tch::Device::Cpu, Kind::Float).expect("reads").view(-1);
        (name, Vec::try_from(tensor).expect("numbers"))
    };
    names.map(read).collect()
}

#[test]
fn a_run_that_was_cut_anywhere_ends_with_the_weights_of_one_that_was_not() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    manifest(dir.path());
    let begin = |out: &str| options(dir.path(), out, Start::Scratch { config: tiny() });
    let whole = begin("whole");
    assert_eq!(train(&whole, &mut |_| Go::On).expect("trained"), Ended::Finished);

    // Told to stop after the second step of the second epoch, and killed before that of the third is on disk.
    let cut = begin("cut");
    let mut stop = |event: Event| if steps(&event) == Some(2) { Go::Stop } else { Go::On };
    assert_eq!(train(&cut, &mut stop).expect("trained"), Ended::Stopped);
    let mut kill = |event: Event| {
        assert!(steps(&event) != Some(4), "killed");
        Go::On
    };
    catch_unwind(AssertUnwindSafe(|| train(&cut, &mut kill))).expect_err("killed");
    let mut first = None;
    let mut watch = |event: Event| {
        first = first.or(steps(&event));
        Go::On
    };
    assert_eq!(train(&cut, &mut watch).expect("trained"), Ended::Finished);
    assert_eq!(first, Some(4), "it goes on behind the last state");

    let read = |options: &Options, file: &str| std::fs::read(options.out.join(file)).expect("there");
    for file in ["model.safetensors", "training/loss.csv", "config.json", "tokenizer.json"] {
        assert!(read(&whole, file) == read(&cut, file), "{file} differs");
    }
    let state =
        |options: &Options| checkpoint::load(&options.out.join("training").join(STATE)).expect("reads").expect("there");
    assert!(state(&whole).tensors() == state(&cut).tensors(), "a bit of the state differs");
}

#[test]
fn clips_longer_than_the_network_hears_teach_and_measure_it() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    manifest(dir.path());
    let mut config = tiny();
    config["audio_config"]["max_source_positions"] = 40.into();
    let mut measured = Vec::new();
    let mut watch = |event: Event| {
        if let Event::Validated { heard, answered, .. } = event {
            measured.push((heard.len(), answered.iter().map(|it| it.clips).max()));
        }
        Go::On
    };
    let options = options(dir.path(), "out", Start::Scratch { config });
    assert_eq!(train(&options, &mut watch).expect("trained"), Ended::Finished);
    assert_eq!(measured, [(5, None), (5, Some(10)), (5, Some(10))]);
}

#[test]
fn a_state_of_other_options_is_refused_by_name() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    manifest(dir.path());
    let first = options(dir.path(), "out", Start::Scratch { config: tiny() });
    train(&first, &mut |event| if steps(&event).is_some() { Go::Stop } else { Go::On }).expect("trained");
    let other = Options { learning_rate: 1e-4, ..first };
    let error = train(&other, &mut |_| Go::On).expect_err("refused").to_string();
    assert!(error.contains("state.safetensors") && error.contains("--out"), "{error}");
}

#[test]
fn adapters_move_only_the_projections_that_they_stand_under_and_are_merged() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    manifest(dir.path());
    let base = options(dir.path(), "base", Start::Scratch { config: tiny() });
    train(&base, &mut |event| if steps(&event).is_some() { Go::Stop } else { Go::On }).expect("trained");
    let start = Start::Checkpoint { dir: base.out.clone(), lora: Some(2) };
    let tuned = Options { hearing_epochs: 0, ..options(dir.path(), "tuned", start) };
    train(&tuned, &mut |_| Go::On).expect("trained");
    let (before, after) = (weights(&base.out), weights(&tuned.out));
    for (name, before) in &before {
        let is_adapted = name.starts_with("language_model.")
            && ["q_proj", "k_proj", "v_proj", "o_proj"].iter().any(|place| name.ends_with(&format!("{place}.weight")));
        assert_eq!(before != &after[name], is_adapted, "{name}");
    }
}
