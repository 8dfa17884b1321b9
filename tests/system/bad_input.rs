//! What can never work is dead-lettered at once with its reason, and whoever came with it is served.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::LazyLock;

use serde_json::Value;

use crate::harness::{Home, clip, event};

/// A WAV file of one chunk of samples.
fn wav(format: u16, channels: u16, rate: u32, bits: u16, data: &[u8], claimed: u32) -> Vec<u8> {
    let block = channels.wrapping_mul(bits / 8);
    let mut bytes = b"RIFF".to_vec();
    bytes.extend((36u32.wrapping_add(claimed)).to_le_bytes());
    bytes.extend(b"WAVEfmt ");
    bytes.extend(16u32.to_le_bytes());
    bytes.extend(format.to_le_bytes());
    bytes.extend(channels.to_le_bytes());
    bytes.extend(rate.to_le_bytes());
    bytes.extend(rate.wrapping_mul(u32::from(block)).to_le_bytes());
    bytes.extend(block.to_le_bytes());
    bytes.extend(bits.to_le_bytes());
    bytes.extend(b"data");
    bytes.extend(claimed.to_le_bytes());
    bytes.extend(data);
    bytes
}

/// Three hours of silence in a file with a hole: 8-bit, 8 kHz.
fn three_hours(home: &Home) -> PathBuf {
    let length = 3 * 3600 * 8000u32;
    let path = home.write("three_hours.wav", wav(1, 1, 8000, 8, &[], length));
    let file = std::fs::File::options().write(true).open(&path).expect("opened");
    file.set_len(44 + u64::from(length)).expect("made longer");
    path
}

/// Everything bad in one queue with two good uploads, served by one worker.
static OUTCOMES: LazyLock<BTreeMap<String, Value>> = LazyLock::new(|| {
    let home = Home::new();
    let flac = std::fs::read(clip("waltz-g-major-180.flac")).expect("a clip");
    let nan: Vec<u8> = f32::NAN.to_le_bytes().repeat(16_000);
    let files = [
        ("zero-bytes", home.write("zero.wav", b"")),
        ("text", home.write("text.wav", b"To whom it may concern: this is no sound.\n".repeat(200))),
        ("truncated-flac", home.write("truncated.flac", &flac[..flac.len() / 2])),
        ("absurd-header", home.write("absurd.wav", wav(1, 65_535, u32::MAX, 16, &[0; 4000], u32::MAX))),
        ("nan", home.write("nan.wav", wav(3, 1, 16_000, 32, &nan, nan.len() as u32))),
        ("three-hours", three_hours(&home)),
        ("too-short", home.write("short.wav", wav(1, 1, 16_000, 16, &[0; 400], 400))),
        ("missing-file", home.path("no-such-file.wav")),
        ("address", PathBuf::from("ftp://host/song.wav")),
        ("bucket", PathBuf::from("gs://bucket")),
        ("good-low", clip("swing-f-major-160.ogg")),
    ];
    let mut events: Vec<String> = files.iter().map(|(id, path)| event(id, "free", path)).collect();
    let good = event("good-high", "enterprise", &clip("rock-e-minor-120.wav"));
    events.push(good.replace("good-high", "unknown-field").replace('{', "{\"colour\":1,"));
    events.push(good.replace("good-high", "missing-field").replace("\"tier\":\"enterprise\",", ""));
    events.push(good.replace("good-high", "wrong-type").replace("\"enterprise\"", "7"));
    events.push(good.replace("good-high", "unknown-tier").replace("enterprise", "gold"));
    events.push("this is no event".to_owned());
    events.push(good);
    home.enqueue_events(&events.join("\n"));
    home.serve_until_idle();

    let outcomes = home.outcomes();
    assert_eq!(outcomes.len(), events.len(), "one outcome each");
    let id = |outcome: &Value| outcome["upload_id"].as_str().expect("an id").to_owned();
    outcomes.into_iter().map(|outcome| (id(&outcome), outcome)).collect()
});

fn assert_dead_lettered(id: &str, error_type: &str, names: &str) {
    let outcome = &OUTCOMES[id];
    assert_eq!(outcome["status"], "dead_lettered", "{outcome}");
    assert_eq!(outcome["error_type"], error_type, "{outcome}");
    let error = outcome["error"].as_str().expect("a reason");
    assert!(error.contains(names), "{error}");
    assert!(outcome["attempts"].as_u64().expect("a number") <= 1, "what can never work is not tried again: {outcome}");
}

#[test]
fn an_empty_file_is_dead_lettered() {
    assert_dead_lettered("zero-bytes", "audio_undecodable", "zero.wav");
}

#[test]
fn a_text_file_named_wav_is_dead_lettered() {
    assert_dead_lettered("text", "audio_undecodable", "text.wav");
}

#[test]
fn a_truncated_flac_is_dead_lettered() {
    assert_dead_lettered("truncated-flac", "audio_undecodable", "truncated.flac");
}

#[test]
fn a_wav_with_an_absurd_header_is_dead_lettered() {
    assert_dead_lettered("absurd-header", "audio_undecodable", "absurd.wav");
}

#[test]
fn a_wav_full_of_nan_is_dead_lettered() {
    assert_dead_lettered("nan", "audio_undecodable", "nan.wav");
}

#[test]
fn a_file_of_three_hours_is_dead_lettered() {
    assert_dead_lettered("three-hours", "audio_too_long", "three_hours.wav");
}

#[test]
fn a_file_without_a_hundredth_of_a_second_is_dead_lettered() {
    assert_dead_lettered("too-short", "audio_too_short", "short.wav");
}

#[test]
fn a_file_that_is_not_there_is_dead_lettered() {
    assert_dead_lettered("missing-file", "audio_unreachable", "no-such-file.wav");
}

#[test]
fn an_address_that_cannot_be_read_is_dead_lettered() {
    assert_dead_lettered("address", "audio_unreachable", "ftp://");
    assert_dead_lettered("bucket", "audio_unreachable", "no object in it");
}

#[test]
fn an_event_with_an_unknown_field_is_dead_lettered() {
    assert_dead_lettered("unknown-field", "invalid_event", "colour");
}

#[test]
fn an_event_with_a_missing_field_is_dead_lettered() {
    assert_dead_lettered("missing-field", "invalid_event", "tier");
}

#[test]
fn an_event_with_a_field_of_the_wrong_type_is_dead_lettered() {
    assert_dead_lettered("wrong-type", "invalid_event", "tier");
}

#[test]
fn an_event_with_an_unknown_tier_is_dead_lettered() {
    assert_dead_lettered("unknown-tier", "invalid_event", "gold");
}

#[test]
fn an_event_that_is_no_json_is_dead_lettered_under_a_name_of_its_own() {
    let id = OUTCOMES.keys().find(|id| id.starts_with("invalid-")).expect("a name");
    assert_dead_lettered(id, "invalid_event", "line 1");
}

#[test]
fn the_uploads_beside_them_are_described() {
    for id in ["good-low", "good-high"] {
        let outcome = &OUTCOMES[id];
        assert_eq!(outcome["status"], "completed", "{outcome}");
        assert!(outcome["metadata"]["tempo_bpm"].as_u64().is_some_and(|bpm| (30..=300).contains(&bpm)), "{outcome}");
    }
}

#[test]
fn a_checkpoint_with_a_broken_tensor_stops_serve_and_loses_nothing() {
    let home = Home::new();
    let checkpoint = home.path("checkpoint");
    std::fs::create_dir(&checkpoint).expect("made");
    let from = std::path::Path::new(crate::harness::ROOT).join("tests/fixtures/qwen2_audio/tiny-a");
    for file in
        ["config.json", "generation_config.json", "preprocessor_config.json", "tokenizer.json", "tokenizer_config.json"]
    {
        std::fs::copy(from.join(file), checkpoint.join(file)).expect("copied");
    }
    let weights = std::fs::read(from.join("model.safetensors")).expect("read");
    let name = b"audio_tower.conv1.bias";
    let at = weights.windows(name.len()).position(|window| window == name).expect("the tensor");
    let mut broken = weights.clone();
    broken[at + name.len() - 1] = b'z';
    std::fs::write(checkpoint.join("model.safetensors"), broken).expect("written");
    let config = home.write("tidemark.toml", "[model]\ncheckpoint = \"checkpoint\"\n");
    let config = config.to_str().expect("UTF-8");

    home.enqueue_events(&event("u1", "free", &clip("rock-e-minor-120.wav")));
    let error = home.fail(&["serve", "--until-idle", "--listen", "127.0.0.1:0", "--config", config]);
    assert!(error.contains("audio_tower.conv1.bias") && error.contains("model.safetensors"), "{error}");
    home.serve_until_idle();
    assert_eq!(home.outcomes().len(), 1);
}

#[test]
fn an_unknown_key_in_the_configuration_is_named() {
    let home = Home::new();
    let config = home.write("tidemark.toml", "[model]\ncheckpiont = \"x\"\n");
    let error = home.fail(&["serve", "--config", config.to_str().expect("UTF-8")]);
    assert!(error.contains("checkpiont") && error.contains("tidemark.toml"), "{error}");
}
