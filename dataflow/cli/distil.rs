//! A manifest out of what the paid model answered: what it taught once need not be paid for again.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::Context;
use connectors::objects::local_path;
use connectors::store::Store;
use models::schema::MetadataSchema;
use records::{Branch, Outcome};
use serde_json::json;

/// Outcomes that are read at once.
const PAGE: usize = 1000;

/// What became of the paid model's answers.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Distilled {
    /// They are in the manifest.
    pub(super) taken: usize,
    /// Their uploads' events give no consent to training.
    pub(super) without_consent: usize,
    /// Their audio is no longer there, or their answer is of another schema.
    pub(super) unusable: usize,
}

/// Writes the manifest of all outcomes that the fallback answered and whose uploads may be learned from.
///
/// # Errors
/// The store's, or the file's.
pub(super) async fn distil(store: &Store, schema: &MetadataSchema, path: &Path) -> anyhow::Result<Distilled> {
    let cannot = || format!("cannot write {}", path.display());
    // Under another name first: a manifest that is there is whole.
    let unfinished = path.with_extension("part");
    let mut lines = BufWriter::new(File::create(&unfinished).with_context(cannot)?);
    let (mut distilled, mut after) = (Distilled::default(), 0);
    loop {
        let page = store.outcomes_after(after, PAGE).await?;
        let Some((last, _)) = page.last() else { break };
        after = *last;
        for (_, outcome) in page.iter().filter(|(_, outcome)| outcome.branch == Some(Branch::Fallback)) {
            match line(outcome, schema) {
                _ if !outcome.training_consent => distilled.without_consent += 1,
                None => distilled.unusable += 1,
                Some(line) => {
                    distilled.taken += 1;
                    writeln!(lines, "{line}").with_context(cannot)?;
                }
            }
        }
    }
    lines.flush().with_context(cannot)?;
    std::fs::rename(&unfinished, path).with_context(cannot)?;
    Ok(distilled)
}

/// The outcome as a line of a manifest; `None` where its audio is gone, or its answer is not of this schema.
fn line(outcome: &Outcome, schema: &MetadataSchema) -> Option<serde_json::Value> {
    let audio = local_path(outcome.source.as_deref()?).ok().filter(|audio| audio.is_file())?;
    let metadata = schema.read(&serde_json::to_string(&outcome.metadata).ok()?).ok()?;
    Some(json!({"audio": std::path::absolute(audio).ok()?, "metadata": metadata}))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use records::{Lane, MicroUsd, Status, Tier, UploadId, UtcMicros};

    use super::*;

    fn outcome(name: &str, audio: &Path, branch: Branch, training_consent: bool) -> Outcome {
        let metadata = json!({"genre": "jazz", "tempo_bpm": 99, "key": "D minor", "instruments": ["reed"]});
        Outcome {
            upload_id: UploadId::try_from(name.to_owned()).expect("letters"),
            version: 1,
            customer_id: Some("c".into()),
            source: Some(audio.display().to_string()),
            lane: Lane::Low,
            tier: Some(Tier::Free),
            region: None,
            status: Status::Completed,
            branch: Some(branch),
            fallback_reason: None,
            model: Some("m".into()),
            experiment: None,
            arm: None,
            confidence: None,
            below_threshold: false,
            metadata: metadata.as_object().cloned().expect("an object"),
            field_confidence: Default::default(),
            attempts: 1,
            error: None,
            error_type: None,
            queued_ms: 0,
            inference_ms: 0,
            total_ms: 0,
            cost_micro_usd: MicroUsd(0),
            arrived_at: UtcMicros(1),
            completed_at: UtcMicros(2),
            training_consent,
        }
    }

    #[tokio::test]
    async fn only_paid_answers_about_uploads_with_consent_and_audio_are_learned_from() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let audio = dir.path().join("a.wav");
        std::fs::write(&audio, b"RIFF").expect("written");
        let gone = dir.path().join("gone.wav");
        let outcomes = [
            outcome("taken", &audio, Branch::Fallback, true),
            outcome("no-consent", &audio, Branch::Fallback, false),
            outcome("own-answer", &audio, Branch::Primary, true),
            outcome("gone", &gone, Branch::Fallback, true),
        ];
        let store = Store::open(&dir.path().join("tidemark.db")).await.expect("opens");
        let admissions: Vec<_> =
            outcomes.iter().map(|outcome| (outcome.upload_id.clone(), Lane::Low, UtcMicros(1))).collect();
        store.admit(&admissions).await.expect("admitted");
        let group: Vec<_> =
            outcomes.iter().map(|outcome| (outcome.clone(), Vec::new(), Arc::from(&b"{}"[..]))).collect();
        store.commit(&group).await.expect("committed");

        let schema = MetadataSchema::load("music-basic").expect("built in");
        let path = dir.path().join("manifest.jsonl");
        let distilled = distil(&store, &schema, &path).await.expect("distilled");
        assert_eq!(distilled, Distilled { taken: 1, without_consent: 1, unusable: 1 });
        let labelled = models::training::manifest::read(&path, &schema).expect("a manifest");
        assert_eq!((labelled.len(), &labelled[0].audio), (1, &audio));
        assert_eq!(labelled[0].metadata, outcomes[0].metadata);
    }
}
