//! A calibration from labels to the outcomes that it changes.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::harness::{Home, ROOT, clip, json_lines, text};

const CLIPS: [&str; 6] = [
    "blues-a-major-82-long.mp3",
    "bossa-a-minor-132.m4a",
    "country-d-major-126.mp3",
    "rock-e-minor-120.wav",
    "swing-f-major-160.ogg",
    "waltz-g-major-180.flac",
];

/// A checkpoint of the test's own, and a configuration that names it.
struct Set {
    home: Home,
    checkpoint: PathBuf,
    config: PathBuf,
}

impl Set {
    fn new() -> Self {
        let home = Home::new();
        let checkpoint = home.path("tiny");
        std::fs::create_dir(&checkpoint).expect("made");
        for file in ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json"] {
            let from = Path::new(ROOT).join("tests/fixtures/qwen2_audio/tiny-a").join(file);
            std::fs::copy(from, checkpoint.join(file)).expect("copied");
        }
        // In bfloat16 a score's last digits depend on who is answered beside it.
        let text = "[model]\ncheckpoint = \"tiny\"\nprecision = \"f32\"\n[http]\nlisten = \"127.0.0.1:0\"\n";
        let config = home.write("tidemark.toml", text);
        Self { home, checkpoint, config }
    }

    /// The arguments with the configuration behind them.
    fn with_config<'a>(&'a self, arguments: &[&'a str]) -> Vec<&'a str> {
        [arguments, &["--config", self.config.to_str().expect("UTF-8")]].concat()
    }

    fn describe(&self) -> Vec<Value> {
        let clips = CLIPS.map(|name| clip(name).to_str().expect("UTF-8").to_owned());
        let arguments: Vec<&str> = ["process", "--json"].into_iter().chain(clips.iter().map(String::as_str)).collect();
        json_lines(&self.home.succeed(&self.with_config(&arguments)))
    }

    fn calibrate<'a>(&'a self, labels: &'a Path, more: &[&'a str]) -> Vec<&'a str> {
        let [dir, labels] = [&self.checkpoint, labels].map(|path| path.to_str().expect("UTF-8"));
        self.with_config(&[&["model", "calibrate", dir, "--labels", labels], more].concat())
    }

    fn calibration(&self) -> Value {
        let bytes = std::fs::read(self.checkpoint.join("calibration.json")).expect("a calibration");
        serde_json::from_slice(&bytes).expect("JSON")
    }
}

/// Labels that call every other genre wrong, and all else right.
fn labels(outcomes: &[Value]) -> String {
    let label = |(n, outcome): (usize, &Value)| {
        let mut label = json!({ "metadata": outcome["metadata"] });
        if n % 2 == 0 {
            let other = if outcome["metadata"]["genre"] == "rock" { "jazz" } else { "rock" };
            label["metadata"]["genre"] = other.into();
        }
        let (key, from) = if n < 3 { ("audio", "source") } else { ("upload_id", "upload_id") };
        label[key] = outcome[from].clone();
        label.to_string() + "\n"
    };
    outcomes.iter().enumerate().map(label).collect()
}

#[test]
fn a_calibration_is_fitted_to_raw_scores_drawn_applied_and_refused_for_other_weights() {
    let set = Set::new();
    let raw = set.describe();
    let path = set.home.write("labels.ndjson", labels(&raw));
    let plot = set.home.path("plot.svg");
    let options = ["--method", "temperature", "--json", "--plot", plot.to_str().expect("UTF-8")];
    let rows = json_lines(&set.home.succeed(&set.calibrate(&path, &options)));
    let names: Vec<&str> = rows.iter().map(|row| row["of"].as_str().expect("a name")).collect();
    assert_eq!(names, ["overall", "genre", "tempo_bpm", "key", "instruments"]);
    for (row, fitted) in rows.iter().zip([true, true, false, false, false]) {
        assert_eq!((&row["labels"], row["curve"] == "temperature"), (&6.into(), fitted), "{row}");
        assert_eq!(row["raw"]["accuracy"], if fitted { 0.5 } else { 1.0 }, "{row}");
        assert_eq!(row["held_out"].is_object(), fitted, "{row}");
        assert_eq!(row["reason"].as_str().is_some_and(|reason| reason.contains("right")), !fitted, "{row}");
    }
    let svg = std::fs::read_to_string(&plot).expect("a picture");
    assert!(svg.starts_with("<svg") && svg.contains("genre") && svg.contains("calibrated"), "{svg}");

    // Measured as served, every other genre is wrong, and so is a clip that cannot be described.
    let missing = json!({ "audio": "missing.wav", "metadata": raw[0]["metadata"] }).to_string();
    let more = set.home.write("more.ndjson", labels(&raw) + &missing);
    let [dir, more] = [&set.checkpoint, &more].map(|path| path.to_str().expect("UTF-8"));
    let measured =
        json_lines(&set.home.succeed(&set.with_config(&["model", "measure", dir, "--labels", more, "--json"])));
    let of = |name: &str| measured.iter().find(|row| row["measure"] == name || row["of"] == name).expect("a row");
    for (name, right) in [("genre", 3.0), ("tempo_bpm within 4 %", 6.0), ("key", 6.0)] {
        let row = measured.iter().find(|row| row["measure"] == name).expect("a row");
        assert_eq!((row["clips"].as_u64(), row["value"].as_f64()), (Some(7), Some(right / 7.0)), "{row}");
    }
    assert!(of("instruments micro-F1")["value"].as_f64().is_some_and(|f1| f1 < 1.0));
    assert_eq!((&of("overall")["labels"], of("overall")["ece"].is_number()), (&6.into(), true));

    // The outcomes change as the file says, and nothing of them but the scores.
    let calibration = set.calibration();
    let temperature = calibration["overall"]["curve"]["temperature"].as_f64().expect("a temperature");
    assert!((temperature - 1.0).abs() > 1e-3, "{temperature}");
    let calibrated = set.describe();
    for (raw, calibrated) in raw.iter().zip(&calibrated) {
        let [before, after] = [raw, calibrated].map(|it| it["confidence"].as_f64().expect("a score"));
        let expected = 1.0 / (1.0 + ((1.0 - before) / before).powf(1.0 / temperature));
        assert!((after - expected).abs() < 1e-6, "{before} became {after}, not {expected}");
        assert_eq!(
            (&raw["metadata"], raw["source"].as_str()),
            (&calibrated["metadata"], calibrated["source"].as_str())
        );
        assert_ne!(raw["field_confidence"]["genre"], calibrated["field_confidence"]["genre"]);
    }

    // What is fitted is raw although a calibration lies there: the same labels give the same curves.
    let table = set.home.succeed(&set.calibrate(&path, &["--method", "temperature"]));
    assert!(table.contains("→") && table.contains("6 labels are few"), "{table}");
    let again = set.calibration()["overall"]["curve"]["temperature"].as_f64().expect("a temperature");
    assert!((again - temperature).abs() < 1e-3 * temperature, "{again}, not {temperature}");

    let weights = set.checkpoint.join("model.safetensors");
    let mut bytes = std::fs::read(&weights).expect("read");
    *bytes.last_mut().expect("weights") ^= 1;
    std::fs::write(&weights, bytes).expect("written");
    let error = set.home.fail(&set.with_config(&["process", clip(CLIPS[0]).to_str().expect("UTF-8")]));
    assert!(error.contains("calibration.json") && error.contains("other weights"), "{error}");
    let checks = json_lines(&text(&set.home.run(&set.with_config(&["doctor", "--json"])).stdout));
    let failed: Vec<_> = checks.iter().filter(|check| check["ok"] == false).map(|check| &check["check"]).collect();
    assert_eq!(failed, [&Value::from("confidence")], "{checks:?}");
    set.home.succeed(&set.calibrate(&path, &[]));
    set.describe();
}

#[test]
fn a_label_that_cannot_be_used_is_refused_by_line_and_nothing_is_written() {
    let set = Set::new();
    let good = json!({ "audio": clip(CLIPS[3]), "metadata": { "genre": "rock" } }).to_string();
    for (line, names) in [
        ("{\"metadata\": {\"genre\": \"rock\"}}", "either"),
        ("{\"audio\": \"a\", \"upload_id\": \"b\", \"metadata\": {}}", "either"),
        ("{\"upload_id\": \"nobody\", \"metadata\": {\"genre\": \"rock\"}}", "nobody"),
        ("{\"audio\": \"a.wav\", \"metadata\": {\"genre\": \"polka\"}}", "genre"),
        ("rock", "line 2"),
    ] {
        let path = set.home.write("labels.ndjson", format!("{good}\n{line}\n"));
        let error = set.home.fail(&set.calibrate(&path, &[]));
        assert!(error.contains("labels.ndjson, line 2") && error.contains(names), "{error}");
    }
    let path = set.home.write("labels.ndjson", "\n");
    assert!(set.home.fail(&set.calibrate(&path, &[])).contains("no label"));
    // Labels of one field tell nothing of whole answers, by which the fallback is asked.
    let path = set
        .home
        .write("labels.ndjson", good + "\n{\"audio\": \"missing.wav\", \"metadata\": {\"key\": \"C major\"}}\n");
    let error = set.home.fail(&set.calibrate(&path, &[]));
    assert!(error.contains("every field labelled") && error.contains("missing.wav"), "{error}");
    assert!(!set.checkpoint.join("calibration.json").exists());
}
