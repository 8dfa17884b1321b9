//! Verification passes on what the reference made, and on nothing else.

use super::*;
use crate::qwen2_audio::fixture;

/// The clips as the reference heard them.
fn golden_clips(golden: &Golden) -> BTreeMap<String, Clip> {
    let clip = |name: &str| {
        let mel = golden.tensor(&format!("{name}.log_mel")).expect("a spectrogram");
        let (bins, columns) = mel.size2().expect("a matrix");
        let mel = Mel {
            data: Vec::try_from(&mel.view([-1])).expect("numbers"),
            bins: bins as usize,
            columns: columns as usize,
            frames: golden.cases[name].mel_frames[0],
        };
        (name.to_owned(), Clip { mel, resampled: false })
    };
    golden.clips().into_iter().map(clip).collect()
}

#[test]
fn a_checkpoint_passes_from_its_audio_files_to_its_last_token() {
    let audio = fixture("tiny-a").join("audio");
    for (name, audio) in [("tiny-a", None), ("tiny-sharded", Some(audio.as_path()))] {
        let report = verify(&fixture(name), audio).expect("runs");
        assert!(report.passed() && report.rounded_rotary.is_none(), "{report}");
        // Of the clip that is resampled: its log-mel only, and neither its encoder's outputs nor its case.
        assert_eq!(report.comparisons.len(), 4 + 3 * 3 + 1 + 4 * 5, "{report}");
    }
}

fn report(dir: &Path) -> Report {
    let golden = Golden::load(dir).expect("golden values");
    let mut model = Qwen2Audio::load(dir, Device::Cpu, Kind::Float).expect("loads");
    compare_as_made(&mut model, dir, &golden, &golden_clips(&golden)).expect("runs")
}

/// A copy of `tiny-a` in which every number of a tensor is multiplied by `factor`.
fn perturbed(tensor: &str, factor: f32) -> tempfile::TempDir {
    let dir = copied();
    let path = dir.path().join("model.safetensors");
    let mut bytes = std::fs::read(&path).expect("read");
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes")) as usize;
    let json: serde_json::Value = serde_json::from_slice(&bytes[8..header]).expect("JSON");
    let place = |end: usize| header + json[tensor]["data_offsets"][end].as_u64().expect("an offset") as usize;
    for number in bytes[place(0)..place(1)].chunks_exact_mut(4) {
        let value = f32::from_le_bytes(number.try_into().expect("four bytes")) * factor;
        number.copy_from_slice(&value.to_le_bytes());
    }
    std::fs::write(&path, bytes).expect("written");
    dir
}

fn copied() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a temporary folder");
    for entry in std::fs::read_dir(fixture("tiny-a")).expect("the fixture") {
        let path = entry.expect("an entry").path();
        if path.is_file() {
            std::fs::copy(&path, dir.path().join(path.file_name().expect("a name"))).expect("copied");
        }
    }
    dir
}

fn failed(report: &Report) -> Vec<&str> {
    report.comparisons.iter().filter(|row| !row.ok()).map(|row| row.quantity.as_str()).collect()
}

#[test]
fn what_the_reference_made_from_its_own_spectrograms_passes() {
    for name in ["tiny-a", "tiny-sharded"] {
        let report = report(&fixture(name));
        assert!(report.passed() && report.rounded_rotary.is_none(), "{report}");
        // Four texts; three quantities of each clip, its log-mel included; five of each of five cases.
        assert_eq!(report.comparisons.len(), 4 + 4 * 3 + 5 * 5);
    }
}

#[test]
fn one_percent_on_one_tensor_fails() {
    for (tensor, first) in [
        ("audio_tower.conv1.weight", "chirp_500ms.encoder"),
        ("audio_tower.embed_positions.weight", "chirp_500ms.encoder"),
        ("audio_tower.layers.1.self_attn.k_proj.weight", "chirp_500ms.encoder"),
        ("audio_tower.layers.0.fc1.bias", "chirp_500ms.encoder"),
        ("audio_tower.layer_norm.weight", "chirp_500ms.encoder"),
        ("multi_modal_projector.linear.bias", "chirp_500ms.projected"),
        ("language_model.model.embed_tokens.weight", "batch_of_3.first_logits"),
        ("language_model.model.layers.0.self_attn.k_proj.bias", "batch_of_3.first_logits"),
        ("language_model.model.layers.1.self_attn.v_proj.weight", "batch_of_3.first_logits"),
        ("language_model.model.layers.1.mlp.up_proj.weight", "batch_of_3.first_logits"),
        ("language_model.model.norm.weight", "batch_of_3.first_logits"),
        ("language_model.lm_head.weight", "batch_of_3.first_logits"),
    ] {
        let report = report(perturbed(tensor, 1.01).path());
        assert_eq!(failed(&report).first(), Some(&first), "{tensor}\n{report}");
    }
}

#[test]
fn another_rope_theta_or_epsilon_fails() {
    for (from, to) in [("10000.0", "10100.0"), ("\"rms_norm_eps\": 1e-05", "\"rms_norm_eps\": 0.001")] {
        let dir = copied();
        let path = dir.path().join("config.json");
        let config = std::fs::read_to_string(&path).expect("read");
        assert!(config.contains(from));
        std::fs::write(&path, config.replace(from, to)).expect("written");
        let report = report(dir.path());
        assert!(failed(&report).contains(&"sweep_31s.first_logits"), "{to}\n{report}");
    }
}

#[test]
fn a_difference_that_is_no_number_or_of_another_shape_fails() {
    let numbers = |numbers: &[f32]| Tensor::from_slice(numbers);
    let nan = largest_difference(&numbers(&[1.0, f32::NAN]), &numbers(&[1.0, 2.0])).expect("compares");
    let shape = relative_difference(&numbers(&[1.0]), &numbers(&[1.0, 2.0])).expect("compares");
    assert_eq!((nan, shape), (f64::INFINITY, f64::INFINITY));
    assert_eq!(relative_difference(&numbers(&[1.0, -3.0]), &numbers(&[1.0, -4.0])).expect("compares"), 0.25);
    assert_eq!(mean_difference(&numbers(&[1.0, -3.0]), &numbers(&[1.0, -4.0])).expect("compares"), 0.5);
    assert_eq!(differing(&[1, 2, 3], &[1, 5]), 2.0);
    assert!(!Report::default().passed(), "nothing compared is nothing proved");
}

#[test]
fn missing_golden_values_or_clips_are_named() {
    let dir = copied();
    let error = verify(dir.path(), None).expect_err("no folder of clips").to_string();
    assert!(error.contains("audio"), "{error}");
    let error = verify(dir.path(), Some(dir.path())).expect_err("no clip").to_string();
    assert!(error.contains("chirp_500ms") || error.contains("chord_3200ms"), "{error}");
    for file in ["expected.json", "expected.safetensors", "expected_tokens.json"] {
        let dir = copied();
        std::fs::remove_file(dir.path().join(file)).expect("removed");
        let error = verify(dir.path(), None).expect_err("no golden values").to_string();
        assert!(error.contains(file), "{error}");
    }
}
