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

impl Mel {
    /// The first `frames` frames of a longer clip; a shorter one as it is.
    pub(crate) fn beginning(self, frames: usize) -> Self {
        if self.frames <= frames {
            return self;
        }
        let data = self.data.chunks_exact(self.columns).flat_map(|row| &row[..frames]).copied().collect();
        Self { data, bins: self.bins, columns: frames, frames }
    }
}
