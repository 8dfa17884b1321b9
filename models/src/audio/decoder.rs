//! A file's sound, decoded packet by packet and mixed to one channel.
//!
//! Whether a file is whole: an upload that was cut in half is not the upload, so a twentieth at most may be missing of
//! what the header promises, and a twentieth at most of the packets may be damaged. Those become silence, so that what
//! follows keeps its place. Bytes before and after the sound (tags, junk) do not matter, and sound behind the end that
//! an MP3 file's header tells of is heard: such files were joined.

use std::fs::File;
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use symphonia::core::codecs::audio::well_known::CODEC_ID_OPUS;
use symphonia::core::codecs::audio::{AudioDecoder, AudioDecoderOptions};
use symphonia::core::errors::Error;
use symphonia::core::formats::well_known::{
    FORMAT_ID_ADTS, FORMAT_ID_AIFF, FORMAT_ID_MP1, FORMAT_ID_MP2, FORMAT_ID_MP3, FORMAT_ID_OGG, FORMAT_ID_WAVE,
};
use symphonia::core::formats::{FormatOptions, FormatReader, Track, TrackType};
use symphonia::core::io::MediaSourceStream;
use symphonia::core::meta::MetadataOptions;
use symphonia::core::packet::Packet;
use symphonia::default::{get_codecs, get_probe};

use super::AudioError;

/// Sample rates that a recording can have, in Hz.
const RATES: std::ops::RangeInclusive<u32> = 1_000..=384_000;
/// More channels than any microphone array or mix has.
const MOST_CHANNELS: usize = 64;
/// The largest magnitude of a sample: 16-bit numbers that nobody scaled still pass.
const LOUDEST: f32 = 65_536.0;
/// One part in so many may be missing or damaged.
const SPARE_PART: u32 = 20;
/// What to do with a file of another kind.
const CONVERT: &str = "convert it to WAV, FLAC, MP3, Ogg Vorbis, M4A (AAC or ALAC) or AIFF";

/// A file that is being decoded.
pub(super) struct Decoder {
    path: PathBuf,
    longest: Duration,
    format: Box<dyn FormatReader>,
    track: u32,
    codec: Box<dyn AudioDecoder>,
    /// The length that the header promises, in seconds.
    promised: Option<f64>,
    /// The length decoded so far, in seconds.
    heard: f64,
    packets: u64,
    damaged: u64,
    interleaved: Vec<f32>,
    mono: Vec<f32>,
}

/// A piece of sound, one channel.
pub(super) struct Sound<'a> {
    /// Samples a second.
    pub(super) rate: u32,
    pub(super) samples: &'a [f32],
}

impl Decoder {
    /// Opens a file and reads its headers.
    pub(super) fn open(path: &Path, longest: Duration) -> Result<Self, AudioError> {
        let unreachable = |error| AudioError::unreachable(path, &error);
        // Asked before opening: to open a pipe is to wait for its writer.
        let metadata = std::fs::metadata(path).map_err(unreachable)?;
        if !metadata.is_file() {
            let reason = "it is no regular file".to_owned();
            return Err(AudioError::Unreachable { path: path.to_owned(), kind: ErrorKind::InvalidInput, reason });
        }
        if metadata.len() == 0 {
            return Err(AudioError::undecodable(path, "it is empty: upload it again"));
        }
        let file = File::open(path).map_err(unreachable)?;
        guarded(path, || Self::read_headers(path, file, metadata.len(), longest))
    }

    fn read_headers(path: &Path, file: File, bytes: u64, longest: Duration) -> Result<Self, AudioError> {
        let stream = MediaSourceStream::new(Box::new(file), Default::default());
        let (format, metadata) = (FormatOptions::default(), MetadataOptions::default());
        let format = get_probe().probe(&Default::default(), stream, format, metadata).map_err(|error| match error {
            Error::Unsupported(reason) if reason.contains("probe") => {
                AudioError::undecodable(path, format!("no audio was found in it: {CONVERT}"))
            }
            error => failure(path, error),
        })?;
        let (track, codec) = choose_track(path, format.as_ref())?;
        let stated = stated_length(path, format.as_ref(), track, bytes)?;
        if stated.is_some_and(|length| length > longest.as_secs_f64()) {
            return Err(AudioError::TooLong { path: path.to_owned(), longest });
        }
        Ok(Self {
            path: path.to_owned(),
            longest,
            // An Ogg stream's length is that of the pages that were found, which promises nothing; its last page is
            // marked. A WAV file that was written to a pipe has no length and ends where it ends.
            promised: match format.format_info().format {
                FORMAT_ID_OGG => None,
                FORMAT_ID_WAVE => Some(stated.unwrap_or(0.0)),
                _ => stated,
            },
            format,
            track,
            codec,
            heard: 0.0,
            packets: 0,
            damaged: 0,
            interleaved: Vec::new(),
            mono: Vec::new(),
        })
    }

    /// The file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The sound of the next packet; `None` at the end of a file that was whole.
    pub(super) fn next(&mut self) -> Result<Option<Sound<'_>>, AudioError> {
        let path = self.path.clone();
        let rate = guarded(&path, || self.decode_packet())?;
        Ok(rate.map(|rate| Sound { rate, samples: &self.mono }))
    }

    /// Decodes the next packet into `self.mono` and returns its sample rate.
    fn decode_packet(&mut self) -> Result<Option<u32>, AudioError> {
        loop {
            let mut packet = match self.format.next_packet() {
                Ok(Some(packet)) if packet.track_id == self.track => packet,
                Ok(Some(_)) => continue,
                Ok(None) => return self.check_whole(true).map(|()| None),
                // One Ogg stream after another.
                Err(Error::ResetRequired) => {
                    (self.track, self.codec) = choose_track(&self.path, self.format.as_ref())?;
                    continue;
                }
                Err(Error::IoError(error)) if error.kind() == ErrorKind::UnexpectedEof => {
                    return self.check_whole(false).map(|()| None);
                }
                Err(error) => return Err(failure(&self.path, error)),
            };
            if is_mpeg(self.format.as_ref()) && packet.trim_end >= packet.dur {
                packet.trim_end = symphonia::core::units::Duration::ZERO;
            }
            let rate = self.mix(&packet)?;
            self.heard += self.mono.len() as f64 / f64::from(rate);
            if self.heard > self.longest.as_secs_f64() {
                return Err(AudioError::TooLong { path: self.path.clone(), longest: self.longest });
            }
            return Ok(Some(rate));
        }
    }

    /// Decodes a packet, or stands in for it with as much silence as the packet before it had sound.
    fn mix(&mut self, packet: &Packet) -> Result<u32, AudioError> {
        self.packets += 1;
        let buffer = match self.codec.decode(packet) {
            Ok(buffer) => buffer,
            Err(Error::DecodeError(_) | Error::IoError(_)) => {
                self.damaged += 1;
                self.mono.fill(0.0);
                let rate = self.codec.codec_params().sample_rate;
                return rate.ok_or_else(|| AudioError::undecodable(&self.path, "its first packet is damaged"));
            }
            Err(error) => return Err(failure(&self.path, error)),
        };
        let (rate, channels) = (buffer.spec().rate(), buffer.spec().channels().count());
        check_form(&self.path, Some(rate), Some(channels))?;
        buffer.copy_to_vec_interleaved(&mut self.interleaved);
        self.mono.clear();
        let mean = |frame: &[f32]| frame.iter().sum::<f32>() / channels as f32;
        self.mono.extend(self.interleaved.chunks_exact(channels).map(mean));
        // NaN is not below the limit either.
        if !self.mono.iter().all(|sample| sample.abs() <= LOUDEST) {
            let reason = format!("it holds samples that are no number or beyond ±{LOUDEST}: export it again");
            return Err(AudioError::undecodable(&self.path, reason));
        }
        Ok(rate)
    }

    /// At the end: whether this was all of the upload. `marked`: the file says that it ends here.
    fn check_whole(&self, marked: bool) -> Result<(), AudioError> {
        if self.damaged * u64::from(SPARE_PART) > self.packets {
            let reason = format!("{} of its {} packets are damaged: upload it again", self.damaged, self.packets);
            return Err(AudioError::undecodable(&self.path, reason));
        }
        let whole = match self.promised {
            Some(promised) => promised - self.heard <= promised / f64::from(SPARE_PART),
            None => marked,
        };
        if whole {
            return Ok(());
        }
        let promised = self.promised.map(|promised| format!(" of the {promised:.1} s that its header promises"));
        let reason = format!("it ends after {:.1} s{}: upload all of it", self.heard, promised.unwrap_or_default());
        Err(AudioError::undecodable(&self.path, reason))
    }
}

/// A panic inside a decoder is the failure of one upload, not of the process.
pub(super) fn guarded<T>(path: &Path, work: impl FnOnce() -> Result<T, AudioError>) -> Result<T, AudioError> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(AudioError::undecodable(path, format!("its decoder gave up: {CONVERT}"))))
}

/// A decoder's error. Those that bear the system's number are the disk's, all others are the file's own.
fn failure(path: &Path, error: Error) -> AudioError {
    match error {
        Error::IoError(error) if error.raw_os_error().is_some() => AudioError::unreachable(path, &error),
        Error::IoError(error) if error.kind() == ErrorKind::UnexpectedEof => {
            AudioError::undecodable(path, "it ends inside its headers: upload all of it")
        }
        error => AudioError::undecodable(path, format!("{error}: upload all of it again, or {CONVERT}")),
    }
}

/// The track to hear, and a decoder for it.
fn choose_track(path: &Path, format: &dyn FormatReader) -> Result<(u32, Box<dyn AudioDecoder>), AudioError> {
    let undecodable = |reason: String| AudioError::undecodable(path, reason);
    let track = format.default_track(TrackType::Audio);
    let track = track.ok_or_else(|| undecodable(format!("it has no audio track: {CONVERT}")))?;
    let codec = track.codec_params.as_ref().and_then(|codec| codec.audio());
    let codec = codec.ok_or_else(|| undecodable(format!("its codec is not known: {CONVERT}")))?;
    if codec.codec == CODEC_ID_OPUS {
        return Err(undecodable(format!("Opus is not supported: {CONVERT}")));
    }
    check_form(path, codec.sample_rate, codec.channels.as_ref().map(|channels| channels.count()))?;
    let options = AudioDecoderOptions::default().gapless(!is_estimated(format, track));
    let decoder = get_codecs().make_audio_decoder(codec, &options).map_err(|error| failure(path, error))?;
    Ok((track.id, decoder))
}

/// Refuses a form that no recording has, before buffers are made for it.
fn check_form(path: &Path, rate: Option<u32>, channels: Option<usize>) -> Result<(), AudioError> {
    if let Some(rate) = rate.filter(|rate| !RATES.contains(rate)) {
        let reason = format!("its sample rate is {rate} Hz, outside {} to {}", RATES.start(), RATES.end());
        return Err(AudioError::undecodable(path, reason));
    }
    if let Some(channels) = channels.filter(|channels| !(1..=MOST_CHANNELS).contains(channels)) {
        let reason = format!("it has {channels} channels, not 1 to {MOST_CHANNELS}");
        return Err(AudioError::undecodable(path, reason));
    }
    Ok(())
}

/// Whether a track's length is a guess from its first bit rate: neither to be held to, nor a reason to cut the end off.
/// An MP3 file tells its length together with its encoder's delay.
fn is_estimated(format: &dyn FormatReader, track: &Track) -> bool {
    is_mpeg(format) && track.delay.is_none() || format.format_info().format == FORMAT_ID_ADTS
}

/// Whether this is an MP3 file, or one of its older layers.
fn is_mpeg(format: &dyn FormatReader) -> bool {
    matches!(format.format_info().format, FORMAT_ID_MP1 | FORMAT_ID_MP2 | FORMAT_ID_MP3)
}

/// The length in seconds that the headers state, where it is no estimate.
fn stated_length(path: &Path, format: &dyn FormatReader, id: u32, bytes: u64) -> Result<Option<f64>, AudioError> {
    let track = format.tracks().iter().find(|track| track.id == id).filter(|track| !is_estimated(format, track));
    let Some((track, length, unit)) = track.and_then(|track| Some((track, track.duration?, track.time_base?))) else {
        return Ok(None);
    };
    let length_s = unit.calc_duration_saturating(length).as_secs_f64();
    let is_pcm = matches!(format.format_info().format, FORMAT_ID_WAVE | FORMAT_ID_AIFF);
    let codec = track.codec_params.as_ref().and_then(|codec| codec.audio());
    let channels = codec.and_then(|codec| codec.channels.as_ref()).map_or(1, |channels| channels.count() as u64);
    // No codec of theirs spends less than four bits on a sample.
    if is_pcm && length.get().saturating_mul(channels) / 2 > bytes {
        let reason = format!("its header promises {length_s:.1} s, but it has {bytes} bytes: upload all of it");
        return Err(AudioError::undecodable(path, reason));
    }
    Ok(Some(length_s))
}
