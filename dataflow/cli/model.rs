//! `tidemark model`: looks at checkpoints and proves that they are run as they were made.

use std::path::{Path, PathBuf};

use models::qwen2_audio::Description;
use models::verify::{Report, verify};
use serde_json::json;

use super::calibrate::Calibrate;
use super::measure::MeasureModel;
use super::{Common, Exit, show};

#[derive(clap::Subcommand)]
pub(super) enum Model {
    /// Show a checkpoint's dimensions, parameters and files, without loading it
    #[command(after_help = "Examples:\n  tidemark model inspect /models/Qwen2-Audio-7B-Instruct")]
    Inspect {
        /// The checkpoint
        dir: PathBuf,
    },
    /// Compare every quantity, from log-mel to tokens, with the golden values beside a checkpoint; exits with 1 if one differs
    #[command(after_help = "Examples:\n  tidemark model verify checkpoints/mine --audio clips/")]
    Verify {
        /// The checkpoint with expected.json, expected.safetensors and expected_tokens.json
        dir: PathBuf,
        /// The golden values' clips, in place of DIR/audio
        #[arg(long, value_name = "DIR")]
        audio: Option<PathBuf>,
    },
    /// Make probabilities of a checkpoint's confidence, from labelled audio
    Calibrate(Calibrate),
    /// Tell how often a checkpoint is right about labelled audio, and whether it knows when
    Measure(MeasureModel),
}

impl Model {
    pub(super) async fn run(self, common: &Common) -> anyhow::Result<Exit> {
        match self {
            Self::Inspect { dir } => inspect(&dir, common.json),
            Self::Verify { dir, audio } => {
                let report = verify(&dir, audio.as_deref())?;
                print(&report, common.json)?;
                Ok(if report.passed() { Exit::Success } else { Exit::Failure })
            }
            Self::Calibrate(command) => command.run(common).await,
            Self::Measure(command) => command.run(common).await,
        }
    }
}

fn inspect(dir: &Path, json: bool) -> anyhow::Result<Exit> {
    let found = Description::read(dir)?;
    let bytes: u64 = found.files.iter().map(|(_, bytes)| bytes).sum();
    if json {
        show::pretty(&json!({
            "config": found.config,
            "parameters": {
                "audio_tower": found.audio_tower_parameters,
                "projector": found.projector_parameters,
                "language_model": found.language_model_parameters,
            },
            "dtypes": found.dtypes,
            "files": found.files.len(),
            "bytes": bytes,
        }))?;
        return Ok(Exit::Success);
    }
    let (audio, text) = (&found.config.audio_config, &found.config.text_config);
    let rows = [
        ("parameters", found.parameters().to_string()),
        (
            "  encoder",
            format!("{}: {} layers of {}", found.audio_tower_parameters, audio.encoder_layers, audio.d_model),
        ),
        ("  projector", found.projector_parameters.to_string()),
        (
            "  language model",
            format!("{}: {} layers of {}", found.language_model_parameters, text.num_hidden_layers, text.hidden_size),
        ),
        ("vocabulary", text.vocab_size.to_string()),
        ("mel bands", audio.num_mel_bins.to_string()),
        (
            "heads",
            format!("{} of queries, {} of keys and values", text.num_attention_heads, text.num_key_value_heads()),
        ),
        ("files", format!("{} of {} in {bytes} bytes", found.files.len(), found.dtypes.join(", "))),
    ];
    show::table(&["", &dir.display().to_string()], rows.map(|(name, value)| vec![name.to_owned(), value]))?;
    Ok(Exit::Success)
}

fn print(report: &Report, json: bool) -> anyhow::Result<()> {
    if json {
        let rows: Vec<_> = report
            .comparisons
            .iter()
            .map(|row| {
                json!({
                    "quantity": row.quantity,
                    "largest_difference": row.largest_difference,
                    "limit": row.limit,
                    "ok": row.ok(),
                })
            })
            .collect();
        return Ok(show::json_lines(&rows)?);
    }
    let row = |row: &models::verify::Comparison| {
        let verdict = if row.ok() { "ok" } else { "FAILED" };
        vec![
            row.quantity.clone(),
            format!("{:.2e}", row.largest_difference),
            format!("{:.1e}", row.limit),
            verdict.into(),
        ]
    };
    show::table(&["quantity", "largest difference", "limit", "ok"], report.comparisons.iter().map(row))?;
    if let Some(kind) = report.rounded_rotary {
        show::line(&format!("The golden values hold with rotary frequencies rounded to {kind:?}."))?;
    }
    Ok(())
}
