//! `tidemark audit`: what was done to the data, and by whom.

use records::AuditEntry;

use super::{Common, Exit, show, start};

#[derive(clap::Args)]
#[command(after_help = "\
What was done to the store stands here if it was done, and only then; what changed nothing does not. `process` stands here once it
begins. So does a replay of uploads, in the store of its own: --data data/replays/RUN.

Examples:
  tidemark audit --limit 20
  tidemark audit --json | jq -r 'select(.operation == \"purge\") | [.done_at, .actor] | @tsv'")]
pub(super) struct Audit {
    /// The newest so many
    #[arg(long, default_value_t = 100)]
    limit: usize,
}

impl Audit {
    pub(super) async fn run(self, common: &Common) -> anyhow::Result<Exit> {
        let store = start::existing_store(common).await?;
        let entries = store.audit_log(self.limit).await?;
        if common.json {
            show::json_lines(&entries)?;
        } else {
            show::table(&["done_at", "actor", "operation", "target", "detail"], entries.iter().map(row))?;
        }
        store.close().await;
        Ok(Exit::Success)
    }
}

fn row(entry: &AuditEntry) -> Vec<String> {
    vec![
        entry.done_at.to_string()[..19].replace('T', " "),
        entry.actor.clone(),
        entry.operation.to_string(),
        entry.target.clone(),
        entry.detail.to_string(),
    ]
}
