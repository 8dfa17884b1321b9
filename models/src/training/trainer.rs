//! A training run from its options to its last checkpoint.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use tch::Kind;

use super::batches::{Clips, Heard};
use super::checkpoint::{self, Run};
use super::curve::{Curve, Point};
use super::heads::{HELPERS, Heads};
use super::manifest::Labelled;
use super::mels::Mels;
use super::network::{Network, Start};
use super::optimizer::{Optimizer, Schedule};
use super::step::{Lesson, losses};
use super::validate::{validate, validate_heads};
use super::{export, manifest};
use crate::ModelError;
use crate::audio::HOP;
use crate::local::Device;
use crate::measure::Measure;
use crate::qwen2_audio::Config;
use crate::schema::MetadataSchema;

/// What a run learns, from what, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// What it learns from.
    pub manifest: PathBuf,
    /// What it is measured with after each epoch.
    pub validation: PathBuf,
    /// Where the checkpoint goes, and in its folder `training` the run's state, its loss curve and the spectrograms.
    pub out: PathBuf,
    /// The network it begins with.
    pub start: Start,
    /// What answers look like.
    pub schema: Arc<MetadataSchema>,
    /// What is asked about each clip.
    pub question: Arc<str>,
    /// Where it runs.
    pub device: Device,
    /// Threads that libtorch computes with.
    pub threads: usize,
    /// How often each clip is heard.
    pub epochs: u64,
    /// The first epochs, in which the encoder alone learns.
    pub hearing_epochs: u64,
    /// Clips in a step.
    pub batch: usize,
    /// The highest learning rate.
    pub learning_rate: f64,
    /// What the run's order, changes and fresh weights are drawn from.
    pub seed: u64,
}

/// What happens in a run.
#[derive(Clone, Debug)]
pub enum Event {
    /// So many of so many clips can be heard.
    Prepared(usize, usize),
    /// The run begins, or goes on, with this step of so many.
    Begun(u64, u64),
    /// A step was taken.
    Stepped(Point),
    /// An epoch ended and the checkpoint was written.
    Validated {
        /// Epochs so far.
        epoch: u64,
        /// What the encoder knows of the validation split, by its helper heads.
        heard: Vec<Measure>,
        /// The answers to it; none before the language model learns.
        answered: Vec<Measure>,
    },
}

/// Whether a run is to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Go {
    /// Yes.
    On,
    /// No: it writes its state and ends.
    Stop,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It took its last step.
    Finished,
    /// It was told to stop; it goes on where it is begun again with the same options.
    Stopped,
}

/// In which numbers the network computes; variables and moments are float32 all the same.
pub(super) const NUMBERS: Kind = Kind::BFloat16;
/// Clips of the validation split that are answered after each epoch.
const VALIDATED: usize = 200;
/// Steps between two states on disk, at most.
const SAVED: u64 = 250;
/// Steps whose clips are made ready ahead.
const AHEAD: usize = 4;

/// Trains, from the state in `out` where there is one.
///
/// # Errors
/// A [`ModelError`] that names the file, the line or the option that cannot be used.
pub fn train(options: &Options, watch: &mut (dyn FnMut(Event) -> Go + Send)) -> Result<Ended, ModelError> {
    tch::set_num_threads(i32::try_from(options.threads).unwrap_or(i32::MAX));
    let folder = options.out.join("training");
    std::fs::create_dir_all(&folder).map_err(|error| checkpoint::write_error(&folder, error))?;
    let state = checkpoint::load(&folder.join(STATE))?;
    let mut labelled = manifest::read(&options.manifest, &options.schema)?;
    let run = options.run(state.as_ref().map_or(labelled.len(), |state| state.run.clips.min(labelled.len())));
    if let Some(state) = state.as_ref().filter(|state| state.run != run) {
        let reason = format!("it is of another run, {:?}, and not of {run:?}: name another --out", state.run);
        return Err(ModelError::invalid(&folder.join(STATE), reason));
    }
    labelled.truncate(run.clips);
    let network = Network::begin(options)?;
    let clips = clips(labelled, &network.config, options, watch)?;
    let mut held_out = manifest::read(&options.validation, &options.schema)?;
    held_out.truncate(VALIDATED);
    let held_out = self::clips(held_out, &network.config, options, watch)?;
    let mut trainer =
        Trainer { options, run, folder, network, optimizer: Optimizer::default(), curve: Curve::default(), step: 0 };
    match state {
        Some(state) => {
            state.restore(&trainer.network.variables, &mut trainer.optimizer)?;
            trainer.step = state.step;
            trainer.curve = Curve::load(&trainer.folder.join("loss.csv"), state.step)?;
        }
        None => trainer.lend_heads()?,
    }
    trainer.run(&clips, &held_out, watch)
}

const STATE: &str = "state.safetensors";

/// The clips of a manifest, their spectrograms on disk.
fn clips(
    labelled: Vec<Labelled>,
    config: &Config,
    options: &Options,
    watch: &mut (dyn FnMut(Event) -> Go + Send),
) -> Result<Clips, ModelError> {
    let audio: Vec<&Path> = labelled.iter().map(|it| it.audio.as_path()).collect();
    let (all, watch) = (audio.len(), std::sync::Mutex::new((0, watch)));
    let done = || {
        if let Ok(mut held) = watch.lock() {
            held.0 += 1;
            let made = held.0;
            (held.1)(Event::Prepared(made, all));
        }
    };
    let bins = config.audio_config.num_mel_bins;
    let mels = Mels::prepare(&audio, bins, &options.out.join("training/mels"), options.threads, &done)?;
    Ok(Clips { labelled, mels, schema: Arc::clone(&options.schema), longest: config.window() / HOP })
}

struct Trainer<'a> {
    options: &'a Options,
    run: Run,
    folder: PathBuf,
    network: Network,
    optimizer: Optimizer,
    curve: Curve,
    /// Steps that were taken.
    step: u64,
}

impl Trainer<'_> {
    /// Takes the helper heads of the run that made the checkpoint, where it left its state there.
    fn lend_heads(&self) -> Result<(), ModelError> {
        if let Start::Checkpoint { dir, .. } = &self.options.start
            && let Some(state) = checkpoint::load(&dir.join("training").join(STATE))?
        {
            state.lend(&self.network.variables, HELPERS)?;
        }
        Ok(())
    }

    fn run(
        &mut self,
        clips: &Clips,
        held_out: &Clips,
        watch: &mut (dyn FnMut(Event) -> Go + Send),
    ) -> Result<Ended, ModelError> {
        let options = self.options;
        let an_epoch = clips.steps(options.batch) as u64;
        let steps = an_epoch * options.epochs;
        let schedule = Schedule {
            learning_rate: options.learning_rate,
            warm_up: (steps / 20).min(300),
            steps,
            weight_decay: 0.05,
            longest_gradient: 1.0,
        };
        watch(Event::Begun(self.step, steps));
        let (device, kind) = (options.device(), NUMBERS);
        let mut model = self.network.assemble(device, kind)?;
        let heads = Heads::new(&options.schema);
        let (sender, heard) = sync_channel(AHEAD);
        let first = self.step;
        std::thread::scope(|scope| {
            scope.spawn(move || hear(clips, options, first..steps, &sender));
            for heard in heard {
                let lesson = options.lesson(self.step, an_epoch);
                let losses = losses(&mut model, &self.network.variables, &heads, &options.question, &heard?, lesson)?;
                let point = self.learn(losses, &schedule)?;
                self.curve.push(point.clone());
                let go = watch(Event::Stepped(point));
                let is_epoch = self.step.is_multiple_of(an_epoch);
                if is_epoch || go == Go::Stop || self.step.is_multiple_of(SAVED) {
                    self.save()?;
                }
                if go == Go::Stop {
                    return Ok(Ended::Stopped);
                }
                if is_epoch {
                    let (heard, answered) = self.validate(&heads, lesson, held_out)?;
                    let event = Event::Validated { epoch: self.step / an_epoch, heard, answered };
                    if watch(event) == Go::Stop && self.step < steps {
                        return Ok(Ended::Stopped);
                    }
                }
            }
            Ok(Ended::Finished)
        })
    }

    /// Takes a step down the losses.
    fn learn(&mut self, losses: Vec<(String, tch::Tensor)>, schedule: &Schedule) -> Result<Point, ModelError> {
        let values = losses.iter().map(|(name, loss)| Ok((name.clone(), loss.f_double_value(&[])?)));
        let values = values.collect::<Result<Vec<_>, tch::TchError>>()?;
        let losses: Vec<tch::Tensor> = losses.into_iter().map(|(_, loss)| loss).collect();
        tch::Tensor::f_stack(&losses, 0)?.f_sum(None)?.f_backward()?;
        let gradient = self.optimizer.step(&self.network.variables, schedule, self.step)?;
        let point = Point { step: self.step, rate: schedule.rate(self.step), gradient, losses: values };
        self.step += 1;
        Ok(point)
    }

    fn save(&self) -> Result<(), ModelError> {
        checkpoint::save(&self.folder.join(STATE), &self.run, self.step, &self.network.variables, &self.optimizer)?;
        self.curve.save(&self.folder)?;
        let Network { config_json, config, tokenizer, variables } = &self.network;
        export::export(&self.options.out, config_json, (config, tokenizer), variables)
    }

    fn validate(
        &self,
        heads: &Heads,
        lesson: Lesson,
        held_out: &Clips,
    ) -> Result<(Vec<Measure>, Vec<Measure>), ModelError> {
        let _no_grad = tch::no_grad_guard();
        let (schema, question) = (&self.options.schema, &self.options.question);
        let model = self.network.assemble(self.options.device(), Kind::Float)?;
        let heard = validate_heads(&model, (heads, &self.network.variables), held_out, schema, VALIDATED)?;
        let answered = match lesson {
            Lesson::Hearing => Vec::new(),
            Lesson::Answering => validate(&model, held_out, schema, question, VALIDATED)?,
        };
        Ok((heard, answered))
    }
}

/// Makes the clips of steps ready, a few steps ahead, until nobody takes them any more.
fn hear(
    clips: &Clips,
    options: &Options,
    steps: std::ops::Range<u64>,
    sender: &std::sync::mpsc::SyncSender<Result<Vec<Heard>, ModelError>>,
) {
    let an_epoch = clips.steps(options.batch) as u64;
    let mut order = Vec::new();
    for step in steps.clone() {
        if order.is_empty() || step.is_multiple_of(an_epoch) {
            order = clips.order(options.seed, step / an_epoch, options.batch);
        }
        let lesson = options.lesson(step, an_epoch);
        let heard = clips.hear(&order[(step % an_epoch) as usize], lesson, (options.seed, step));
        if sender.send(heard).is_err() {
            return;
        }
    }
}

impl Options {
    pub(super) fn device(&self) -> tch::Device {
        match self.device {
            Device::Cpu => tch::Device::Cpu,
            Device::Cuda => tch::Device::Cuda(0),
        }
    }

    /// What is learned in a step.
    fn lesson(&self, step: u64, an_epoch: u64) -> Lesson {
        if step < an_epoch * self.hearing_epochs { Lesson::Hearing } else { Lesson::Answering }
    }

    fn run(&self, clips: usize) -> Run {
        Run {
            clips,
            epochs: self.epochs,
            hearing_epochs: self.hearing_epochs,
            batch: self.batch,
            learning_rate: self.learning_rate,
            seed: self.seed,
            lora: match self.start {
                Start::Scratch { .. } => None,
                Start::Checkpoint { lora, .. } => lora,
            },
            question: self.question.to_string(),
        }
    }
}

#[cfg(test)]
mod tests;
