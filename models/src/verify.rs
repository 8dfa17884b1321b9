//! Compares a checkpoint, run by this crate from the audio file to the last token, with what the reference computed.
//!
//! The golden values lie beside the weights: `expected.json` (prompts, tokens, log-probabilities), `expected.safetensors`
//! (spectrograms, encoder outputs, logits), `expected_tokens.json` (texts with their ids).

mod golden;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tch::{Device, Kind, Tensor};

use crate::audio::{self, AudioError, LogMel};
use crate::engine::generate;
use crate::qwen2_audio::{Generated, Mel, Qwen2Audio, Row};
use crate::{Greedy, ModelError};
use golden::{Case, Golden};

/// Largest difference of a log-mel value.
const LOG_MEL: f64 = 1e-4;
/// Mean difference of the log-mel of a clip that was resampled: good resamplers differ.
const RESAMPLED_LOG_MEL: f64 = 0.05;
/// Largest difference of an encoder output or logit, in parts of the largest value.
const RELATIVE: f64 = 2e-4;
/// Largest difference of a token's log-probability.
const LOG_PROB: f64 = 1e-3;

/// One quantity, compared.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// What was compared: `CLIP.log_mel`, `CASE.first_logits`, …
    pub quantity: String,
    /// The largest difference found; infinite where the shapes differ or a value is no number.
    pub largest_difference: f64,
    /// The largest that is allowed.
    pub limit: f64,
}

impl Comparison {
    /// Whether the difference is within its limit.
    pub fn ok(&self) -> bool {
        self.largest_difference <= self.limit
    }
}

/// Every comparison of a checkpoint.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// The comparisons, in the order of the golden cases.
    pub comparisons: Vec<Comparison>,
    /// The golden values were made by a model whose rotary frequencies had been rounded to this kind.
    pub rounded_rotary: Option<Kind>,
}

impl Report {
    /// Whether something was compared and all of it is within its limits.
    pub fn passed(&self) -> bool {
        !self.comparisons.is_empty() && self.comparisons.iter().all(Comparison::ok)
    }

    fn add(&mut self, quantity: impl Into<String>, largest_difference: f64, limit: f64) {
        self.comparisons.push(Comparison { quantity: quantity.into(), largest_difference, limit });
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(kind) = self.rounded_rotary {
            writeln!(f, "the golden values hold with rotary frequencies rounded to {kind:?}")?;
        }
        for row in &self.comparisons {
            let verdict = if row.ok() { "ok" } else { "FAILED" };
            let (found, limit) = (row.largest_difference, row.limit);
            writeln!(f, "{:<44} {found:>10.2e}  limit {limit:>8.1e}  {verdict}", row.quantity)?;
        }
        Ok(())
    }
}

/// A clip as the front end hears it.
struct Clip {
    mel: Mel,
    resampled: bool,
}

/// Verifies the checkpoint in `dir` in float32 on the CPU; the clips are in `audio`, or else in `DIR/audio`.
///
/// # Errors
/// A [`ModelError`] where the checkpoint, a golden file or a clip cannot be read or run. A difference is no error: it
/// stands in the report.
pub fn verify(dir: &Path, audio: Option<&Path>) -> Result<Report, ModelError> {
    let golden = Golden::load(dir)?;
    let mut model = Qwen2Audio::load(dir, Device::Cpu, Kind::Float)?;
    let folder = audio.map_or_else(|| dir.join("audio"), Path::to_path_buf);
    let log_mel = LogMel::new(model.num_mel_bins(), model.window());
    let clips: BTreeMap<String, Clip> = golden
        .clips()
        .into_iter()
        .map(|name| Ok((name.to_owned(), hear(&find(&folder, name)?, &log_mel, model.window())?)))
        .collect::<Result<_, ModelError>>()?;
    compare_as_made(&mut model, dir, &golden, &clips)
}

/// Compares, and where a checkpoint of half precision differs, once more with its rotary frequencies rounded likewise:
/// the reference rounds them when a whole model is cast to half precision, and not when it is loaded in it.
fn compare_as_made(
    model: &mut Qwen2Audio,
    dir: &Path,
    golden: &Golden,
    clips: &BTreeMap<String, Clip>,
) -> Result<Report, ModelError> {
    let report = compare(model, dir, golden, clips)?;
    let half = model.stored_kinds().iter().copied().find(|kind| matches!(kind, Kind::Half | Kind::BFloat16));
    let Some(half) = half.filter(|_| !report.passed()) else { return Ok(report) };
    model.round_rotary_frequencies(half)?;
    let rounded = compare(model, dir, golden, clips)?;
    Ok(if rounded.passed() { Report { rounded_rotary: Some(half), ..rounded } } else { report })
}

/// The file of that name, whatever its ending.
fn find(folder: &Path, name: &str) -> Result<PathBuf, ModelError> {
    let entries = std::fs::read_dir(folder).map_err(|error| ModelError::read(folder, &error))?;
    let mut paths = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
    paths
        .find(|path| path.file_stem().is_some_and(|stem| stem == name))
        .ok_or_else(|| ModelError::invalid(folder, format!("it has no audio file named {name}")))
}

fn compare(
    model: &Qwen2Audio,
    dir: &Path,
    golden: &Golden,
    clips: &BTreeMap<String, Clip>,
) -> Result<Report, ModelError> {
    let _no_grad = tch::no_grad_guard();
    let mut report = Report::default();
    golden.compare_texts(dir, &mut report)?;
    for (name, clip) in clips {
        compare_clip(model, golden, name, clip, &mut report)?;
    }
    for (name, case) in &golden.cases {
        if case.audio.iter().all(|clip| !clips[clip].resampled) {
            compare_case(model, golden, (name, case), clips, &mut report)?;
        }
    }
    Ok(report)
}

fn compare_clip(
    model: &Qwen2Audio,
    golden: &Golden,
    name: &str,
    clip: &Clip,
    report: &mut Report,
) -> Result<(), ModelError> {
    let (quantity, mel) = (format!("{name}.log_mel"), &clip.mel);
    let found = Tensor::f_from_slice(&mel.data)?.f_view([mel.bins as i64, mel.columns as i64])?;
    let expected = golden.tensor(&quantity)?;
    if clip.resampled {
        // Nothing further of this clip: another resampler's rounding is carried through the whole model.
        report.add(format!("{quantity} (resampled, mean)"), mean_difference(&found, &expected)?, RESAMPLED_LOG_MEL);
        return Ok(());
    }
    report.add(quantity, largest_difference(&found, &expected)?, LOG_MEL);
    // Refuses what the encoder cannot take.
    model.prompt(std::slice::from_ref(mel), "")?;
    let encoded = model.encode(&[mel])?;
    let projected = model.project(&encoded)?;
    for (part, found) in [("encoder", encoded), ("projected", projected)] {
        let quantity = format!("{name}.{part}");
        let expected = golden.tensor(&quantity)?;
        report.add(quantity, relative_difference(&found[0], &expected)?, RELATIVE);
    }
    Ok(())
}

fn compare_case(
    model: &Qwen2Audio,
    golden: &Golden,
    (name, case): (&str, &Case),
    clips: &BTreeMap<String, Clip>,
    report: &mut Report,
) -> Result<(), ModelError> {
    let question: Arc<str> = golden.question.as_str().into();
    let row = |names: &[String]| Row {
        mels: names.iter().map(|name| clips[name].mel.clone()).collect(),
        question: Arc::clone(&question),
    };
    let rows: Vec<Row> = case.audio.chunks(case.clips_a_row()).map(row).collect();
    let prompts = rows.iter().map(|row| model.prompt(&row.mels, &question)).collect::<Result<Vec<_>, _>>()?;
    let ids = prompts.iter().zip(case.prompt_ids()).map(|(prompt, expected)| differing(&prompt.ids, &expected)).sum();
    report.add(format!("{name}.input_ids (differing)"), ids, 0.0);

    let mels: Vec<&Mel> = rows.iter().flat_map(|row| &row.mels).collect();
    let frames = mels.iter().zip(&case.mel_frames).filter(|(mel, expected)| mel.frames != **expected).count();
    report.add(format!("{name}.mel_frames (differing)"), frames as f64, 0.0);
    let projected = model.project(&model.encode(&mels)?)?;
    let logits = model.first_logits(&prompts, &projected)?;
    let quantity = format!("{name}.first_logits");
    let expected = golden.tensor(&quantity)?;
    report.add(quantity, relative_difference(&logits, &expected)?, RELATIVE);

    let greedy = |tokens: &Vec<u32>| Greedy { eos: Arc::new([]), max_new_tokens: tokens.len() };
    let choosers = case.generated.iter().map(greedy).collect();
    let answers = generate(model, rows, choosers).into_iter().collect::<Result<Vec<Generated>, _>>()?;
    let pairs = || answers.iter().zip(&case.generated);
    let tokens = pairs().map(|(answer, expected)| differing(&answer.tokens, expected)).sum();
    report.add(format!("{name}.generated (differing)"), tokens, 0.0);
    let found: Vec<f32> = answers.iter().flat_map(|answer| answer.log_probs.clone()).collect();
    let expected: Vec<f32> = case.logprobs.iter().flatten().copied().collect();
    let difference = largest_difference(&Tensor::f_from_slice(&found)?, &Tensor::f_from_slice(&expected)?)?;
    report.add(format!("{name}.logprobs"), difference, LOG_PROB);
    Ok(())
}

/// How many ids differ, those that one list has too many included.
fn differing(found: &[u32], expected: &[u32]) -> f64 {
    let different = found.iter().zip(expected).filter(|(found, expected)| found != expected).count();
    (different + found.len().abs_diff(expected.len())) as f64
}

/// The magnitudes of the differences; `None` where the shapes differ.
fn differences(found: &Tensor, expected: &Tensor) -> Result<Option<Tensor>, ModelError> {
    if found.size() != expected.size() || expected.numel() == 0 {
        return Ok(None);
    }
    Ok(Some(found.f_to_kind(Kind::Double)?.f_sub(&expected.f_to_kind(Kind::Double)?)?.f_abs()?))
}

/// NaN would be below every limit.
fn finite(number: &Tensor) -> Result<f64, ModelError> {
    let number = number.f_double_value(&[])?;
    Ok(if number.is_nan() { f64::INFINITY } else { number })
}

fn largest_difference(found: &Tensor, expected: &Tensor) -> Result<f64, ModelError> {
    differences(found, expected)?.map_or(Ok(f64::INFINITY), |differences| finite(&differences.f_max()?))
}

fn mean_difference(found: &Tensor, expected: &Tensor) -> Result<f64, ModelError> {
    differences(found, expected)?.map_or(Ok(f64::INFINITY), |differences| finite(&differences.f_mean(None)?))
}

fn relative_difference(found: &Tensor, expected: &Tensor) -> Result<f64, ModelError> {
    let largest = largest_difference(found, expected)?;
    if largest.is_infinite() {
        return Ok(largest);
    }
    Ok(largest / finite(&expected.f_abs()?.f_max()?)?.max(f64::MIN_POSITIVE))
}

/// Hears a clip as an upload is heard. The reference cuts a longer one after the first segment.
fn hear(path: &Path, log_mel: &LogMel, window: usize) -> Result<Clip, ModelError> {
    let folder = path.parent().unwrap_or(path);
    let invalid = |error: AudioError| ModelError::invalid(folder, error);
    let mut segments = audio::open(path, Duration::MAX, window).map_err(invalid)?;
    let resampled = segments.source_rate() != audio::SAMPLE_RATE;
    let first = segments.next().unwrap_or_else(|| Ok(Vec::new())).map_err(invalid)?;
    Ok(Clip { mel: log_mel.mel(&first), resampled })
}

#[cfg(test)]
mod tests;
