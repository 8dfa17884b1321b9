//! The clips' spectrograms, made once and kept on disk in 16 bits a number: making one takes longer than a step over it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::checkpoint::write_error;
use crate::ModelError;
use crate::audio::{self, LONGEST_WINDOW, LogMel};
use crate::qwen2_audio::Mel;

/// Longer audio is refused by the decoder; of what it takes, the first 30 s are heard.
const LONGEST: Duration = Duration::from_secs(2 * 3600);
/// Bytes in front of the numbers: how many frames hold sound.
const HEADER: usize = 4;
/// A spectrogram's numbers are at least the first; the second is how many steps are kept of 1, which is 40 dB.
const LEAST: f32 = -1.5;
const STEPS: f32 = 8192.0;

/// Spectrograms in files, one a clip.
#[derive(Debug)]
pub(crate) struct Mels {
    clips: Vec<Kept>,
    bins: usize,
}

#[derive(Debug)]
struct Kept {
    file: PathBuf,
    frames: usize,
}

impl Mels {
    /// Makes the spectrograms that `folder` does not hold yet, on so many threads; `done` is called after each clip.
    ///
    /// # Errors
    /// [`ModelError::Invalid`] with the audio that cannot be heard, [`ModelError::Write`], [`ModelError::Read`].
    pub(crate) fn prepare(
        audio: &[&Path],
        bins: usize,
        folder: &Path,
        threads: usize,
        done: &(dyn Fn() + Sync),
    ) -> Result<Self, ModelError> {
        std::fs::create_dir_all(folder).map_err(|error| write_error(folder, error))?;
        let (log_mel, next) = (LogMel::new(bins, LONGEST_WINDOW), AtomicUsize::new(0));
        let work = || {
            let mut made = Vec::new();
            while let Some((n, audio)) =
                Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|n| Some((n, audio.get(n)?)))
            {
                made.push((n, keep(n, audio, &log_mel, bins, folder)?));
                done();
            }
            Ok(made)
        };
        let parts: Vec<Result<Vec<(usize, Kept)>, ModelError>> = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(work)).collect();
            let end = |worker: std::thread::ScopedJoinHandle<'_, _>| worker.join().unwrap_or_else(|_| Err(panicked()));
            workers.into_iter().map(end).collect()
        });
        let mut all: Vec<(usize, Kept)> =
            parts.into_iter().collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect();
        all.sort_unstable_by_key(|(n, _)| *n);
        Ok(Self { clips: all.into_iter().map(|(_, kept)| kept).collect(), bins })
    }

    /// How many frames of sound each clip has.
    pub(crate) fn frames(&self) -> impl Iterator<Item = usize> {
        self.clips.iter().map(|clip| clip.frames)
    }

    /// A clip's spectrogram.
    ///
    /// # Errors
    /// [`ModelError::Read`].
    pub(crate) fn load(&self, clip: usize) -> Result<Mel, ModelError> {
        let Kept { file, frames } = &self.clips[clip];
        let bytes = std::fs::read(file).map_err(|error| ModelError::read(file, &error))?;
        let numbers = bytes.get(HEADER..).unwrap_or_default().chunks_exact(2);
        let data: Vec<f32> =
            numbers.map(|pair| f32::from(u16::from_le_bytes([pair[0], pair[1]])) / STEPS + LEAST).collect();
        Ok(Mel { columns: data.len() / self.bins, data, bins: self.bins, frames: *frames })
    }
}

fn panicked() -> ModelError {
    ModelError::Training("a decoder panicked; the log says on what".into())
}

/// The file of the clip of that number, made where it is not there.
fn keep(n: usize, audio: &Path, log_mel: &LogMel, bins: usize, folder: &Path) -> Result<Kept, ModelError> {
    let about = std::fs::metadata(audio).map_err(|error| ModelError::read(audio, &error))?;
    let changed =
        about.modified().ok().and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok()).unwrap_or_default();
    let whose = format!("{} {} {} {bins}", audio.display(), about.len(), changed.as_nanos());
    let name: String = Sha256::digest(whose).iter().take(12).map(|byte| format!("{byte:02x}")).collect();
    let file = folder.join(name);
    if let Ok(mut kept) = std::fs::File::open(&file) {
        let mut header = [0; HEADER];
        std::io::Read::read_exact(&mut kept, &mut header).map_err(|error| ModelError::read(&file, &error))?;
        return Ok(Kept { file, frames: u32::from_le_bytes(header) as usize });
    }
    let unheard = |error: audio::AudioError| ModelError::invalid(audio, error);
    let first = audio::open(audio, LONGEST, LONGEST_WINDOW).map_err(unheard)?.next();
    let samples = first.unwrap_or_else(|| Ok(Vec::new())).map_err(unheard)?;
    let mel = log_mel.mel(&samples);
    let mut bytes = (mel.frames as u32).to_le_bytes().to_vec();
    bytes.extend(mel.data.iter().flat_map(|&value| (((value - LEAST) * STEPS).round() as u16).to_le_bytes()));
    // Whole or not at all: what is there is never made again.
    let unfinished = file.with_extension(format!("{n}.part"));
    std::fs::File::create(&unfinished)
        .and_then(|mut kept| kept.write_all(&bytes))
        .and_then(|()| std::fs::rename(&unfinished, &file))
        .map_err(|error| write_error(&file, error))?;
    Ok(Kept { file, frames: mel.frames })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::qwen2_audio::fixture;

    #[test]
    fn a_spectrogram_is_kept_to_a_hundredth_of_a_decibel_and_made_once() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let audio = fixture("tiny-a").join("audio/chord_3200ms.wav");
        let prepare = || Mels::prepare(&[&audio, &audio], 40, dir.path(), 2, &|| {}).expect("prepared");
        let kept = prepare().load(1).expect("read");
        let samples =
            audio::open(&audio, LONGEST, LONGEST_WINDOW).expect("opens").next().expect("a segment").expect("heard");
        let made = LogMel::new(40, LONGEST_WINDOW).mel(&samples);
        assert_eq!((kept.frames, kept.columns, kept.bins), (made.frames, made.columns, made.bins));
        let farthest = kept.data.iter().zip(&made.data).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(farthest < 1.0 / STEPS, "{farthest}");

        let files = || std::fs::read_dir(dir.path()).expect("a folder").map(|entry| entry.expect("an entry").path());
        let file = files().next().expect("a file");
        std::fs::write(&file, 9u32.to_le_bytes()).expect("written");
        assert_eq!((files().count(), prepare().frames().collect::<Vec<_>>()), (1, vec![9, 9]));
    }

    #[test]
    fn audio_that_cannot_be_heard_is_refused_by_name() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let audio = fixture("tiny-a").join("config.json");
        let error = Mels::prepare(&[&audio], 40, dir.path(), 1, &|| {}).expect_err("refused").to_string();
        assert!(error.contains("tiny-a/config.json"), "{error}");
    }
}
