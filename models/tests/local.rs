//! The self-hosted model from the audio file to the annotation.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use models::local::{Clock, Device, Dtype, LocalModel, LocalOptions, has_cuda};
use models::schema::MetadataSchema;
use models::{Annotator, Late, Request};
use records::{Annotation, ErrorType, Fault, FaultClass, Lane, UploadId, UtcMicros};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/qwen2_audio").join(name)
}

fn count(count: usize) -> NonZeroUsize {
    count.try_into().expect("not 0")
}

fn options(checkpoint: PathBuf) -> LocalOptions {
    LocalOptions {
        checkpoint,
        name: None,
        device: if has_cuda() { Device::Cuda } else { Device::Cpu },
        dtype: Dtype::F32,
        schema: Arc::new(MetadataSchema::load("music-basic").expect("built in")),
        max_batch: count(4),
        kv_bytes: None,
        max_segments: count(2),
        longest_audio: Duration::from_secs(300),
        threads: count(1),
    }
}

fn clock() -> Clock {
    Arc::new(|| UtcMicros(0))
}

fn start(options: LocalOptions) -> LocalModel {
    LocalModel::start(options, clock()).expect("starts")
}

async fn annotate(model: &LocalModel, audio: impl AsRef<Path>) -> Result<Annotation, Fault> {
    let request = Request {
        upload_id: UploadId::try_from("upload".to_owned()).expect("a valid id"),
        audio: audio.as_ref().to_owned(),
        lane: Lane::High,
        deadline: UtcMicros(1),
        prompt: "Describe this audio as JSON.".into(),
        late: Late::Answer,
    };
    model.annotate(request).await
}

/// A mono WAV of 16 kHz.
fn wav(path: &Path, samples: impl Iterator<Item = f32>) {
    let sound: Vec<u8> = samples.flat_map(|sample| ((sample * 32767.0) as i16).to_le_bytes()).collect();
    let mut bytes = Vec::from(*b"RIFF");
    bytes.extend((36 + sound.len() as u32).to_le_bytes());
    bytes.extend(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
    bytes.extend(16_000u32.to_le_bytes());
    bytes.extend(32_000u32.to_le_bytes());
    bytes.extend(b"\x02\0\x10\0data");
    bytes.extend((sound.len() as u32).to_le_bytes());
    bytes.extend(sound);
    std::fs::write(path, bytes).expect("written");
}

#[tokio::test]
async fn real_clips_are_annotated_and_bad_files_fail_alone() {
    let model = start(options(fixture("tiny-a")));
    assert_eq!(model.model(), "tiny-a");
    let audio = fixture("tiny-a").join("audio");
    let dir = tempfile::tempdir().expect("a temporary folder");
    let text = dir.path().join("text.wav");
    std::fs::write(&text, "This is no sound.".repeat(1000)).expect("written");
    let (chirp, text, sweep, missing, chord) = futures::join!(
        annotate(&model, audio.join("chirp_500ms.wav")),
        annotate(&model, &text),
        annotate(&model, audio.join("sweep_31s.wav")),
        annotate(&model, dir.path().join("missing.wav")),
        annotate(&model, audio.join("chord_3200ms.wav")),
    );
    let schema = MetadataSchema::load("music-basic").expect("built in");
    for annotation in [chirp, sweep, chord] {
        let annotation = annotation.expect("an annotation");
        let answer = serde_json::to_string(&annotation.metadata).expect("serialises");
        assert_eq!(schema.read(&answer).expect("valid"), annotation.metadata);
        assert!(annotation.confidence.is_some_and(|confidence| confidence.get() < 0.8), "random weights know nothing");
    }
    for (result, error_type) in [(text, ErrorType::AudioUndecodable), (missing, ErrorType::AudioUnreachable)] {
        let fault = result.expect_err("no annotation");
        assert_eq!((fault.class, fault.error_type), (FaultClass::Permanent, error_type), "{fault}");
    }
    assert!(model.is_healthy());
}

#[tokio::test]
async fn a_minute_gives_one_answer_of_what_each_half_is_surest_of() {
    let model = start(LocalOptions { name: Some("named".into()), ..options(fixture("tiny-sharded")) });
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str| dir.path().join(name);
    let tone =
        |from: usize, to: usize| (from..to).map(|n| 0.5 * (n as f32 * if n < 480_000 { 0.1 } else { 0.7 }).sin());
    wav(&path("whole.wav"), tone(0, 960_000));
    wav(&path("first.wav"), tone(0, 480_000));
    wav(&path("second.wav"), tone(480_000, 960_000));
    let (whole, first, second) = futures::join!(
        annotate(&model, path("whole.wav")),
        annotate(&model, path("first.wav")),
        annotate(&model, path("second.wav")),
    );
    let [whole, first, second] = [whole, first, second].map(|result| result.expect("an annotation"));
    assert_eq!(whole.model, "named");
    assert_ne!(first.field_confidence, second.field_confidence);
    for (field, confidence) in &whole.field_confidence {
        let surer = if second.field_confidence[field] > first.field_confidence[field] { &second } else { &first };
        assert_eq!(whole.metadata[field], surer.metadata[field], "{field}");
        assert!((confidence.get() - surer.field_confidence[field].get()).abs() < 1e-4, "{field}");
    }
    assert_eq!(whole.confidence, whole.field_confidence.values().copied().reduce(|a, b| if b < a { b } else { a }));
}

#[test]
fn what_cannot_run_is_refused_at_the_start_by_name() {
    let refused = |options: LocalOptions| LocalModel::start(options, clock()).err().expect("refused").to_string();
    let error = refused(LocalOptions { kv_bytes: Some(count(100_000)), ..options(fixture("tiny-a")) });
    assert!(error.contains("100000") && error.contains("keys and values"), "{error}");

    let dir = tempfile::tempdir().expect("a temporary folder");
    for file in std::fs::read_dir(fixture("tiny-a")).expect("a folder").map(|file| file.expect("a file").path()) {
        if file.is_file() {
            std::fs::copy(&file, dir.path().join(file.file_name().expect("a name"))).expect("copied");
        }
    }
    let config = std::fs::read_to_string(dir.path().join("config.json")).expect("read");
    let small = config.replace("\"max_position_embeddings\": 8192", "\"max_position_embeddings\": 1000");
    std::fs::write(dir.path().join("config.json"), small).expect("written");
    let error = refused(options(dir.path().to_owned()));
    assert!(error.contains("1000 tokens fit") && error.contains("music-basic"), "{error}");

    if !tch::Cuda::is_available() {
        let error = refused(LocalOptions { device: Device::Cuda, ..options(fixture("tiny-a")) });
        assert!(error.contains("cuda"), "{error}");
    }
}
