//! `tidemark model calibrate`: learns from labelled audio how often the model is right when it is so sure.
//!
//! The model hears the labelled audio again, with raw scores: an outcome in the store may carry calibrated ones, or
//! another model's.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use models::calibration::plot::{self, Panel};
use models::calibration::{Accepted, Calibration, Curve, Evidence, Method, Metrics, Scored, held_out};
use models::local::LocalModel;
use models::schema::MetadataSchema;
use records::{Annotation, Metadata};
use serde_json::{Value, json};
use tidemark::clock::now;
use tidemark::config::Config;

use super::{Common, Exit, labels, show};

/// With fewer labels a curve is an anecdote.
const FEW: usize = 100;

#[derive(clap::Args)]
#[command(after_help = "\
A label is a line of JSON, with all or some of the schema's fields, as in a manifest to train from:
  {\"audio\": \"clips/1.flac\", \"metadata\": {\"genre\": \"rock\", \"tempo_bpm\": 120}}     a path relative to FILE
  {\"upload_id\": \"018f…\", \"metadata\": {\"genre\": \"jazz\"}}                           an upload of --data
A tempo is right within 4 %, a list where half of both lists is common, anything else where it is equal.

Examples:
  tidemark model calibrate checkpoints/nano --labels labels.ndjson --plot reliability.svg")]
pub(super) struct Calibrate {
    /// The checkpoint; its calibration.json is replaced
    dir: PathBuf,
    /// Labels, a JSON object a line
    #[arg(long, value_name = "FILE")]
    labels: PathBuf,
    /// The kind of curve; auto takes isotonic from 1000 labels on, below it temperature or platt
    #[arg(long, value_enum, default_value = "auto")]
    method: MethodChoice,
    /// Where to draw how often answers are right, by how sure the model is
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum MethodChoice {
    Auto,
    Temperature,
    Platt,
    Isotonic,
}

/// What was learned of one field, or of whole answers.
struct Row {
    name: String,
    raw: Vec<Scored>,
    /// With the scores of curves that were fitted without the answer; empty where there is no curve, or too few labels.
    held_out: Vec<Scored>,
    /// The kind of curve, or why there is none.
    curve: Result<&'static str, String>,
}

impl Calibrate {
    pub(super) async fn run(self, common: &Common) -> anyhow::Result<Exit> {
        let mut config = Config::load(common.config.as_deref())?;
        config.model.checkpoint = Some(self.dir.clone());
        let mut evidence = Evidence::new(Arc::new(MetadataSchema::load(&config.model.schema)?));
        let labels = labels::read(&self.labels, &evidence, &config, &common.data).await?;
        let options = config.local_model(Arc::clone(evidence.schema()))?;
        let model = tokio::task::spawn_blocking(move || LocalModel::start_raw(options, Arc::new(now))).await??;
        let judge = |answer: Option<&Annotation>, label: Metadata| {
            answer.into_iter().for_each(|answer| evidence.add(answer, &label));
        };
        let failed = labels::listen(&model, &config, labels, judge).await;
        let method = match self.method {
            MethodChoice::Auto => Method::Auto,
            MethodChoice::Temperature => Method::Temperature,
            MethodChoice::Platt => Method::Platt,
            MethodChoice::Isotonic => Method::Isotonic,
        };
        let calibration = Calibration::fit(&self.dir, &evidence, method)?;
        calibration.save(&self.dir)?;
        let rows = rows(&calibration, &evidence, method);
        if let Some(path) = &self.plot {
            std::fs::write(path, picture(&rows)).with_context(|| format!("cannot write {}", path.display()))?;
        }
        print(&rows, config.model.threshold, common.json)?;
        if !common.json {
            self.remark(evidence.overall().len(), failed)?;
        }
        Ok(Exit::Success)
    }

    fn remark(&self, whole: usize, failed: usize) -> io::Result<()> {
        show::line(
            "Left of an arrow: raw scores. Right of it: calibrated by curves that were fitted without the answer.",
        )?;
        if failed > 0 {
            show::line(&format!("{failed} of the labelled could not be described; the log says why."))?;
        }
        if whole < FEW {
            show::line(&format!("{whole} labels are few: a few hundred make a curve that can be relied on."))?;
        }
        show::line(&format!("Written: {}", self.dir.join(Calibration::FILE).display()))
    }
}

fn rows(calibration: &Calibration, evidence: &Evidence, method: Method) -> Vec<Row> {
    let row = |name: &str, raw: &[Scored], curve: Option<&Curve>| Row {
        name: name.to_owned(),
        raw: raw.to_vec(),
        held_out: curve.and_then(|curve| held_out(curve.method(), raw)).unwrap_or_default(),
        curve: match curve {
            Some(curve) => Ok(curve.name()),
            None => Err(Curve::fit(method, raw).err().map_or_else(String::new, |error| error.to_string())),
        },
    };
    let overall = row("overall", evidence.overall(), Some(&calibration.overall().curve));
    let fields =
        evidence.fields().map(|(name, raw)| row(name, raw, calibration.field(name).map(|fitted| &fitted.curve)));
    std::iter::once(overall).chain(fields).collect()
}

fn picture(rows: &[Row]) -> String {
    let panel = |row: &Row| Panel { name: row.name.clone(), before: row.raw.clone(), after: row.held_out.clone() };
    plot::sheet("How often answers are right, by how sure the model is", &rows.iter().map(panel).collect::<Vec<_>>())
}

fn print(rows: &[Row], threshold: f64, json: bool) -> anyhow::Result<()> {
    if json {
        let measured = |scored: &[Scored]| match Metrics::of(scored) {
            None => Value::Null,
            Some(Metrics { accuracy, ece, brier, nll, auroc: _ }) => {
                let Accepted { share, accuracy: accepted_accuracy } = Accepted::at(threshold, scored);
                json!({
                    "accuracy": accuracy, "ece": ece, "brier": brier, "nll": nll,
                    "accepted_share": share, "accepted_accuracy": accepted_accuracy,
                })
            }
        };
        let object = |row: &Row| {
            json!({
                "of": row.name, "labels": row.raw.len(), "curve": row.curve.as_ref().ok(),
                "reason": row.curve.as_ref().err(), "auroc": auroc(row),
                "raw": measured(&row.raw), "held_out": measured(&row.held_out),
            })
        };
        return Ok(show::json_lines(&rows.iter().map(object).collect::<Vec<_>>())?);
    }
    let row = |row: &Row| {
        let cell = |number: fn(&[Scored], f64) -> Option<f64>| {
            let text = |scored| three(number(scored, threshold));
            if row.held_out.is_empty() {
                text(&row.raw)
            } else {
                format!("{} → {}", text(&row.raw), text(&row.held_out))
            }
        };
        vec![
            row.name.clone(),
            row.raw.len().to_string(),
            row.curve.clone().map_or_else(|reason| format!("none: {reason}"), str::to_owned),
            three(Metrics::of(&row.raw).map(|metrics| metrics.accuracy)),
            three(auroc(row)),
            cell(|scored, _| Some(Metrics::of(scored)?.ece)),
            cell(|scored, _| Some(Metrics::of(scored)?.brier)),
            cell(|scored, threshold| (!scored.is_empty()).then(|| Accepted::at(threshold, scored).share)),
            cell(|scored, threshold| Accepted::at(threshold, scored).accuracy),
        ]
    };
    let (accepted, right) = (format!("at {threshold:.2} accepted"), "of these right");
    let header = ["", "labels", "curve", "right", "AUROC", "ECE", "Brier", &accepted, right];
    show::table(&header, rows.iter().map(row))?;
    Ok(())
}

/// How well the scores sort: no rising curve changes it, but for what it makes equal.
fn auroc(row: &Row) -> Option<f64> {
    Metrics::of(&row.raw)?.auroc
}

pub(super) fn three(number: Option<f64>) -> String {
    number.map_or("–".to_owned(), |number| format!("{number:.3}"))
}
