//! Where mel bands lie: Slaney's scale, even below 1000 Hz, logarithmic above.

use super::SAMPLE_RATE;

const EVEN_HERTZ: f64 = 1000.0;
const EVEN_MELS: f64 = 15.0;
/// Mels in a factor of e.
const MELS_PER_LOG: f64 = 27.0;
const LOG_SPAN: f64 = 6.4;
/// The highest band's upper edge.
const HIGHEST_HERTZ: f64 = SAMPLE_RATE as f64 / 2.0;

pub(super) fn hertz_to_mel(hertz: f64) -> f64 {
    if hertz < EVEN_HERTZ {
        return hertz * EVEN_MELS / EVEN_HERTZ;
    }
    EVEN_MELS + (hertz / EVEN_HERTZ).ln() * MELS_PER_LOG / LOG_SPAN.ln()
}

pub(super) fn mel_to_hertz(mel: f64) -> f64 {
    if mel < EVEN_MELS {
        return mel * EVEN_HERTZ / EVEN_MELS;
    }
    EVEN_HERTZ * ((mel - EVEN_MELS) * LOG_SPAN.ln() / MELS_PER_LOG).exp()
}

/// The centre of band `band` of `bins` from 0 to 8000 Hz; between whole numbers, what lies between.
pub(crate) fn hertz(bins: usize, band: f64) -> f64 {
    mel_to_hertz(hertz_to_mel(HIGHEST_HERTZ) * (band + 1.0) / (bins + 1) as f64)
}

/// For each of `bins` bands, the band whose sound it has once that is so many semitones higher.
pub(crate) fn moved(bins: usize, semitones: f64) -> impl Iterator<Item = f64> {
    let ratio = (semitones / 12.0).exp2();
    let band = move |hertz: f64| hertz_to_mel(hertz) * (bins + 1) as f64 / hertz_to_mel(HIGHEST_HERTZ) - 1.0;
    (0..bins).map(move |to| band(hertz(bins, to as f64) / ratio))
}
