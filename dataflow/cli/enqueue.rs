//! `tidemark enqueue`: puts files, or events as they are, in the queue.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use records::{Lane, Mode, Tier, Upload, UploadId};
use tidemark::clock::now;
use tidemark::config::Config;

use super::{Common, Exit, show, start};

/// Endings that a folder is searched for.
const AUDIO: [&str; 9] = ["wav", "flac", "mp3", "ogg", "oga", "opus", "m4a", "aac", "aiff"];

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  tidemark enqueue --tier enterprise song.mp3
  tidemark enqueue --tier free --customer c42 uploads/
  tidemark enqueue --events uploads.ndjson       events as they are, one a line; - reads standard input")]
pub(super) struct Enqueue {
    /// Audio files, and folders that are searched for them
    #[arg(required_unless_present = "events", value_name = "FILE|DIR")]
    files: Vec<PathBuf>,
    /// What the customer pays for: enterprise, pro or free
    #[arg(long, default_value = "free")]
    tier: Tier,
    /// Whether somebody waits: realtime or bulk
    #[arg(long, default_value = "bulk")]
    mode: Mode,
    /// Whose uploads these are
    #[arg(long, default_value = "local")]
    customer: String,
    /// Models may learn from these uploads
    #[arg(long, conflicts_with = "events")]
    training_consent: bool,
    /// Upload events as JSON, one a line
    #[arg(long, value_name = "FILE", conflicts_with = "files")]
    events: Option<PathBuf>,
}

impl Enqueue {
    pub(super) async fn run(self, common: &Common) -> anyhow::Result<Exit> {
        let config = Config::load(common.config.as_deref())?;
        let messages = match &self.events {
            Some(path) => events(path)?,
            None => files(&self.files)?
                .iter()
                .map(|file| {
                    let event = event(file, &self.customer, self.tier, self.mode)?;
                    Ok(serde_json::to_vec(&Upload { training_consent: self.training_consent, ..event })?)
                })
                .collect::<anyhow::Result<Vec<_>>>()?,
        };
        // An event that cannot be read waits in the low lane, where it is dead-lettered with its reason.
        let rules = config.lane_rules();
        let lane = |payload: &[u8]| Upload::from_event(payload).map_or(Lane::Low, |it| rules.lane(it.tier, it.mode));
        let messages: Vec<(Lane, Vec<u8>)> = messages.into_iter().map(|payload| (lane(&payload), payload)).collect();
        let ids: Vec<UploadId> = messages
            .iter()
            .map(|(_, payload)| Upload::from_event(payload).map_or_else(|bad| bad.upload_id, |it| it.upload_id))
            .collect();
        let store = start::store(&config, &common.data).await?;
        store.enqueue_audited(&messages, now()).await?;
        store.close().await;
        print(&ids, common.json)?;
        Ok(Exit::Success)
    }
}

fn print(ids: &[UploadId], json: bool) -> std::io::Result<()> {
    if json {
        let objects: Vec<_> = ids.iter().map(|id| serde_json::json!({ "upload_id": id })).collect();
        return show::json_lines(&objects);
    }
    show::line(&format!("{} upload{} in the queue", ids.len(), if ids.len() == 1 { "" } else { "s" }))
}

/// The event for a file.
pub(super) fn event(file: &Path, customer: &str, tier: Tier, mode: Mode) -> anyhow::Result<Upload> {
    let path = std::path::absolute(file)?;
    let Some(audio_uri) = path.to_str() else { bail!("{} is no UTF-8 path, which an event needs", path.display()) };
    let upload_id = UploadId::try_from(uuid::Uuid::now_v7().to_string()).map_err(anyhow::Error::msg)?;
    Ok(Upload {
        upload_id,
        customer_id: customer.into(),
        tier,
        mode,
        audio_uri: audio_uri.into(),
        uploaded_at: Some(now()),
        region: None,
        training_consent: false,
    })
}

/// The files themselves, and the audio files in the folders and their folders, sorted by name.
pub(super) fn files(paths: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for path in paths {
        if path.is_dir() {
            search(path, &mut found)?;
        } else if path.exists() {
            found.push(path.clone());
        } else {
            bail!("{} does not exist", path.display());
        }
    }
    if found.is_empty() {
        bail!("no audio file in there; these endings are looked for: {}", AUDIO.join(", "));
    }
    Ok(found)
}

fn search(folder: &Path, found: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    paths.sort();
    for path in paths {
        let ending = path.extension().and_then(|ending| ending.to_str()).map(str::to_ascii_lowercase);
        // A link to a folder could lead back up.
        if path.is_dir() && !path.is_symlink() {
            search(&path, found)?;
        } else if path.is_file() && ending.is_some_and(|ending| AUDIO.contains(&ending.as_str())) {
            found.push(path);
        }
    }
    Ok(())
}

fn events(path: &Path) -> anyhow::Result<Vec<Vec<u8>>> {
    let mut bytes = Vec::new();
    if path == Path::new("-") {
        std::io::stdin().read_to_end(&mut bytes)?;
    } else {
        bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    }
    let lines = bytes.split(|byte| *byte == b'\n').map(|line| line.trim_ascii()).filter(|line| !line.is_empty());
    Ok(lines.map(<[u8]>::to_vec).collect())
}
