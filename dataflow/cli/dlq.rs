//! `tidemark dlq`: looks at dead letters, tries them again, throws them away.

use anyhow::bail;
use connectors::store::{DeadLetter, Redriven};
use records::{Attempt, UploadId, UtcMicros};
use serde_json::json;
use tidemark::clock::now;

use super::outcomes::upload_id;
use super::{Common, Exit, show, start};

const DAY_US: u64 = 24 * 3600 * 1_000_000;

#[derive(clap::Subcommand)]
pub(super) enum Dlq {
    /// List dead letters, the newest first
    #[command(after_help = "Examples:\n  tidemark dlq list --json | jq -r .error_type | sort | uniq -c")]
    List {
        /// The newest so many
        #[arg(long, default_value_t = 100)]
        limit: usize,
    },
    /// Show one with its event and every attempt
    #[command(after_help = "Examples:\n  tidemark dlq show 018f2c-u1")]
    Show {
        /// The upload
        #[arg(value_name = "UPLOAD_ID", value_parser = upload_id)]
        id: UploadId,
    },
    /// Put dead letters in the queue again, after their cause was mended
    #[command(after_help = "Example:\n  tidemark dlq redrive $(tidemark dlq list --json | jq -r .upload_id)")]
    Redrive {
        /// The uploads
        #[arg(required = true, value_name = "UPLOAD_ID", value_parser = upload_id)]
        ids: Vec<UploadId>,
    },
    /// Throw dead letters away; their outcomes stay
    #[command(
        after_help = "Examples:\n  tidemark dlq purge                        older than a week\n  tidemark dlq purge --older-than-days 1"
    )]
    Purge {
        /// Those that are older than so many days
        #[arg(long, value_name = "DAYS", default_value_t = 7)]
        older_than_days: u64,
        /// These, of whatever age
        #[arg(value_name = "UPLOAD_ID", value_parser = upload_id, conflicts_with = "older_than_days")]
        ids: Vec<UploadId>,
    },
}

impl Dlq {
    pub(super) async fn run(self, common: &Common) -> anyhow::Result<Exit> {
        let store = start::existing_store(common).await?;
        match self {
            Self::List { limit } => list(&store.dead_letters(limit).await?, common.json)?,
            Self::Show { id } => {
                let Some((letter, attempts)) = store.dead_letter(&id).await? else { bail!("no dead letter {id}") };
                show_one(&letter, &attempts)?;
            }
            Self::Redrive { ids } => {
                let redriven = store.redrive(&ids, now()).await?;
                report(&ids, &redriven, common.json)?;
                let is_requeued =
                    |result: &Redriven| matches!(result, Redriven::Requeued { .. } | Redriven::AlreadyRequeued);
                if !redriven.iter().all(is_requeued) {
                    return Ok(Exit::Failure);
                }
            }
            Self::Purge { older_than_days, ids } => {
                let purged = if ids.is_empty() {
                    let before = UtcMicros(now().0.saturating_sub(older_than_days.saturating_mul(DAY_US)));
                    store.purge_before(before, now()).await?
                } else {
                    store.purge(&ids, now()).await?
                };
                show::say(&json!({ "purged": purged }), &format!("{purged} dead letters purged"), common.json)?;
            }
        }
        store.close().await;
        Ok(Exit::Success)
    }
}

fn list(letters: &[DeadLetter], json: bool) -> std::io::Result<()> {
    if json {
        let outcomes: Vec<_> = letters.iter().map(|letter| &letter.outcome).collect();
        return show::json_lines(&outcomes);
    }
    let row = |letter: &DeadLetter| {
        let outcome = &letter.outcome;
        vec![
            outcome.upload_id.to_string(),
            outcome.completed_at.to_string(),
            outcome.lane.to_string(),
            outcome.attempts.to_string(),
            outcome.error_type.map_or(String::new(), |kind| kind.to_string()),
            outcome.error.clone().unwrap_or_default(),
        ]
    };
    show::table(&["upload_id", "dead_lettered_at", "lane", "attempts", "error_type", "error"], letters.iter().map(row))
}

fn show_one(letter: &DeadLetter, attempts: &[(u32, Attempt)]) -> std::io::Result<()> {
    let attempts: Vec<_> =
        attempts.iter().map(|(version, attempt)| json!({ "version": version, "attempt": attempt })).collect();
    let shown = json!({
        "outcome": letter.outcome,
        "event": String::from_utf8_lossy(&letter.payload),
        "redriven_at": letter.redriven_at,
        "attempts": attempts,
    });
    show::pretty(&shown)
}

fn report(ids: &[UploadId], redriven: &[Redriven], json: bool) -> std::io::Result<()> {
    for (id, result) in ids.iter().zip(redriven) {
        let result = match result {
            Redriven::Requeued { .. } => "is in the queue again",
            Redriven::AlreadyRequeued => "is in the queue again since an earlier redrive",
            Redriven::NotDeadLettered => "is no dead letter",
            Redriven::Purged => "was purged: its event is gone",
            Redriven::Unknown => "is no upload that ever arrived",
        };
        show::say(&json!({ "upload_id": id, "result": result }), &format!("{id} {result}"), json)?;
    }
    Ok(())
}
