//! What the encoder hears: a clip's log-mel spectrogram.

/// A clip's log-mel spectrogram, as QWEN2_AUDIO.md section 1 defines it.
#[derive(Clone, Debug, PartialEq)]
pub struct Mel {
    /// (bins, columns), row after row.
    pub data: Vec<f32>,
    /// Mel bands.
    pub bins: usize,
    /// Frames of 10 ms that are held: those with sound and up to 8 of the silence behind them, 3000 at most.
    pub columns: usize,
    /// Frames with sound.
    pub frames: usize,
}
