//! The audio front end on one core: seconds of sound decoded, resampled and turned into log-mel in a second.
//!
//! `benches/peers/front_end.py` does the same with librosa and transformers; `benches/front_end.sh` runs both in turn.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use models::audio::{LONGEST_WINDOW, LogMel, SAMPLE_RATE, spread};

const BANDS: usize = 128;

#[expect(clippy::print_stdout, reason = "a benchmark prints its table")]
fn main() {
    let clips: Vec<PathBuf> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).map(PathBuf::from).collect();
    assert!(!clips.is_empty(), "name the clips: cargo bench --bench front_end -- demo/clips/*");
    let log_mel = LogMel::new(BANDS, LONGEST_WINDOW);
    for clip in &clips {
        let pass = || {
            let segments =
                spread(clip, Duration::from_secs(3600), LONGEST_WINDOW, NonZeroUsize::MAX).expect("the clip is heard");
            segments
                .iter()
                .map(|segment| (segment.samples.len(), log_mel.mel(&segment.samples).frames))
                .fold(0, |sum, (samples, _)| sum + samples)
        };
        let samples = pass();
        // As many passes as take a second, and at least three.
        let (start, mut passes) = (Instant::now(), 0u32);
        while passes < 3 || start.elapsed() < Duration::from_secs(1) {
            assert_eq!(pass(), samples);
            passes += 1;
        }
        let seconds = samples as f64 / f64::from(SAMPLE_RATE);
        let rate = seconds * f64::from(passes) / start.elapsed().as_secs_f64();
        let name = clip.file_name().unwrap_or_default().to_string_lossy();
        println!("{name}\t{seconds:.1}\t{rate:.0}");
    }
}
