//! Clips that were never recorded: a spectrogram is played faster or slower, higher or lower, from another moment on,
//! through other loudspeakers, and with holes; what is true of it moves along.

use fastrand::Rng;
use records::Metadata;
use serde_json::Value;

use super::score::Score;
use crate::audio::bands;
use crate::qwen2_audio::Mel;
use crate::schema::MetadataSchema;

/// A clip as the network hears it once.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Example {
    /// What is heard.
    pub(crate) mel: Mel,
    /// What is to be answered.
    pub(crate) metadata: Metadata,
    /// When what sounds.
    pub(crate) score: Option<Score>,
}

/// Mel frames in a second.
const RATE: f32 = 100.0;
/// The fastest and, as its inverse, the slowest a clip is played; a tempo on either side stays plausible for its style.
const FASTEST: f32 = 1.22;
/// The most semitones up or down: the analysis window does not move along, so more would sound like nothing.
const SEMITONES: i8 = 3;
const TONICS: [&str; 12] = ["C", "C#", "D", "Eb", "E", "F", "F#", "G", "G#", "A", "Bb", "B"];
/// The bands of silence behind a clip: what the encoder's convolutions reach.
const SILENT: usize = 8;
/// From the loudest to the floor of a spectrogram.
const RANGE: f32 = 2.0;

/// How a clip is to be changed.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Change {
    faster: f32,
    semitones: i8,
}

/// Changes a clip; of longer ones, `frames` mel frames are heard. Faster or higher it is only where `schema` has words for
/// what then is true.
pub(crate) fn augment(example: &Example, schema: &MetadataSchema, frames: usize, rng: &mut Rng) -> Example {
    let change = Change {
        faster: if rng.f32() < 0.8 { FASTEST.powf(2.0 * rng.f32() - 1.0) } else { 1.0 },
        semitones: if rng.f32() < 0.6 { rng.i8(-SEMITONES..=SEMITONES) } else { 0 },
    };
    let (change, metadata) = match relabel(&example.metadata, change) {
        Some(metadata) if schema.allows(&metadata) => (change, metadata),
        _ => (Change { faster: 1.0, semitones: 0 }, example.metadata.clone()),
    };
    let length = ((example.mel.frames as f32 / change.faster) as usize).max(1);
    let heard = length.min(frames);
    let start = rng.usize(..=length - heard);
    let mut mel = resample(&example.mel, change, start, heard);
    colour(&mut mel, rng);
    drown(&mut mel, rng);
    mask(&mut mel, rng);
    silence(&mut mel);
    let score = example
        .score
        .clone()
        .map(|score| score.faster(change.faster).transposed(change.semitones).from(start as f32 / RATE));
    let metadata = match &score {
        Some(score) if heard < length => only_heard(metadata, score, heard as f32 / RATE),
        _ => metadata,
    };
    Example { mel, metadata, score }
}

/// The answer after the change; `None` where the key has no other name.
fn relabel(metadata: &Metadata, change: Change) -> Option<Metadata> {
    let mut metadata = metadata.clone();
    if let Some(tempo) = metadata.get("tempo_bpm").and_then(Value::as_f64) {
        metadata.insert("tempo_bpm".into(), ((tempo * f64::from(change.faster)).round() as u64).into());
    }
    if let Some(key) = metadata.get("key").and_then(Value::as_str) {
        let moved = transposed(key, change.semitones)?;
        metadata.insert("key".into(), moved.into());
    }
    Some(metadata)
}

fn transposed(key: &str, semitones: i8) -> Option<String> {
    let (tonic, mode) = key.split_once(' ')?;
    let place = TONICS.iter().position(|name| *name == tonic)? as i8;
    Some(format!("{} {mode}", TONICS[(place + semitones).rem_euclid(12) as usize]))
}

/// The answer without the instruments that play only outside of the first `seconds`.
fn only_heard(mut metadata: Metadata, score: &Score, seconds: f32) -> Metadata {
    let is_heard = |name: &Value| {
        let Some(family) = name.as_str().and_then(|name| FAMILIES.iter().position(|family| *family == name)) else {
            return true;
        };
        score.notes.iter().any(|note| note.family == family && note.offset > 0.1 && note.onset < seconds - 0.1)
            || family == DRUMS && score.drums.iter().any(|(time, _)| (0.0..seconds).contains(time))
    };
    if let Some(Value::Array(instruments)) = metadata.get_mut("instruments") {
        let heard: Vec<Value> = instruments.iter().filter(|name| is_heard(name)).cloned().collect();
        if !heard.is_empty() {
            *instruments = heard;
        }
    }
    metadata
}

/// General MIDI's families in their order, and drums.
const FAMILIES: [&str; 17] = [
    "piano",
    "chromatic percussion",
    "organ",
    "guitar",
    "bass",
    "strings",
    "ensemble",
    "brass",
    "reed",
    "pipe",
    "synth lead",
    "synth pad",
    "synth effects",
    "ethnic",
    "percussive",
    "sound effects",
    "drums",
];
const DRUMS: usize = 16;

/// `heard` frames of the changed spectrogram from frame `start` on.
fn resample(mel: &Mel, change: Change, start: usize, heard: usize) -> Mel {
    let columns: Vec<(usize, usize, f32)> =
        (start..start + heard).map(|column| between(column as f32 * change.faster, mel.frames)).collect();
    let from: Vec<(usize, usize, f32)> =
        bands::moved(mel.bins, f64::from(change.semitones)).map(|band| between(band as f32, mel.bins)).collect();
    let wide = heard + SILENT;
    let mut data = vec![0f32; mel.bins * wide];
    let mut row = vec![0f32; mel.columns];
    for (&(low, high, part), out) in from.iter().zip(data.chunks_exact_mut(wide)) {
        let [low, high] = [low, high].map(|band| &mel.data[band * mel.columns..][..mel.columns]);
        for ((out, low), high) in row.iter_mut().zip(low).zip(high) {
            *out = low + part * (high - low);
        }
        for (out, &(before, after, part)) in out.iter_mut().zip(&columns) {
            *out = row[before] + part * (row[after] - row[before]);
        }
    }
    Mel { data, bins: mel.bins, columns: wide, frames: heard }
}

/// The two places around `place`, and how far it is from the first to the second.
fn between(place: f32, count: usize) -> (usize, usize, f32) {
    let place = place.clamp(0.0, (count - 1) as f32);
    let before = place as usize;
    (before, (before + 1).min(count - 1), place - before as f32)
}

/// Louder or softer, and through other loudspeakers: some bands more, some less, evenly over time.
fn colour(mel: &mut Mel, rng: &mut Rng) {
    let gain = 0.4 * (rng.f32() - 0.5);
    let waves: Vec<(f32, f32, f32)> = [0.5, 1.0, 2.0, 3.5]
        .map(|turns: f32| (0.14 * (rng.f32() - 0.5), turns * std::f32::consts::TAU, rng.f32() * std::f32::consts::TAU))
        .to_vec();
    let bins = mel.bins as f32;
    for (band, row) in sounding(mel).enumerate() {
        let wave = |&(level, turns, phase): &(f32, f32, f32)| level * (turns * band as f32 / bins + phase).sin();
        let offset = gain + waves.iter().map(wave).sum::<f32>();
        row.iter_mut().for_each(|value| *value += offset);
    }
}

/// In noise: what is softer is not heard.
fn drown(mel: &mut Mel, rng: &mut Rng) {
    if rng.f32() < 0.3 {
        let loudest = mel.data.iter().copied().fold(f32::MIN, f32::max);
        let level = loudest - 0.9 - rng.f32();
        for row in sounding(mel) {
            row.iter_mut().for_each(|value| *value = value.max(level + 0.03 * (rng.f32() - 0.5)));
        }
    }
}

/// Holes in time and in frequency (Park 2019, arXiv 1904.08779), small enough for a beat and a chord to be told.
fn mask(mel: &mut Mel, rng: &mut Rng) {
    let (bins, frames) = (mel.bins, mel.frames);
    let mean = sounding(mel).map(|row| row.iter().sum::<f32>()).sum::<f32>() / (bins * frames) as f32;
    for _ in 0..2 {
        let width = rng.usize(..=bins / 12);
        let first = rng.usize(..=bins - width);
        sounding(mel).skip(first).take(width).for_each(|row| row.fill(mean));
        let width = rng.usize(..=15.min(frames / 4));
        let first = rng.usize(..=frames - width);
        sounding(mel).for_each(|row| row[first..first + width].fill(mean));
    }
}

/// Behind the sound there is silence, as in a file that ends.
fn silence(mel: &mut Mel) {
    let loudest = sounding(mel).flat_map(|row| row.iter().copied()).fold(f32::MIN, f32::max);
    let (columns, frames) = (mel.columns, mel.frames);
    mel.data.chunks_exact_mut(columns).for_each(|row| row[frames..].fill((loudest - RANGE).max(-1.5)));
}

/// The frames with sound of each band.
fn sounding(mel: &mut Mel) -> impl Iterator<Item = &mut [f32]> {
    let frames = mel.frames;
    mel.data.chunks_exact_mut(mel.columns).map(move |row| &mut row[..frames])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::score::Note;
    use super::*;

    fn example() -> Example {
        let (bins, frames) = (128, 1000);
        // A tone in band 60, and a click each half second.
        let value = |band: usize, column: usize| match (band, column % 50) {
            (_, 0) => 1.0,
            (60, _) => 0.8,
            _ => -0.5,
        };
        let data = (0..bins).flat_map(|band| (0..frames).map(move |column| (band, column)));
        let data = data.map(|(band, column)| value(band, column)).collect();
        let Value::Object(metadata) =
            json!({"genre": "rock", "tempo_bpm": 120, "key": "Bb minor", "instruments": ["piano", "drums"]})
        else {
            unreachable!("it is an object")
        };
        let beats = (0..20).map(|n| n as f32 * 0.5).collect();
        let notes = vec![Note { onset: 9.0, offset: 10.0, pitch: 70, family: 0 }];
        let score = Score { beats, downbeats: Vec::new(), notes, drums: (0..10).map(|n| (n as f32, 36)).collect() };
        Example { mel: Mel { data, bins, columns: frames, frames }, metadata, score: Some(score) }
    }

    fn schema() -> MetadataSchema {
        MetadataSchema::load("music-basic").expect("built in")
    }

    #[test]
    fn a_clip_is_no_faster_and_no_higher_than_the_schema_has_words_for() {
        let mut example = example();
        for (tempo, plays_on) in [(30, false), (300, false), (120, true)] {
            example.metadata.insert("tempo_bpm".into(), tempo.into());
            let tempi = (0..40).map(|seed| augment(&example, &schema(), 800, &mut Rng::with_seed(seed)));
            let tempi: Vec<u64> = tempi.filter_map(|it| it.metadata["tempo_bpm"].as_u64()).collect();
            assert!(tempi.len() == 40 && tempi.iter().all(|tempo| (30..=300).contains(tempo)), "{tempi:?}");
            assert!(tempi.iter().any(|&moved| moved != tempo) || !plays_on, "{tempi:?}");
        }
        example.metadata.insert("key".into(), "H major".into());
        for seed in 0..40 {
            let out = augment(&example, &schema(), 800, &mut Rng::with_seed(seed));
            assert_eq!((&out.metadata["key"], &out.metadata["tempo_bpm"]), (&"H major".into(), &120.into()));
        }
    }

    #[test]
    fn beats_stay_on_their_clicks_and_tempo_says_how_far_apart_they_are() {
        for seed in 0..40 {
            let example = example();
            let change = Change { faster: 1.1f32.powi(seed % 5 - 2), semitones: 0 };
            let metadata = relabel(&example.metadata, change).expect("it has a name");
            let mel = resample(&example.mel, change, seed as usize, 700);
            let score = example.score.expect("it has one").faster(change.faster).from(seed as f32 / RATE);
            let inside = score.beats.iter().filter(|&&time| (0.05..6.95).contains(&time));
            for time in inside.clone() {
                let place = (time * RATE).round() as usize;
                let loudest = (place - 1..=place + 1).map(|column| mel.data[column]).fold(f32::MIN, f32::max);
                assert!(loudest > 0.1, "{time} s of {change:?}: {loudest}");
            }
            let apart = 60.0 / metadata["tempo_bpm"].as_f64().expect("a number") as f32;
            assert!((inside.count() as f32 - 6.9 / apart).abs() <= 1.0);
        }
    }

    #[test]
    fn a_pitch_shift_moves_the_tone_and_the_key_by_the_same_ratio() {
        let example = example();
        for semitones in [-3, 2] {
            let change = Change { faster: 1.0, semitones };
            let metadata = relabel(&example.metadata, change).expect("it has a name");
            assert_eq!(metadata["key"], if semitones == 2 { "C minor" } else { "G minor" });
            let mel = resample(&example.mel, change, 0, 10);
            let loudest =
                (0..128).max_by(|&a, &b| mel.data[a * 18 + 5].total_cmp(&mel.data[b * 18 + 5])).expect("bands");
            let ratio = bands::hertz(128, loudest as f64) / bands::hertz(128, 60.0);
            assert!((ratio.log2() * 12.0 - f64::from(semitones)).abs() < 0.3, "{ratio}");
        }
    }

    #[test]
    fn an_instrument_that_plays_only_outside_the_crop_is_not_asked_for() {
        let (example, mut seen) = (example(), [0, 0]);
        for seed in 0..60 {
            let out = augment(&example, &schema(), 400, &mut Rng::with_seed(seed));
            let has_note = out.score.as_ref().expect("it has one").notes[0].onset < 3.9;
            assert_eq!(out.metadata["instruments"].as_array().expect("a list").contains(&"piano".into()), has_note);
            assert!(out.mel.data.iter().all(|value| value.is_finite()) && out.mel.frames == 400);
            seen[usize::from(has_note)] += 1;
        }
        assert!(seen[0] > 0 && seen[1] > 0, "{seen:?}");
    }

    #[test]
    fn the_same_seed_gives_the_same_clip() {
        let [first, second] = [7, 7].map(|seed| augment(&example(), &schema(), 800, &mut Rng::with_seed(seed)));
        assert_eq!(first, second);
        assert_ne!(first, augment(&example(), &schema(), 800, &mut Rng::with_seed(8)));
    }
}
