//! `tidemark train`: makes a checkpoint from labelled audio.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use models::local::{Device, has_cuda};
use models::measure::Measure;
use models::schema::MetadataSchema;
use models::training::{Ended, Event, Go, Options, Start, train};
use serde_json::json;
use tidemark::config::Config;
use tidemark::drain::Signals;

use super::distil::{Distilled, distil};
use super::{Common, Exit, show, start};

#[derive(clap::Args)]
#[command(after_help = "\
A manifest is a JSON object a line: {\"audio\": PATH, \"metadata\": {…}, \"frames\": {…}}, paths relative to it; training/README.md says more.
Stopped with Ctrl-C or killed, the same command goes on where it was.

Examples:
  tidemark train --manifest data/dataset/train.jsonl --validation data/dataset/validation.jsonl --out data/nano
  tidemark train --manifest labels.jsonl --validation held-out.jsonl --out tuned --checkpoint /models/7B --lora 16
  tidemark train --from-outcomes --validation held-out.jsonl --out taught --checkpoint data/nano")]
pub(super) struct Train {
    /// What is learned from
    #[arg(long, value_name = "FILE", required_unless_present = "from_outcomes")]
    manifest: Option<PathBuf>,
    /// Learn from the paid model's answers in the store of --data, of uploads whose events give training_consent
    #[arg(long, conflicts_with = "manifest")]
    from_outcomes: bool,
    /// What each epoch is measured with
    #[arg(long, value_name = "FILE")]
    validation: PathBuf,
    /// Where the checkpoint is written, and the run's state beside it
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Begin with fresh weights of a config.json's dimensions, or of Tidemark's own small network
    #[arg(long, value_name = "FILE|nano", default_value = "nano", conflicts_with = "checkpoint")]
    from_scratch: String,
    /// Begin with this checkpoint
    #[arg(long, value_name = "DIR")]
    checkpoint: Option<PathBuf>,
    /// Train adapters of this rank only
    #[arg(long, value_name = "RANK", requires = "checkpoint")]
    lora: Option<usize>,
    /// How often each clip is heard
    #[arg(long, default_value_t = 20)]
    epochs: u64,
    /// The first epochs, in which the encoder alone learns to hear beats and pitches
    #[arg(long, default_value_t = 0, value_name = "EPOCHS")]
    hearing_epochs: u64,
    /// Clips in a step
    #[arg(long, default_value_t = 16)]
    batch: usize,
    /// The highest learning rate
    #[arg(long, default_value_t = 1e-3)]
    learning_rate: f64,
    /// What is drawn at random is drawn from this
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

impl Train {
    pub(super) async fn run(self, common: &Common) -> anyhow::Result<Exit> {
        let config = Config::load(common.config.as_deref())?;
        let mut options = self.options(&config)?;
        if self.from_outcomes {
            options.manifest = self.distil(common, &options.schema).await?;
        }
        let stop = Arc::new(AtomicBool::new(false));
        let mut signals = Signals::listen()?;
        let told = Arc::clone(&stop);
        let listening = tokio::spawn(async move {
            signals.next().await;
            told.store(true, Ordering::Relaxed);
        });
        let json = common.json;
        let work = move || work(&options, &stop, json);
        let ended = tokio::task::spawn_blocking(work).await?;
        listening.abort();
        ended
    }

    /// The manifest of the paid model's answers; one that a run has begun with stays.
    async fn distil(&self, common: &Common, schema: &MetadataSchema) -> anyhow::Result<PathBuf> {
        let folder = self.out.join("training");
        let path = folder.join("outcomes.jsonl");
        if path.exists() {
            return Ok(path);
        }
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let store = start::existing_store(common).await?;
        let Distilled { taken, without_consent, unusable } = distil(&store, schema, &path).await?;
        store.close().await;
        show::line(&format!(
            "Of the paid model's answers, {taken} are learned from; {without_consent} are of uploads without \
             training_consent, {unusable} have no audio any more or answer another schema."
        ))?;
        Ok(path)
    }

    fn options(&self, config: &Config) -> anyhow::Result<Options> {
        let start = match (&self.checkpoint, self.from_scratch.as_str()) {
            (Some(dir), _) => Start::Checkpoint { dir: dir.clone(), lora: self.lora },
            (None, "nano") => Start::nano(),
            (None, file) => {
                let text = std::fs::read(file).with_context(|| format!("cannot read {file}"))?;
                Start::Scratch { config: serde_json::from_slice(&text).with_context(|| file.to_owned())? }
            }
        };
        Ok(Options {
            manifest: self.manifest.clone().unwrap_or_default(),
            validation: self.validation.clone(),
            out: self.out.clone(),
            start,
            schema: Arc::new(MetadataSchema::load(&config.model.schema)?),
            question: config.model.prompt.as_str().into(),
            device: if has_cuda() { Device::Cuda } else { Device::Cpu },
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            epochs: self.epochs,
            hearing_epochs: self.hearing_epochs,
            batch: self.batch,
            learning_rate: self.learning_rate,
            seed: self.seed,
        })
    }
}

/// Trains, and shows how it goes.
fn work(options: &Options, stop: &AtomicBool, json: bool) -> anyhow::Result<Exit> {
    let bar = ProgressBar::new(1);
    let style = "{msg} {wide_bar} {pos}/{len}, {eta} left";
    bar.set_style(ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()));
    let mut smooth = None;
    let mut failed = Ok(());
    let mut watch = |event: Event| {
        match event {
            Event::Prepared(done, all) => {
                bar.set_message("hearing clips");
                bar.set_length(all as u64);
                bar.set_position(done as u64);
            }
            Event::Begun(step, steps) => {
                bar.set_length(steps);
                bar.set_position(step);
                bar.reset_eta();
            }
            Event::Stepped(point) => {
                let sum = smooth.map_or(point.sum(), |before: f64| 0.98 * before + 0.02 * point.sum());
                smooth = Some(sum);
                bar.set_message(format!("loss {sum:.3}"));
                bar.set_position(point.step + 1);
            }
            Event::Validated { epoch, heard, answered } => {
                let line = |what: &str| format!("epoch {epoch}, loss {:.3}, {what}", smooth.unwrap_or(f64::NAN));
                let shown = bar.suspend(|| {
                    print(&line("heard"), &heard, json)?;
                    if answered.is_empty() { Ok(()) } else { print(&line("answered"), &answered, json) }
                });
                if shown.is_err() {
                    failed = shown;
                }
            }
        }
        if stop.load(Ordering::Relaxed) { Go::Stop } else { Go::On }
    };
    let ended = train(options, &mut watch)?;
    bar.finish_and_clear();
    failed?;
    let out = options.out.display();
    match ended {
        Ended::Finished => show::line(&format!("Written: {out}"))?,
        Ended::Stopped => show::line(&format!("Stopped, with all in {out}: the same command goes on from here."))?,
    }
    Ok(Exit::Success)
}

/// A line of measures with their 95 % intervals.
fn print(of: &str, measures: &[Measure], as_json: bool) -> std::io::Result<()> {
    if as_json {
        let measure = |it: &Measure| {
            (
                it.name.clone(),
                json!({"value": it.value, "low": it.interval.0, "high": it.interval.1, "clips": it.clips}),
            )
        };
        let measures: serde_json::Map<_, _> = measures.iter().map(measure).collect();
        return show::json_lines(&[json!({"of": of, "measures": measures})]);
    }
    let measure = |it: &Measure| {
        let Measure { name, value, interval: (low, high), .. } = it;
        format!("{name} {value:.3} ({low:.3}–{high:.3})")
    };
    show::line(&format!("{of}: {}", measures.iter().map(measure).collect::<Vec<_>>().join(", ")))
}
