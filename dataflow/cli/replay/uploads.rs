//! `tidemark replay uploads`: uploads of the past once more, on a store of their own.

use std::path::PathBuf;

use anyhow::{Context, bail};
use connectors::paced::Rate;
use connectors::parquet::ParquetExport;
use connectors::store::Store;
use records::{Lane, Operation, Tier, UtcMicros};
use sha2::{Digest, Sha256};
use tidemark::clock::now;
use tidemark::config::Config;
use tidemark::drain::Drained;
use tidemark::replay::{Definition, Past, Run, Wanted, choose, feed, left, write_pairs};
use tokio::runtime::Handle;
use tokio::task::spawn_blocking;
use uuid::Uuid;

use super::show;
use super::work::work;
use crate::cli::start::Models;
use crate::cli::{Common, Exit, start};

#[derive(clap::Args)]
#[command(after_help = "\
Everything of a run is in replays/RUN below --data: its own store, Parquet files of its outcomes, and pairs.parquet with what
came of each upload then and in the replay. The outcomes of the past are only read; no cache is asked, nothing is published.
The paid model is not asked, so that a replay costs nothing, unless --fallback says so.

Ctrl-C or SIGTERM: nothing further is begun, what is in work is finished. Whatever ended it, `tidemark replay uploads --run RUN`
goes on from there. Audio that is gone is counted and left out.

Examples:
  tidemark replay uploads --run unsure --threshold 0.6 --from 2026-09-01
  tidemark replay uploads --run seven-b --model /models/Qwen2-Audio-7B-Instruct --rate 5/s
  tidemark replay uploads --run short --prompt @short.txt --outcomes data/outcomes")]
pub(in crate::cli) struct Uploads {
    /// The run: begins it, or goes on with it; a name is made up where none is given
    #[arg(long, value_name = "NAME")]
    run: Option<String>,
    /// Outcomes of the past in files, folders, or below gs://BUCKET/PREFIX or s3://BUCKET/PREFIX; else those of the store
    #[arg(long, value_name = "FILE|DIR|URL")]
    outcomes: Vec<PathBuf>,
    /// Only uploads that arrived from here on: 2026-09-21, or 2026-09-21T14:00:00Z
    #[arg(long, value_name = "TIME", value_parser = moment)]
    from: Option<UtcMicros>,
    /// Only uploads that arrived before
    #[arg(long, value_name = "TIME", value_parser = moment)]
    to: Option<UtcMicros>,
    /// Only this customer's
    #[arg(long, value_name = "ID")]
    customer: Option<String>,
    /// Only this tier's: enterprise, pro or free
    #[arg(long)]
    tier: Option<Tier>,
    /// Only what ran in this lane: high or low
    #[arg(long)]
    lane: Option<Lane>,
    /// A checkpoint in place of model.checkpoint
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// In place of model.prompt; @FILE takes it from a file
    #[arg(long, value_name = "TEXT|@FILE")]
    prompt: Option<String>,
    /// In place of model.threshold
    #[arg(long, value_name = "0..1", value_parser = threshold)]
    threshold: Option<f64>,
    /// Ask the paid model in doubt, which costs money
    #[arg(long)]
    fallback: bool,
    /// The most uploads begun a second, as in 5/s
    #[arg(long, value_name = "N/s")]
    rate: Option<Rate>,
}

/// A day stands for its beginning.
fn moment(text: &str) -> Result<UtcMicros, String> {
    let whole = if text.len() == 10 { format!("{text}T00:00:00Z") } else { text.to_owned() };
    serde_json::from_value(whole.into()).map_err(|_| "is no time like 2026-09-21 or 2026-09-21T14:00:00Z".to_owned())
}

fn threshold(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number| (0.0..=1.0).contains(number));
    number.ok_or_else(|| "is no confidence from 0 to 1".to_owned())
}

impl Uploads {
    pub(in crate::cli) async fn run(self, common: &Common) -> anyhow::Result<Exit> {
        let (wanted, config) = (self.wanted()?, Config::load(common.config.as_deref())?);
        let run = Run::new(&common.data, &self.run.unwrap_or_else(|| Uuid::now_v7().to_string()))?;
        let begun = run.definition()?;
        if begun.as_ref().is_some_and(|begun| wanted != Wanted::default() && wanted != begun.wanted) {
            bail!(
                "run {} goes on as it was begun: name nothing but --run and --rate, or begin another run",
                run.name()
            );
        }
        // Whoever names the wrong folder should hear of it before there is a run.
        let past = match run.uploads()? {
            Some(_) => None,
            None => {
                let wanted = begun.as_ref().map_or(&wanted, |begun| &begun.wanted);
                Some(past(wanted, &run, &config, common).await?)
            }
        };
        let store = run.store().await?;
        let _claim = store.claim().await?;
        if let (Some(definition), None) = (&begun, &past)
            && filled(&run, &store).await? == 0
        {
            eprintln!("run {} is finished", run.name());
            conclude(&run, definition, &store, common.json).await?;
            store.close().await;
            return Ok(Exit::Success);
        }

        let (definition, models) = begin((&run, &store), begun, wanted, &config).await?;
        let config = definition.configure(config);
        if let Some(past) = past {
            let (of, file, runtime) = (definition.wanted.clone(), run.original(), Handle::current());
            let from = past.clone();
            spawn_blocking(move || choose(&from, &of, &file, &runtime)).await??;
            past.close().await;
        }
        let open = filled(&run, &store).await?;
        eprintln!("{}", show::describe(&run, &definition));
        eprintln!("{open} of {} uploads to replay", run.uploads()?.unwrap_or_default());
        let drained = work(&run, &store, &config, &models, self.rate).await?;
        match left(&store, now()).await? {
            0 => conclude(&run, &definition, &store, common.json).await?,
            open => {
                ParquetExport::new(store.clone(), run.folder()).export(now()).await?;
                eprintln!("stopped with {open} left: go on with `tidemark replay uploads --run {}`", run.name());
            }
        }
        // A worker that goes on for nobody still holds the store.
        if drained == Drained::Finished {
            store.close().await;
        }
        Ok(Exit::Success)
    }

    fn wanted(&self) -> anyhow::Result<Wanted> {
        let prompt = match self.prompt.as_deref().map(|prompt| (prompt, prompt.strip_prefix('@'))) {
            Some((_, Some(file))) => {
                let text =
                    std::fs::read_to_string(file).with_context(|| format!("cannot read the prompt in {file}"))?;
                Some(text.trim_end().to_owned())
            }
            Some((text, None)) => Some(text.to_owned()),
            None => None,
        };
        Ok(Wanted {
            outcomes: self.outcomes.iter().map(anywhere).collect::<Result<_, _>>()?,
            from: self.from,
            to: self.to,
            customer: self.customer.clone(),
            tier: self.tier,
            lane: self.lane,
            model: self.model.as_ref().map(std::path::absolute).transpose()?,
            prompt,
            threshold: self.threshold,
            fallback: self.fallback,
        })
    }
}

/// Where the outcomes of the past are.
async fn past(wanted: &Wanted, run: &Run, config: &Config, common: &Common) -> anyhow::Result<Past> {
    if wanted.outcomes.is_empty() {
        return Ok(Past::Store(start::existing_store(common).await?));
    }
    Ok(Past::files(&wanted.outcomes, start::objects(config, run.folder())).await?)
}

/// A path from wherever the run goes on; an address of a bucket as it is.
fn anywhere(path: &PathBuf) -> std::io::Result<PathBuf> {
    if path.to_string_lossy().contains("://") { Ok(path.clone()) } else { std::path::absolute(path) }
}

/// Loads the models, and writes down what the run does, or sees to it that they are what it was begun with.
async fn begin(
    (run, store): (&Run, &Store),
    begun: Option<Definition>,
    wanted: Wanted,
    config: &Config,
) -> anyhow::Result<(Definition, Models)> {
    let asked = || Definition {
        begun_at: now(),
        checkpoint: wanted.model.clone().or(config.model.checkpoint.clone()),
        prompt: wanted.prompt.clone().unwrap_or_else(|| config.model.prompt.clone()),
        threshold: wanted.threshold.unwrap_or(config.model.threshold),
        wanted: wanted.clone(),
        models: String::new(),
    };
    let definition = begun.clone().unwrap_or_else(asked);
    let key = if definition.wanted.fallback { start::openai_key() } else { None };
    if definition.wanted.fallback && key.is_none() {
        bail!("--fallback asks the paid model, and there is no OPENAI_API_KEY in the environment");
    }
    let models = start::models_with(&definition.configure(config.clone()), key).await?;
    let hash: String = Sha256::digest(&models.usual.identity).iter().map(|byte| format!("{byte:02x}")).collect();
    match begun {
        Some(begun) if begun.models != hash => bail!(
            "the checkpoint's weights or calibration, the schema or the fallback are not those that run {} was begun with: \
             set them back, or begin another run",
            run.name()
        ),
        Some(begun) => Ok((begun, models)),
        None => {
            let definition = Definition { models: hash, ..definition };
            let detail = serde_json::to_value(&definition)?;
            store.note_operation(Operation::Replay, run.name(), &detail, definition.begun_at).await?;
            run.begin(&definition)?;
            Ok((definition, models))
        }
    }
}

/// Puts all uploads of the run in its queue; how many of them are open.
async fn filled(run: &Run, store: &Store) -> anyhow::Result<u64> {
    let (to, file, runtime) = (store.clone(), run.original(), Handle::current());
    spawn_blocking(move || feed(&to, &file, now, &runtime, &mut || Ok(()))).await??;
    Ok(left(store, now()).await?)
}

/// Writes what a finished run leaves behind, and shows what it came to.
async fn conclude(run: &Run, definition: &Definition, store: &Store, json: bool) -> anyhow::Result<()> {
    ParquetExport::new(store.clone(), run.folder()).export(now()).await?;
    let (of, with, runtime) = (run.clone(), store.clone(), Handle::current());
    spawn_blocking(move || write_pairs(&of, &with, &runtime, &of.pairs())).await??;
    show::print(run, definition, store, json).await?;
    eprintln!("upload by upload: {}", run.pairs().display());
    Ok(())
}
