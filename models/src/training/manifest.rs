//! The manifest: which audio a network learns from, and what is true of it.

use std::path::{Path, PathBuf};

use records::Metadata;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::score::Score;
use crate::ModelError;
use crate::schema::MetadataSchema;

/// Audio with its answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Labelled {
    /// The audio.
    pub audio: PathBuf,
    /// The whole answer, its fields in the schema's order.
    pub metadata: Metadata,
    /// When what sounds, where that is known.
    pub score: Option<Score>,
}

/// A line of the file. Other keys say where a clip comes from; they are for people.
#[derive(Deserialize)]
struct Line {
    audio: PathBuf,
    metadata: serde_json::Value,
    #[serde(default)]
    frames: Option<Score>,
}

/// Reads a manifest: a JSON object a line, `{"audio": PATH, "metadata": {…}, "frames": {…}}`, paths relative to the
/// file. `frames` may be missing. A last line that is cut is still being written, and left out.
///
/// # Errors
/// [`ModelError::Read`], or [`ModelError::Invalid`] with the line that is no such object or breaks the schema.
pub fn read(path: &Path, schema: &MetadataSchema) -> Result<Vec<Labelled>, ModelError> {
    let text = std::fs::read_to_string(path).map_err(|error| ModelError::read(path, &error))?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let (before, last) = text.rsplit_once('\n').unwrap_or(("", &text));
    let whole = if serde_json::from_str::<IgnoredAny>(last).is_ok() { &text } else { before };
    let labelled = |(n, line): (usize, &str)| -> Result<Labelled, ModelError> {
        let invalid = |reason: String| ModelError::invalid(path, format!("line {}: {reason}", n + 1));
        let line: Line = serde_json::from_str(line).map_err(|error| invalid(error.to_string()))?;
        let metadata = schema.read(&line.metadata.to_string()).map_err(invalid)?;
        Ok(Labelled { audio: folder.join(line.audio), metadata, score: line.frames })
    };
    let lines = whole.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    match lines.map(labelled).collect::<Result<Vec<_>, _>>()? {
        none if none.is_empty() => Err(ModelError::invalid(path, "it has no labelled clip")),
        some => Ok(some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r#"{"audio": "a/1.wav", "metadata": {"key": "A minor", "genre": "rock", "tempo_bpm": 120, "instruments": ["bass"]}, "font": "x", "frames": {"beats": [0.5], "downbeats": [], "notes": [[-0.1, 0.4, 57, 4]], "drums": [[0.5, 35]]}}"#;

    fn read_text(text: &str) -> Result<Vec<Labelled>, ModelError> {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("m.jsonl");
        std::fs::write(&path, text).expect("written");
        let schema = MetadataSchema::load("music-basic").expect("built in");
        read(&path, &schema).map(|mut all| {
            all.iter_mut().for_each(|it| it.audio = it.audio.strip_prefix(dir.path()).expect("inside").to_owned());
            all
        })
    }

    #[test]
    fn a_line_gives_audio_beside_the_manifest_and_fields_in_the_schemas_order() {
        let all = read_text(&format!("{LINE}\n\n{LINE}\n")).expect("reads");
        assert_eq!((all.len(), all[0].audio.as_path()), (2, Path::new("a/1.wav")));
        assert_eq!(all[0].metadata.keys().collect::<Vec<_>>(), ["genre", "tempo_bpm", "key", "instruments"]);
        let score = all[0].score.as_ref().expect("a score");
        assert_eq!((score.beats.as_slice(), score.notes[0].pitch, score.drums[0].1), ([0.5].as_slice(), 57, 35));
    }

    #[test]
    fn a_line_that_is_still_being_written_is_left_out() {
        assert_eq!(read_text(&format!("{LINE}\n{}", &LINE[..40])).expect("reads").len(), 1);
        assert_eq!(read_text(&format!("{LINE}\n{LINE}")).expect("reads").len(), 2, "whole, though no line ends it");
    }

    #[test]
    fn a_label_that_breaks_the_schema_is_refused_with_its_line() {
        let bad = LINE.replace("\"rock\"", "\"noise\"");
        let error = read_text(&format!("{LINE}\n{bad}\n")).expect_err("refused").to_string();
        assert!(error.contains("line 2") && error.contains("genre"), "{error}");
    }
}
