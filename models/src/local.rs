//! The self-hosted model: Qwen2-Audio on a thread of its own, behind an [engine](crate::engine).
//!
//! A request is first heard (decoded, cut into segments as long as the model hears, turned into spectrograms) on one of a few threads, then
//! answered on the engine's thread, where a row for each segment joins those in work as soon as there is room. Both lines
//! go by deadline, and an urgent request takes the place of a patient one in work. A caller that is gone is not worked for.

mod answer;
mod desk;
mod merge;
mod precision;

use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use futures::future::BoxFuture;
use records::{Annotation, ErrorType, Fault, Lane, UtcMicros};
use serde::Deserialize;
use tch::Kind;
use tokio::sync::oneshot;

use crate::audio::{self, LogMel};
use crate::calibration::Calibration;
use crate::engine::{Engine, generate};
use crate::grammar::{AnswerGrammar, GrammarChooser};
use crate::qwen2_audio::{Qwen2Audio, Row, cuda_memory};
use crate::schema::MetadataSchema;
use crate::{Annotator, Greedy, ModelError, Request};
use answer::Describer;
use desk::{Desk, Heard, Job};

/// The time of day, handed in.
pub type Clock = Arc<dyn Fn() -> UtcMicros + Send + Sync>;

/// Whether libtorch sees a CUDA device.
pub fn has_cuda() -> bool {
    tch::Cuda::is_available()
}

/// Where the model runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Device {
    /// The processor.
    Cpu,
    /// The first CUDA device.
    Cuda,
}

/// In which numbers the model computes, whatever its files hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dtype {
    /// bfloat16 on a GPU, and on a processor where a small measurement at the start says that it is faster; else float32.
    Auto,
    /// float32.
    F32,
    /// bfloat16.
    Bf16,
}

/// What to run, and how.
#[derive(Clone, Debug)]
pub struct LocalOptions {
    /// The checkpoint's folder.
    pub checkpoint: PathBuf,
    /// The model's name in outcomes; the folder's, where it has none.
    pub name: Option<String>,
    /// Where it runs.
    pub device: Device,
    /// In which numbers.
    pub dtype: Dtype,
    /// What its answers look like.
    pub schema: Arc<MetadataSchema>,
    /// Rows of each lane that are answered together; a row is a segment.
    pub max_batch: NonZeroUsize,
    /// The most memory for keys and values; `None`: what the longest rows need, but at most half of what is free on a
    /// processor, and nine tenths on a GPU.
    pub kv_bytes: Option<NonZeroUsize>,
    /// Segments of an upload that are heard, spread evenly over it.
    pub max_segments: NonZeroUsize,
    /// The longest upload that is taken.
    pub longest_audio: Duration,
    /// Threads that libtorch computes with on the processor, and as many that decode audio.
    pub threads: NonZeroUsize,
}

/// A self-hosted model that runs. Dropped, it ends its threads, a step in work first.
pub struct LocalModel {
    name: String,
    desk: Arc<Desk>,
    threads: Vec<JoinHandle<()>>,
    /// What makes probabilities of its scores, where it has been calibrated.
    calibration: Option<Calibration>,
}

/// Makes rows of a request's audio, on any of the hearing threads.
type Hear = dyn Fn(&Request) -> Result<Vec<Row>, Fault> + Send + Sync;
/// Takes heard requests from the desk and answers them, on the engine's thread, until the desk is closed.
type Answer = dyn FnOnce(&Desk) + Send;

impl LocalModel {
    /// Starts the model; its confidence is calibrated where `calibration.json` lies beside the weights, and else the raw,
    /// uncalibrated score.
    ///
    /// # Errors
    /// As [`Self::start_raw`]; and [`ModelError::Invalid`] for a calibration of other weights or another schema.
    ///
    /// # Panics
    /// Where the system starts no further thread.
    pub fn start(options: LocalOptions, clock: Clock) -> Result<Self, ModelError> {
        let calibration = Calibration::load(&options.checkpoint, &options.schema)?;
        match &calibration {
            Some(it) => tracing::info!(labels = it.overall().labels, "confidence is calibrated"),
            None => {
                tracing::info!("confidence is an uncalibrated score: `tidemark model calibrate` makes it a probability")
            }
        }
        let mut model = Self::start_raw(options, clock)?;
        model.calibration = calibration;
        Ok(model)
    }

    /// Starts the model with raw scores, whatever lies beside the weights: what a calibration is fitted to.
    ///
    /// Loads the checkpoint, checks that its longest answer fits, runs it once so that the first request is not slow, and
    /// starts the threads. libtorch's number of threads is the process's, so the last model started sets it.
    ///
    /// # Errors
    /// A [`ModelError`] that names what cannot be used: the checkpoint's file, the device, or the schema.
    ///
    /// # Panics
    /// Where the system starts no further thread.
    pub fn start_raw(options: LocalOptions, clock: Clock) -> Result<Self, ModelError> {
        let LocalOptions { checkpoint, schema, max_batch, max_segments, longest_audio, threads, .. } = options;
        let device = match options.device {
            Device::Cpu => tch::Device::Cpu,
            Device::Cuda if tch::Cuda::is_available() => tch::Device::Cuda(0),
            Device::Cuda => {
                return Err(ModelError::invalid(&checkpoint, "it is to run on cuda, and libtorch finds none"));
            }
        };
        tch::set_num_threads(i32::try_from(threads.get()).unwrap_or(i32::MAX));
        let dtype = match options.dtype {
            Dtype::Auto => precision::fastest(device, &clock)?,
            Dtype::F32 => Kind::Float,
            Dtype::Bf16 => Kind::BFloat16,
        };
        tracing::info!(?device, ?dtype, "the model runs");
        let model = Qwen2Audio::load(&checkpoint, device, dtype)?;
        let vocab_size = model.config().text_config.vocab_size;
        let grammar = AnswerGrammar::new(&schema, model.tokenizer(), vocab_size, &model.eos_token_ids())?;
        let window = model.window();
        let log_mel = LogMel::new(model.num_mel_bins(), window);
        let unusable = |error| match error {
            ModelError::Request(reason) => ModelError::invalid(&checkpoint, reason),
            error => error,
        };
        let longest = rehearse(&model, &log_mel, &schema).map_err(unusable)?;
        let kv_bytes = kv_bytes(&model, longest, (max_batch.get(), options.kv_bytes)).map_err(unusable)?;
        let folder = || checkpoint.file_name().unwrap_or(checkpoint.as_os_str()).to_string_lossy().into_owned();
        let name = options.name.unwrap_or_else(folder);
        let hear = move |request: &Request| {
            let row = |segment: audio::Segment| Row {
                mels: vec![log_mel.mel(&segment.samples)],
                question: Arc::clone(&request.prompt),
            };
            let segments = audio::spread(&request.audio, longest_audio, window, max_segments)?;
            Ok(segments.into_iter().map(row).collect())
        };
        let describer = Describer { model, grammar, schema, name: name.clone(), clock, most_rows: max_batch.get() };
        // The cache is the engine thread's, so whether there is memory for it is asked once before.
        describer.engine(kv_bytes).map(drop)?;
        let answer = move |desk: &Desk| match describer.engine(kv_bytes) {
            Ok(engine) => describer.answer(desk, engine),
            Err(error) => tracing::error!(%error, "the engine does not start"),
        };
        Ok(Self::run(name, max_batch, threads, Arc::new(hear), Box::new(answer)))
    }

    /// Starts the threads that hear and answer.
    fn run(name: String, max_batch: NonZeroUsize, hearers: NonZeroUsize, hear: Arc<Hear>, answer: Box<Answer>) -> Self {
        let desk = Arc::new(Desk::new(2 * max_batch.get()));
        let start = |name: String, work: Box<dyn FnOnce() + Send>| {
            Builder::new().name(name).spawn(work).expect("without threads nothing can work")
        };
        let hearer = |name: String, only: Option<Lane>| {
            let (desk, hear) = (Arc::clone(&desk), Arc::clone(&hear));
            start(name, Box::new(move || hear_all(&desk, &*hear, only)))
        };
        let mut threads: Vec<_> = (0..hearers.get()).map(|n| hearer(format!("hear-{n}"), None)).collect();
        // Hearing cannot be put off once it has begun: an urgent upload must not wait until hours of bulk are decoded.
        threads.push(hearer("hear-high".into(), Some(Lane::High)));
        let of_engine = Arc::clone(&desk);
        threads.push(start("engine".into(), Box::new(move || answer_all(&of_engine, answer))));
        Self { name, desk, threads, calibration: None }
    }

    /// Whether requests are still answered: not, once the engine's thread has ended, in a panic
    /// or because the device works no longer.
    pub fn is_healthy(&self) -> bool {
        !self.desk.is_closed()
    }
}

impl Annotator for LocalModel {
    fn model(&self) -> &str {
        &self.name
    }

    fn annotate(&self, request: Request) -> BoxFuture<'_, Result<Annotation, Fault>> {
        Box::pin(async move {
            let (reply, answer) = oneshot::channel();
            self.desk.ask(Job { request, reply });
            let stopped = |_| {
                let message = format!("the model {} has stopped, the log says why: restart the process", self.name);
                Err(Fault::retryable(ErrorType::Model, message))
            };
            let answer = answer.await.unwrap_or_else(stopped)?;
            Ok(match &self.calibration {
                Some(calibration) => calibration.apply(answer),
                None => answer,
            })
        })
    }
}

impl Drop for LocalModel {
    fn drop(&mut self) {
        self.desk.close();
        for thread in self.threads.drain(..) {
            // What it panicked with, the panic hook has told.
            thread.join().ok();
        }
    }
}

/// Hears requests until the desk is closed. A decoder that panics on a file fails that file only.
fn hear_all(desk: &Desk, hear: &Hear, only: Option<Lane>) {
    while let Some(job) = desk.next_to_hear(only) {
        let heard = catch_unwind(AssertUnwindSafe(|| hear(&job.request))).unwrap_or_else(|_| {
            let message = format!("the decoder panicked on {}", job.request.audio.display());
            Err(Fault::permanent(ErrorType::AudioUndecodable, message))
        });
        match heard {
            Ok(rows) => desk.put(Heard { job, rows }),
            Err(fault) => job.end(Err(fault)),
        }
    }
}

/// Closes the desk when it is dropped, in a panic too, so that nobody waits for what has ended.
struct Closing<'a>(&'a Desk);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Answers until the desk is closed.
fn answer_all(desk: &Desk, answer: Box<Answer>) {
    let _closing = Closing(desk);
    answer(desk);
}

/// Runs the model on as much silence as it hears, once to read it and once to go on: how many tokens such a clip and the longest
/// answer have.
///
/// # Errors
/// [`ModelError::Request`] where they do not fit; [`ModelError::Torch`] for want of memory.
fn rehearse(model: &Qwen2Audio, log_mel: &LogMel, schema: &MetadataSchema) -> Result<usize, ModelError> {
    let row = Row { mels: vec![log_mel.mel(&vec![0.0; model.window()])], question: "".into() };
    let prompt = model.prompt(&row.mels, &row.question)?.ids.len();
    let (answer, fit) = (schema.longest_answer(), model.config().text_config.max_position_embeddings);
    if prompt + answer > fit {
        let name = schema.name();
        let reason =
            format!("{fit} tokens fit, but a prompt takes {prompt} and an answer of the schema {name} up to {answer}");
        return Err(ModelError::Request(reason));
    }
    let twice = vec![Greedy { eos: [].into(), max_new_tokens: 2 }];
    generate(model, vec![row], twice).into_iter().try_for_each(|answer| answer.map(|_| ()))?;
    Ok(prompt + answer)
}

/// Tokens of a question that memory is set aside for; a longer one takes a larger slot.
const QUESTION: usize = 128;

/// Memory for keys and values: of rows of the longest clip and answer, as many as run at once, and one more, for what is
/// longer; less where it is given or where less is free.
///
/// # Errors
/// [`ModelError::Request`] where that holds not one such row.
fn kv_bytes(
    model: &Qwen2Audio,
    longest: usize,
    (rows, given): (usize, Option<NonZeroUsize>),
) -> Result<usize, ModelError> {
    let fit = model.config().text_config.max_position_embeddings;
    let row = (longest + QUESTION).min(fit);
    let needed = |rows| Engine::<GrammarChooser>::bytes(model, std::iter::repeat_n(row, rows));
    let most = given.map(NonZeroUsize::get).or_else(|| free_memory(model)).unwrap_or(usize::MAX);
    let (wanted, least) = (needed(rows + 1)?, needed(1)?);
    if most < least {
        let reason = format!("keys and values of one row take {least} bytes, and they may have {most}");
        return Err(ModelError::Request(reason));
    }
    Ok(wanted.min(most))
}

/// What of the device's free memory keys and values may have, in bytes; `None` where the system does not say what is free.
/// A processor has other work beside; on a GPU the rest is what a pass needs.
fn free_memory(model: &Qwen2Audio) -> Option<usize> {
    if !model.is_on_cpu() {
        return cuda_memory().ok().map(|(free, _)| free / 10 * 9);
    }
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<usize>().ok().map(|kilobytes| kilobytes * 1024 / 2)
}

#[cfg(test)]
mod tests;
