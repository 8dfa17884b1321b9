//! The checkpoint that comes with the program: without any configuration, real answers about real sound.

use serde_json::Value;

use crate::harness::{Home, clip, json_lines};

/// The clips of the demo, none of which it learned from, with tempo and key.
const CLIPS: [(&str, f64, &str); 6] = [
    ("blues-a-major-82-long.mp3", 82.0, "A major"),
    ("bossa-a-minor-132.m4a", 132.0, "A minor"),
    ("country-d-major-126.mp3", 126.0, "D major"),
    ("rock-e-minor-120.wav", 120.0, "E minor"),
    ("swing-f-major-160.ogg", 160.0, "F major"),
    ("waltz-g-major-180.flac", 180.0, "G major"),
];

#[test]
fn without_a_configuration_answers_mean_something_and_so_does_confidence() {
    let home = Home::new();
    let nothing = home.write("nothing.toml", "");
    let paths = CLIPS.map(|(name, ..)| clip(name).to_str().expect("UTF-8").to_owned());
    let arguments = ["process", "--json", "--config", nothing.to_str().expect("UTF-8")];
    let arguments: Vec<&str> = arguments.into_iter().chain(paths.iter().map(String::as_str)).collect();
    let outcomes = json_lines(&home.succeed(&arguments));
    let of = |name: &str| -> &Value {
        let is_of = |it: &&Value| it["source"].as_str().is_some_and(|source| source.ends_with(name));
        outcomes.iter().find(is_of).expect("an outcome")
    };
    let tempo = |(name, tempo, _): &&(&str, f64, &str)| {
        let found = of(name)["metadata"]["tempo_bpm"].as_f64().expect("a number");
        [0.5, 1.0, 2.0].iter().any(|octave| (found / (tempo * octave) - 1.0).abs() <= 0.04)
    };
    let key = |(name, _, key): &&(&str, f64, &str)| of(name)["metadata"]["key"] == *key;
    let (tempi, keys) = (CLIPS.iter().filter(tempo).count(), CLIPS.iter().filter(key).count());
    // By chance it would be one of six tempi, and none of 24 keys.
    assert!(tempi >= 4 && keys >= 3, "{tempi} tempi and {keys} keys of 6: {outcomes:#?}");
    for outcome in &outcomes {
        assert_eq!(outcome["model"], "nano");
        let sure = outcome["field_confidence"].as_object().expect("an object");
        assert!(sure.values().all(|it| it.as_f64().is_some_and(|it| (0.0..=1.0).contains(&it))), "{outcome}");
    }
}
