//! `tidemark experiment`: starts and stops experiments, and says what came of them.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use connectors::store::{Started, Store, StoredExperiment};
use operators::Unit;
use operators::compare::{ArmSums, Design, MISMATCH_ALPHA};
use records::PairState;
use serde_json::json;
use tidemark::clock::now;
use tidemark::config::Config;
use tidemark::experiments::{Comparison, Definition, Report, Row, ShadowReport, keep_report, plot, report};

use super::replay::tables;
use super::{Common, Exit, show, start};

/// The newest outcomes, out of which the length of an experiment is estimated.
const HISTORY: usize = 20_000;

/// With fewer there is nothing to estimate from.
const FEWEST: u64 = 100;

#[derive(clap::Subcommand)]
pub(super) enum Experiment {
    /// Say how long an experiment would take, without starting it
    #[command(after_help = "Examples:\n  tidemark experiment plan prompt-2.toml")]
    Plan {
        /// The definition
        #[arg(value_name = "FILE.toml")]
        file: PathBuf,
    },
    /// Draw uploads into an experiment, on all workers, from the next second on
    #[command(after_help = "\
A definition:
  name = \"prompt-2\"
  unit = \"customer\"              # what is drawn as one: all of a customer's uploads, or each \"upload\"
  metric = \"success_rate\"        # what decides: success_rate, error_rate, fallback_rate, confidence, inference_ms,
                                 # total_ms or cost
  smallest_difference = 0.03     # of interest, in the metric's unit: 3 points of a rate
  [[arms]]                       # the first one is the control
  name = \"control\"
  weight = 90
  [[arms]]
  name = \"short\"
  weight = 10
  prompt = \"Describe this audio as short JSON.\"
  [[guardrails]]                 # an arm that is worse than the control by more than this is stopped
  metric = \"error_rate\"
  limit = 0.02
  [[shadows]]                    # describes the control's uploads once more after they ended, for the report alone
  name = \"seven-b\"
  share = 0.1                    # of them; all where it is not set
  model = \"seven-b\"            # or prompt, or threshold: as in an arm
Also: salt, starts_at and ends_at (\"2026-09-21T00:00:00Z\"), expected_uploads, an arm's threshold and model (one of [models]).

Examples:
  tidemark experiment start prompt-2.toml")]
    Start {
        /// The definition
        #[arg(value_name = "FILE.toml")]
        file: PathBuf,
    },
    /// Draw nothing further into an experiment; what is in work keeps its arm
    #[command(after_help = "Examples:\n  tidemark experiment stop prompt-2")]
    Stop {
        /// The experiment
        name: String,
    },
    /// List experiments and the arms that were stopped, the last one first
    #[command(after_help = "Examples:\n  tidemark experiment list --json")]
    List,
    /// Compare the arms of an experiment, while it runs or afterwards
    #[command(after_help = "Examples:\n  tidemark experiment report prompt-2 --svg prompt-2.svg")]
    Report {
        /// The experiment
        name: String,
        /// Where to draw how the differences went
        #[arg(long, value_name = "FILE.svg")]
        svg: Option<PathBuf>,
    },
}

impl Experiment {
    pub(super) async fn run(self, common: &Common) -> anyhow::Result<Exit> {
        let store = match &self {
            Self::Start { .. } => start::store(&Config::load(common.config.as_deref())?, &common.data).await?,
            _ => start::existing_store(common).await?,
        };
        match self {
            Self::Plan { file } => plan(&store, &Definition::load(&file)?, common.json).await?,
            Self::Start { file } => {
                let (definition, config) = (Definition::load(&file)?, Config::load(common.config.as_deref())?);
                // Workers whose configuration lacks an arm's model would not take it up.
                definition.models_are_in(&config).map_err(anyhow::Error::msg)?;
                begin(&store, &definition, common.json).await?;
            }
            Self::Stop { name } => {
                if !store.stop_experiment(&name, now()).await? {
                    bail!("no experiment {name} is under way: `tidemark experiment list` shows them");
                }
                // How it looks at its end; workers keep another one when everything in it has ended.
                keep_report(&store, &find(&store, &name).await?, now()).await?;
                let said = format!("{name} is stopped: workers draw nothing further into it from the next second on");
                show::say(&json!({ "stopped": name }), &said, common.json)?;
            }
            Self::List => list(&store.experiments().await?, common.json)?,
            Self::Report { name, svg } => {
                let stored = find(&store, &name).await?;
                print(&report(&store, &stored, now()).await?, svg.as_deref(), common.json)?;
            }
        }
        store.close().await;
        Ok(Exit::Success)
    }
}

async fn find(store: &Store, name: &str) -> anyhow::Result<StoredExperiment> {
    let found = store.experiments().await?.into_iter().find(|stored| stored.name == name);
    found.with_context(|| format!("no experiment {name}: `tidemark experiment list` shows them"))
}

async fn begin(store: &Store, definition: &Definition, json: bool) -> anyhow::Result<()> {
    let name = &definition.name;
    let stored = definition.to_store(now()).map_err(anyhow::Error::msg)?;
    match store.start_experiment(&stored, now()).await? {
        Started::Started => {}
        Started::NameTaken => {
            bail!("there was an experiment {name} before, and its outcomes carry that name: give this one another")
        }
        Started::Running(other) => bail!("{other} is under way, and an upload counts in one experiment: stop it first"),
    }
    let said = format!("{name} is started: workers draw uploads into it from {} on", stored.starts_at);
    show::say(&json!({ "started": name, "starts_at": stored.starts_at }), &said, json)?;
    if json { Ok(()) } else { plan(store, definition, false).await }
}

/// Estimates how long the experiment takes from what the newest outcomes were like.
async fn plan(store: &Store, definition: &Definition, json: bool) -> anyhow::Result<()> {
    let history = store.newest_outcomes(HISTORY).await?;
    let mut sums = ArmSums::default();
    for outcome in &history {
        let unit = outcome.customer_id.as_deref().filter(|_| definition.unit() == Unit::Customer);
        sums.add(unit, outcome);
    }
    let past = sums.of(definition.metric);
    if past.uploads() < FEWEST || past.spread() == 0.0 {
        let said = format!(
            "how long it takes cannot be told: of the newest outcomes {} have a {}, and it takes {FEWEST} that are not all alike",
            past.uploads(),
            definition.metric
        );
        return Ok(show::say(&json!({ "history": past.uploads() }), &said, json)?);
    }
    let (control, arms) = (&definition.arms[0], &definition.arms[1..]);
    if arms.is_empty() {
        let said = "how long it takes is not estimated: uploads are drawn into no other arm than the control";
        return Ok(show::say(&json!({ "history": past.uploads() }), said, json)?);
    }
    // The smallest arm takes longest.
    let smallest = arms.iter().map(|arm| arm.weight).min().unwrap_or_default();
    let design = Design::new(definition.sequence(), past.spread(), [control.weight, smallest]);
    let of_both = design.uploads(definition.smallest_difference);
    let total: u64 = definition.arms.iter().map(|arm| u64::from(arm.weight)).sum();
    let uploads = (of_both as f64 * total as f64 / f64::from(control.weight + smallest)).ceil();
    let ends = history.iter().map(|outcome| outcome.completed_at);
    let (first, last) = (ends.clone().min().unwrap_or_default(), ends.max().unwrap_or_default());
    let per_day = history.len() as f64 * 86_400_000.0 / last.ms_since(first).max(1) as f64;
    let (metric, days) = (definition.metric, uploads / per_day);
    let said = format!(
        "a difference of {} in {metric} is found in 80 of 100 experiments within {uploads:.0} uploads, {} at the {per_day:.0} \
         a day of late ({} at present; expected_uploads = {of_both} would suit it)",
        metric.show_size(definition.smallest_difference),
        operators::compare::span(days),
        past.mean().map_or_else(String::new, |mean| metric.show(mean)),
    );
    let object = json!({
        "history": past.uploads(), "mean": past.mean(),
        "uploads_of_both_arms": of_both, "uploads": uploads, "uploads_per_day": per_day, "days": days,
    });
    Ok(show::say(&object, &said, json)?)
}

fn list(experiments: &[StoredExperiment], json: bool) -> anyhow::Result<()> {
    let now = now();
    let state = |it: &StoredExperiment| match () {
        () if it.stopped_at.is_some() => "stopped",
        () if it.is_over(now) => "ended",
        () if it.runs(now) => "runs",
        () => "is to start",
    };
    let mut rows = Vec::new();
    for it in experiments {
        let definition = Definition::of(it)?;
        // What an arm gets now: nothing once it was stopped.
        let weight = |name: &str, weight: u32| if it.stops.iter().any(|stop| stop.arm == name) { 0 } else { weight };
        let arms: Vec<_> = definition.arms.iter().map(|arm| (&arm.name, weight(&arm.name, arm.weight))).collect();
        let end = it.stopped_at.or(it.ends_at);
        if json {
            let arms: Vec<_> = arms.iter().map(|(name, weight)| json!({ "name": name, "weight": weight })).collect();
            let stop = |stop: &connectors::store::ArmStop| json!({ "arm": stop.arm, "at": stop.stopped_at, "reason": stop.reason });
            show::line(
                &json!({
                    "name": it.name, "state": state(it), "starts_at": it.starts_at, "ends_at": end, "arms": arms,
                    "stops": it.stops.iter().map(stop).collect::<Vec<_>>(), "definition": definition,
                })
                .to_string(),
            )?;
            continue;
        }
        let arms: Vec<_> = arms.iter().map(|(name, weight)| format!("{name} {weight}")).collect();
        let stops: Vec<_> =
            it.stops.iter().map(|stop| format!("{} at {}: {}", stop.arm, stop.stopped_at, stop.reason)).collect();
        let end = end.map_or(String::new(), |end| end.to_string());
        let start = it.starts_at.to_string();
        rows.push(vec![it.name.clone(), state(it).into(), start, end, arms.join(", "), stops.join("; ")]);
    }
    if !json {
        show::table(&["name", "state", "starts_at", "ends_at", "arms by weight", "stopped arms"], rows)?;
    }
    Ok(())
}

fn print(report: &Report, svg: Option<&Path>, json: bool) -> anyhow::Result<()> {
    if let Some(path) = svg {
        std::fs::write(path, plot::picture(report)).with_context(|| format!("cannot write {}", path.display()))?;
    }
    if json {
        return Ok(show::json_lines(&report.to_json())?);
    }
    let name = &report.definition.name;
    show::line(&format!("{name}, of uploads that arrived before {}", report.complete_until))?;
    let level = 100.0 * (1.0 - report.definition.sequence().alpha());
    let level = format!("{level:.1}").trim_end_matches(".0").to_owned();
    for comparison in &report.comparisons {
        let count = |place: usize, arm: &str| {
            format!("{arm}: {} uploads of {} units", comparison.uploads[place], comparison.units[place])
        };
        let header = [
            "metric",
            &count(0, report.control()),
            &count(1, &comparison.arm),
            "difference",
            &format!("{level} % interval, at all times"),
        ];
        show::table(&header, comparison.rows.iter().map(cells))?;
        remarks(comparison)?;
    }
    for ShadowReport { name, difference } in &report.shadows {
        let count = |state| difference.uploads(state);
        show::line(&format!(
            "shadow {name}: {} uploads compared; {} not asked about yet, {} whose audio is gone",
            count(PairState::Compared),
            count(PairState::Open),
            count(PairState::AudioGone)
        ))?;
        tables(difference, [report.control(), name], &level)?;
    }
    Ok(())
}

fn cells(row: &Row) -> Vec<String> {
    let metric = row.metric;
    let mean = |mean: Option<f64>| mean.map_or_else(|| "–".to_owned(), |mean| metric.show(mean));
    let signed = |value: f64| format!("{}{}", if value > 0.0 { "+" } else { "" }, metric.number(value));
    let (difference, interval) = match &row.difference {
        Ok(it) => (
            format!("{} {}", signed(it.difference), metric.counts()).trim_end().to_owned(),
            format!("{} to {}", signed(it.low), signed(it.high)),
        ),
        Err(too_early) => (String::new(), too_early.to_string()),
    };
    vec![metric.to_string(), mean(row.means[0]), mean(row.means[1]), difference, interval]
}

/// The split, the guardrails and the verdict, a line each.
fn remarks(comparison: &Comparison) -> std::io::Result<()> {
    let split =
        if comparison.mismatch < MISMATCH_ALPHA { "not what was asked" } else { "as asked, for all that can be told" };
    show::line(&format!("split: {split} (p = {:.2})", comparison.mismatch))?;
    for (guardrail, breach) in &comparison.guardrails {
        let (metric, limit) = (guardrail.metric, guardrail.metric.show_size(guardrail.limit));
        let state = if breach.is_some() { "broken" } else { "holds" };
        show::line(&format!("guardrail: worse in {metric} by at most {limit}: {state}"))?;
    }
    if let Some(stop) = &comparison.stop {
        show::line(&format!("stopped: {} at {}, {}", stop.arm, stop.stopped_at, stop.reason))?;
    }
    show::line(&format!("verdict: {}", comparison.says))
}
