//! The sound that is sent: the file as it is where OpenAI takes it, else its beginning as WAV.

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_openai::types::chat::{InputAudio, InputAudioFormat};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use records::{ErrorType, Fault};

use crate::audio::{self, AudioError, SAMPLE_RATE};

/// Reads and, where needed, decodes a file, off the threads that serve the network: MP3 and 16-bit WAV of up to
/// `max_bytes` as they are, of everything else the first `max_s` seconds.
///
/// # Errors
/// The fault of the file, as [`audio::open`] finds it.
pub(super) async fn clip(path: PathBuf, max_bytes: u64, max_s: u64) -> Result<InputAudio, Fault> {
    let reading = tokio::task::spawn_blocking(move || {
        let (bytes, format) = match as_it_is(&path, max_bytes) {
            Some(whole) => whole,
            None => (wav(&beginning(&path, max_s)?), InputAudioFormat::Wav),
        };
        Ok(InputAudio { data: STANDARD.encode(bytes), format })
    });
    match reading.await {
        Ok(read) => read.map_err(|error: AudioError| error.into()),
        Err(error) => Err(Fault::retryable(ErrorType::Model, format!("reading the audio for OpenAI failed: {error}"))),
    }
}

/// `None` for everything that has to be decoded, and for what cannot be read: decoding says why.
fn as_it_is(path: &Path, max_bytes: u64) -> Option<(Vec<u8>, InputAudioFormat)> {
    let metadata = std::fs::metadata(path).ok()?;
    if !metadata.is_file() || metadata.len() > max_bytes {
        return None;
    }
    let bytes = std::fs::read(path).ok()?;
    let format = format_of(&bytes)?;
    Some((bytes, format))
}

/// What the bytes are, whatever the file is called.
fn format_of(bytes: &[u8]) -> Option<InputAudioFormat> {
    match bytes {
        [b'I', b'D', b'3', ..] => Some(InputAudioFormat::Mp3),
        // Eleven bits of sync and layer III; AAC in ADTS differs in the layer.
        [0xFF, second, ..] if second & 0xE6 == 0xE2 => Some(InputAudioFormat::Mp3),
        _ if is_pcm16_wav(bytes) => Some(InputAudioFormat::Wav),
        _ => None,
    }
}

/// A RIFF file whose first chunk says: whole numbers (format 1), 16 bits each.
fn is_pcm16_wav(bytes: &[u8]) -> bool {
    bytes.len() > 44
        && bytes.starts_with(b"RIFF")
        && bytes[8..16] == *b"WAVEfmt "
        && bytes[20..22] == 1u16.to_le_bytes()
        && bytes[34..36] == 16u16.to_le_bytes()
}

/// The first `seconds` at 16 kHz, one channel. How long the file is does not matter here: nothing after them is decoded.
fn beginning(path: &Path, seconds: u64) -> Result<Vec<f32>, AudioError> {
    let wanted = usize::try_from(seconds.saturating_mul(u64::from(SAMPLE_RATE))).unwrap_or(usize::MAX);
    let mut samples = Vec::new();
    for segment in audio::open(path, Duration::MAX, audio::LONGEST_WINDOW)? {
        samples.extend(segment?);
        if samples.len() >= wanted {
            samples.truncate(wanted);
            break;
        }
    }
    Ok(samples)
}

/// A WAV file of 16 kHz, one channel, 16 bits.
fn wav(samples: &[f32]) -> Vec<u8> {
    let bytes = u32::try_from(samples.len() * 2).expect("max_audio_s is far below the 37 hours that a WAV file holds");
    let header = [
        *b"RIFF",
        (36 + bytes).to_le_bytes(),
        *b"WAVE",
        *b"fmt ",
        16u32.to_le_bytes(),
        // Format 1, whole numbers; one channel.
        [1, 0, 1, 0],
        SAMPLE_RATE.to_le_bytes(),
        (SAMPLE_RATE * 2).to_le_bytes(),
        // Two bytes a frame, 16 bits a sample.
        [2, 0, 16, 0],
        *b"data",
        bytes.to_le_bytes(),
    ];
    let pcm = samples.iter().flat_map(|sample| ((sample.clamp(-1.0, 1.0) * 32_767.0).round() as i16).to_le_bytes());
    header.into_iter().flatten().chain(pcm).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn demo(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../demo/clips").join(name)
    }

    fn read(name: &str, max_bytes: u64, max_s: u64) -> (Vec<u8>, InputAudioFormat) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let audio = runtime.block_on(clip(demo(name), max_bytes, max_s)).expect("readable");
        (STANDARD.decode(audio.data).expect("base64"), audio.format)
    }

    #[test]
    fn a_small_mp3_goes_as_it_is_and_a_larger_one_as_its_beginning() {
        let file = std::fs::read(demo("country-d-major-126.mp3")).expect("a demo clip");
        let size = file.len() as u64;
        assert_eq!(read("country-d-major-126.mp3", size, 1), (file, InputAudioFormat::Mp3));
        let (bytes, format) = read("country-d-major-126.mp3", size - 1, 1);
        assert_eq!((bytes.len(), format), (44 + 32_000, InputAudioFormat::Wav));
        assert!(is_pcm16_wav(&bytes));
    }

    #[test]
    fn what_openai_does_not_take_goes_as_wav_of_its_beginning() {
        for name in ["bossa-a-minor-132.m4a", "swing-f-major-160.ogg", "waltz-g-major-180.flac"] {
            let (bytes, format) = read(name, u64::MAX, 2);
            assert_eq!((bytes.len(), format), (44 + 64_000, InputAudioFormat::Wav), "{name}");
            let loudest = bytes[44..].chunks(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]]).unsigned_abs()).max();
            assert!(loudest.is_some_and(|loudest| loudest > 1_000), "{name} became silence: {loudest:?}");
        }
    }

    #[test]
    fn a_wav_that_was_made_here_is_one_that_goes_as_it_is() {
        let bytes = wav(&[0.0, 1.0, -1.0, 9.0, f32::NAN]);
        assert_eq!(bytes[44..], [0, 0, 0xFF, 0x7F, 0x01, 0x80, 0xFF, 0x7F, 0, 0]);
        assert_eq!(format_of(&bytes), Some(InputAudioFormat::Wav));
        let sample_bits = 34;
        for (at, value) in [(20, 3), (sample_bits, 24)] {
            let mut other = bytes.clone();
            other[at] = value;
            assert_eq!(format_of(&other), None, "byte {at} = {value}");
        }
        assert_eq!(format_of(&[0xFF, 0xF1, 0x50, 0x80]), None, "AAC taken for MP3");
        assert_eq!(format_of(b""), None);
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_read_is_its_own_fault() {
        let fault = clip("no/such.mp3".into(), 1_000, 1).await.expect_err("there is none");
        assert_eq!(fault.error_type, ErrorType::AudioUnreachable);
        let fault = clip(demo("../render.sh"), 1_000_000, 1).await.expect_err("no audio");
        assert_eq!(fault.error_type, ErrorType::AudioUndecodable);
    }
}
