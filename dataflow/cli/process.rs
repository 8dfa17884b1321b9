//! `tidemark process`: describes files now.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use connectors::listed::Listed;
use connectors::source::Source;
use indicatif::{ProgressBar, ProgressStyle};
use records::{Mode, Operation, Status, Tier};
use serde_json::json;
use tidemark::clock::now;
use tidemark::config::Config;
use tidemark::drain::{self, Signals};
use tidemark::worker::Worker;

use super::enqueue::{event, files};
use super::{Common, Exit, show, start};

#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  tidemark process song.mp3 loops/*.flac\n  tidemark process --json song.mp3 | jq .metadata"
)]
pub(super) struct Process {
    /// Audio files
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

impl Process {
    pub(super) async fn run(self, common: &Common) -> anyhow::Result<Exit> {
        let config = Config::load(common.config.as_deref())?;
        let uploads = files(&self.files)?
            .iter()
            .map(|file| event(file, "local", Tier::Pro, Mode::Realtime))
            .collect::<Result<Vec<_>, _>>()?;
        let ids: Vec<_> = uploads.iter().map(|upload| upload.upload_id.clone()).collect();
        let events =
            uploads.iter().map(|upload| serde_json::to_vec(upload).map(Arc::from)).collect::<Result<_, _>>()?;

        let store = start::store(&config, &common.data).await?;
        let models = start::models(&config).await?;
        store.note_operation(Operation::Process, "uploads", &json!({ "uploads": ids.len() }), now()).await?;
        let source = Arc::new(Listed::new(events));
        let objects = start::objects(&config, &common.data);
        let parts = start::parts(&config, Arc::clone(&source) as Arc<dyn Source>, &store, &objects, &models)?;
        let mut worker = Worker::start(&parts)?;
        let mut signals = Signals::listen()?;
        let progress = progress(ids.len() as u64);
        tokio::select! {
            () = drain::idle(&*source, |left| progress.set_position((ids.len() as u64).saturating_sub(left))) => {}
            () = signals.next() => {}
            died = worker.ended() => died?,
        }
        progress.finish_and_clear();
        drain::drain(&mut worker, Duration::from_secs(config.drain_timeout_s), &mut signals).await?;

        let mut outcomes = Vec::new();
        for id in &ids {
            outcomes.extend(store.outcome(id).await?);
        }
        show::outcomes(&outcomes, common.json)?;
        let all_completed = outcomes.len() == ids.len() && outcomes.iter().all(|o| o.status == Status::Completed);
        Ok(if all_completed { Exit::Success } else { Exit::Failure })
    }
}

/// On a terminal, how far the work is; else nothing.
pub(super) fn progress(length: u64) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} described, {eta} left");
    ProgressBar::new(length).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
