//! `tidemark model measure`: how often a checkpoint is right about labelled audio, and whether it knows when.

use std::path::PathBuf;
use std::sync::Arc;

use models::calibration::{Accepted, Evidence, Metrics, Scored};
use models::local::LocalModel;
use models::measure::{Answered, Measure, measures};
use models::schema::MetadataSchema;
use records::{Annotation, Metadata};
use serde_json::{Value, json};
use tidemark::clock::now;
use tidemark::config::Config;

use super::calibrate::three;
use super::{Common, Exit, labels, show};

#[derive(clap::Args)]
#[command(after_help = "\
A label is a line of JSON, as in a manifest to train from:
  {\"audio\": \"clips/1.flac\", \"metadata\": {\"genre\": \"rock\", \"tempo_bpm\": 120}}     a path relative to FILE
The checkpoint answers as it is served. What could not be described counts as wrong.

Examples:
  tidemark model measure models/nano --labels data/dataset/test-font.jsonl")]
pub(super) struct MeasureModel {
    /// The checkpoint
    dir: PathBuf,
    /// Labels, a JSON object a line, that the checkpoint never learned from
    #[arg(long, value_name = "FILE")]
    labels: PathBuf,
}

impl MeasureModel {
    pub(super) async fn run(self, common: &Common) -> anyhow::Result<Exit> {
        let mut config = Config::load(common.config.as_deref())?;
        config.model.checkpoint = Some(self.dir);
        let schema = Arc::new(MetadataSchema::load(&config.model.schema)?);
        let mut evidence = Evidence::new(Arc::clone(&schema));
        let labels = labels::read(&self.labels, &evidence, &config, &common.data).await?;
        let options = config.local_model(Arc::clone(&schema))?;
        let model = tokio::task::spawn_blocking(move || LocalModel::start(options, Arc::new(now))).await??;
        let mut answered: Vec<Answered> = Vec::new();
        let judge = |answer: Option<&Annotation>, label: Metadata| {
            answer.into_iter().for_each(|answer| evidence.add(answer, &label));
            answered.push((answer.map(|answer| answer.metadata.clone()).unwrap_or_default(), label));
        };
        labels::listen(&model, &config, labels, judge).await;
        print(&measures(&schema, &answered), &evidence, config.model.threshold, common.json)?;
        Ok(Exit::Success)
    }
}

fn print(measures: &[Measure], evidence: &Evidence, threshold: f64, as_json: bool) -> std::io::Result<()> {
    let scored: Vec<(&str, &[Scored])> =
        evidence.fields().chain(std::iter::once(("overall", evidence.overall()))).collect();
    if as_json {
        let measure = |it: &Measure| {
            let (low, high) = it.interval;
            json!({"measure": it.name, "value": it.value, "low": low, "high": high, "clips": it.clips})
        };
        let confidence = |(of, scored): &(&str, &[Scored])| {
            let Accepted { share, accuracy } = Accepted::at(threshold, scored);
            let ece = Metrics::of(scored).map(|metrics| metrics.ece);
            json!({"of": of, "labels": scored.len(), "ece": ece, "accepted_share": share, "accepted_accuracy": accuracy})
        };
        let lines: Vec<Value> = measures.iter().map(measure).chain(scored.iter().map(confidence)).collect();
        return show::json_lines(&lines);
    }
    let row = |it: &Measure| {
        let (low, high) = it.interval;
        vec![it.name.clone(), it.clips.to_string(), format!("{:.3}", it.value), format!("{low:.3} to {high:.3}")]
    };
    show::table(&["", "clips", "right", "95 %"], measures.iter().map(row))?;
    show::line("")?;
    let row = |(of, scored): &(&str, &[Scored])| {
        let accepted = Accepted::at(threshold, scored);
        let metrics = Metrics::of(scored);
        vec![
            (*of).to_owned(),
            three(metrics.as_ref().map(|metrics| metrics.accuracy)),
            three(metrics.map(|metrics| metrics.ece)),
            three(Some(accepted.share)),
            three(accepted.accuracy),
        ]
    };
    let accepted = format!("at {threshold:.2} accepted");
    show::table(&["confidence", "right", "ECE", &accepted, "of these right"], scored.iter().map(row))
}
