//! `tidemark outcomes`: what became of uploads.

use anyhow::bail;
use records::UploadId;

use super::{Common, Exit, show, start};

#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  tidemark outcomes --limit 20\n  tidemark outcomes --json | jq -r .metadata.genre | sort | uniq -c"
)]
pub(super) struct Outcomes {
    /// Only these uploads
    #[arg(value_name = "UPLOAD_ID", value_parser = upload_id)]
    ids: Vec<UploadId>,
    /// The newest so many
    #[arg(long, default_value_t = 100)]
    limit: usize,
}

impl Outcomes {
    pub(super) async fn run(self, common: &Common) -> anyhow::Result<Exit> {
        let store = start::existing_store(common).await?;
        let outcomes = if self.ids.is_empty() {
            store.newest_outcomes(self.limit).await?
        } else {
            let mut outcomes = Vec::new();
            for id in &self.ids {
                let Some(outcome) = store.outcome(id).await? else { bail!("no outcome of an upload {id}") };
                outcomes.push(outcome);
            }
            outcomes
        };
        show::outcomes(&outcomes, common.json)?;
        Ok(Exit::Success)
    }
}

pub(super) fn upload_id(text: &str) -> Result<UploadId, String> {
    UploadId::try_from(text.to_owned())
}
