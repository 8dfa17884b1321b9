//! Labelled audio, and a model that hears it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use connectors::objects::local_path;
use connectors::store::Store;
use futures::StreamExt;
use models::calibration::Evidence;
use models::local::LocalModel;
use models::{Annotator, Late, Request};
use records::{Annotation, Lane, Metadata, UploadId, UtcMicros};
use serde::Deserialize;
use tidemark::config::Config;

use super::process::progress;
use super::start;

/// A line of the file of labels; other keys of it, as a manifest to train from has, are nothing here.
#[derive(Deserialize)]
struct Line {
    audio: Option<PathBuf>,
    upload_id: Option<UploadId>,
    metadata: Metadata,
}

/// Audio and what it is.
pub(super) struct Labelled {
    audio: PathBuf,
    label: Metadata,
}

/// Reads labels; where one names an upload, the store says where its audio is.
pub(super) async fn read(
    path: &Path,
    evidence: &Evidence,
    config: &Config,
    data: &Path,
) -> anyhow::Result<Vec<Labelled>> {
    let file = path.display();
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {file}"))?;
    let (folder, mut store, mut labelled) = (path.parent().unwrap_or(Path::new("")), None, Vec::new());
    for (n, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let place = || format!("{file}, line {}", n + 1);
        let Line { audio, upload_id, metadata } = serde_json::from_str(line).with_context(place)?;
        let audio = match (audio, upload_id) {
            (Some(audio), None) => folder.join(audio),
            (None, Some(id)) => {
                if store.is_none() {
                    store = Some(start::store(config, data).await?);
                }
                audio_of(&id, store.as_ref().expect("it was opened above")).await.with_context(place)?
            }
            _ => bail!("{}: a label has either \"audio\" or \"upload_id\"", place()),
        };
        let label = evidence.label(metadata).map_err(anyhow::Error::msg).with_context(place)?;
        labelled.push(Labelled { audio, label });
    }
    if labelled.is_empty() {
        bail!("{file} has no label");
    }
    Ok(labelled)
}

/// Where the store says that an upload's audio is.
async fn audio_of(id: &UploadId, store: &Store) -> anyhow::Result<PathBuf> {
    let Some(outcome) = store.outcome(id).await? else { bail!("no outcome of an upload {id}") };
    let Some(source) = outcome.source else { bail!("the upload {id} had no audio that could be found") };
    Ok(local_path(&source)?)
}

/// Lets the model hear what is labelled, and hands on its answers, where it gave one, with the labels; how many it
/// gave none for.
pub(super) async fn listen(
    model: &LocalModel,
    config: &Config,
    labels: Vec<Labelled>,
    mut judge: impl FnMut(Option<&Annotation>, Metadata),
) -> usize {
    let ahead = 4 * config.model.max_batch.get();
    let prompt: Arc<str> = config.model.prompt.as_str().into();
    let bar = progress(labels.len() as u64);
    let describe = |(n, Labelled { audio, label }): (u64, Labelled)| {
        let upload_id = UploadId::try_from(format!("label-{n}")).expect("letters and digits");
        let (lane, deadline, prompt) = (Lane::Low, UtcMicros(n), Arc::clone(&prompt));
        let request = Request { upload_id, audio: audio.clone(), lane, deadline, prompt, late: Late::Answer };
        async move { (audio, label, model.annotate(request).await) }
    };
    let mut answers = futures::stream::iter((1..).zip(labels).map(describe)).buffer_unordered(ahead);
    let mut failed = 0;
    while let Some((audio, label, answer)) = answers.next().await {
        bar.inc(1);
        if let Err(fault) = &answer {
            failed += 1;
            tracing::warn!(audio = %audio.display(), %fault, "it could not be described");
        }
        judge(answer.as_ref().ok(), label);
    }
    bar.finish_and_clear();
    failed
}
