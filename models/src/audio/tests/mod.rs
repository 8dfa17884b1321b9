//! Files as they come: whole, long, odd and broken.

mod clips;
mod copies;
mod refused;
mod streams;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::NamedTempFile;

use super::*;

/// Longer than every file here that is not meant to be too long.
const LIMIT: Duration = Duration::from_secs(600);

/// How a WAV file stores a sample.
#[derive(Clone, Copy)]
enum Form {
    U8,
    S16,
    S24,
    S32,
    F32,
}

impl Form {
    /// The format tag and the bits of a sample.
    fn tags(self) -> (u16, u16) {
        match self {
            Self::U8 => (1, 8),
            Self::S16 => (1, 16),
            Self::S24 => (1, 24),
            Self::S32 => (1, 32),
            Self::F32 => (3, 32),
        }
    }

    fn bytes(self, sample: f32) -> Vec<u8> {
        let integer = |bits: i32| (f64::from(sample) * 2f64.powi(bits - 1)) as i32;
        match self {
            Self::U8 => vec![(integer(8) + 128) as u8],
            Self::S16 => integer(16).to_le_bytes()[..2].to_vec(),
            Self::S24 => integer(24).to_le_bytes()[..3].to_vec(),
            Self::S32 => integer(32).to_le_bytes().to_vec(),
            Self::F32 => sample.to_le_bytes().to_vec(),
        }
    }
}

/// The first 44 bytes of a WAV file of `data` bytes of sound.
fn wav_header(form: Form, rate: u32, channels: u16, data: u32) -> Vec<u8> {
    let (tag, bits) = form.tags();
    let align = channels.wrapping_mul(bits / 8);
    let mut bytes = b"RIFF".to_vec();
    bytes.extend(data.saturating_add(36).to_le_bytes());
    bytes.extend(b"WAVEfmt \x10\0\0\0");
    bytes.extend([tag.to_le_bytes(), channels.to_le_bytes()].concat());
    bytes.extend([rate.to_le_bytes(), rate.wrapping_mul(align.into()).to_le_bytes()].concat());
    bytes.extend([align.to_le_bytes(), bits.to_le_bytes()].concat());
    bytes.extend(b"data");
    bytes.extend(data.to_le_bytes());
    bytes
}

/// A WAV file; `samples` are interleaved.
fn wav(form: Form, rate: u32, channels: u16, samples: &[f32]) -> Vec<u8> {
    let data: Vec<u8> = samples.iter().flat_map(|&sample| form.bytes(sample)).collect();
    [wav_header(form, rate, channels, data.len() as u32), data].concat()
}

fn file(bytes: &[u8]) -> NamedTempFile {
    let mut file = NamedTempFile::new().expect("a temporary file");
    file.write_all(bytes).expect("written");
    file
}

/// All sound of a file.
fn hear(path: &Path) -> Result<Vec<f32>, AudioError> {
    open(path, LIMIT, LONGEST_WINDOW)?.collect::<Result<Vec<_>, _>>().map(|segments| segments.concat())
}

fn hear_bytes(bytes: &[u8]) -> Result<Vec<f32>, AudioError> {
    hear(file(bytes).path())
}

fn clip(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../demo/clips").join(name)
}

fn read_clip(name: &str) -> Vec<u8> {
    std::fs::read(clip(name)).expect("a clip")
}

/// A sine of 440 Hz and half the full amplitude.
fn sine(rate: u32, samples: usize) -> Vec<f32> {
    let at = |n: usize| 0.5 * (std::f64::consts::TAU * 440.0 * n as f64 / f64::from(rate)).sin();
    (0..samples).map(|n| at(n) as f32).collect()
}

fn largest_difference(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    found.iter().zip(expected).map(|(found, expected)| (found - expected).abs()).fold(0.0, f32::max)
}
