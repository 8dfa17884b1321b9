//! What is refused, and with which words. Nothing panics, and nothing is guessed at.

use proptest::prelude::*;
use records::{ErrorType, Fault, FaultClass};

use super::*;

/// Asserts a permanent failure to decode, with `word` in its message.
fn assert_undecodable(bytes: &[u8], word: &str) {
    let error = hear_bytes(bytes).expect_err(word);
    assert!(matches!(error, AudioError::Undecodable { .. }), "{error:?}");
    assert!(error.to_string().contains(word), "{error}");
}

#[test]
fn a_file_without_a_byte_is_refused() {
    assert_undecodable(b"", "empty");
}

#[test]
fn text_that_calls_itself_wav_is_refused() {
    let named = tempfile::Builder::new().suffix(".wav").tempfile().expect("a temporary file");
    std::fs::write(named.path(), "dear diary, ".repeat(1000)).expect("written");
    let error = hear(named.path()).expect_err("no audio").to_string();
    assert!(error.contains("no audio was found") && error.contains(".wav"), "{error}");
}

#[test]
fn a_file_that_is_not_there_and_a_folder_are_permanent_faults() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for path in [folder.path().join("absent.wav"), folder.path().to_owned()] {
        let error = hear(&path).expect_err("nothing to read");
        assert!(error.to_string().contains(&path.display().to_string()), "{error}");
        let fault = Fault::from(error);
        assert_eq!((fault.class, fault.error_type), (FaultClass::Permanent, ErrorType::AudioUnreachable));
    }
}

#[test]
fn a_file_that_was_cut_in_half_is_refused() {
    let sound = sine(SAMPLE_RATE, 32_000);
    let wav = wav(Form::S16, SAMPLE_RATE, 1, &sound);
    assert_undecodable(&wav[..wav.len() / 2], "upload all of it");
    for name in [
        "waltz-g-major-180.flac",
        "swing-f-major-160.ogg",
        "bossa-a-minor-132.m4a",
        "country-d-major-126.mp3",
        "blues-a-major-82-long.mp3",
    ] {
        let bytes = read_clip(name);
        assert_undecodable(&bytes[..bytes.len() / 2], "upload all of it");
    }
}

#[test]
fn a_file_that_lacks_a_few_samples_at_its_end_is_heard() {
    let wav = wav(Form::S16, SAMPLE_RATE, 1, &sine(SAMPLE_RATE, 32_000));
    let sound = hear_bytes(&wav[..wav.len() - 2 * 500]).expect("decodes");
    assert_eq!(sound.len(), 31_500);
}

#[test]
fn a_file_of_damaged_packets_is_refused() {
    let mut bytes = read_clip("country-d-major-126.mp3");
    let headers: Vec<usize> = (4_000..bytes.len() - 2).filter(|&at| bytes[at..at + 2] == [0xff, 0xfb]).collect();
    for header in headers.into_iter().step_by(4) {
        bytes[header + 4..header + 40].fill(0xff);
    }
    assert_undecodable(&bytes, "upload");
}

#[test]
fn absurd_headers_are_refused() {
    let data = [0; 4_000];
    let with = |rate: u32, channels: u16| [&wav_header(Form::S16, rate, channels, 4_000)[..], &data].concat();
    assert_undecodable(&with(0, 1), "0 Hz");
    assert_undecodable(&with(4_000_000_000, 1), "4000000000 Hz");
    assert_undecodable(&with(SAMPLE_RATE, 0), "channel");
    assert_undecodable(&with(SAMPLE_RATE, 1_000), "channel");
    // The decoder's arithmetic overflows, and its panic stays here.
    assert_undecodable(&with(SAMPLE_RATE, 65_535), "gave up");
    let longer = [&wav_header(Form::S16, SAMPLE_RATE, 1, 2_000_000_000)[..], &data].concat();
    assert_undecodable(&longer, "upload all of it");
}

#[test]
fn samples_that_are_no_numbers_are_refused() {
    for sample in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e30] {
        let mut samples = sine(SAMPLE_RATE, 16_000);
        samples[7_000] = sample;
        assert_undecodable(&wav(Form::F32, SAMPLE_RATE, 1, &samples), "no number");
    }
}

#[test]
fn sound_below_three_spectra_is_too_short_and_above_is_not() {
    for samples in [1, 320] {
        let error = hear_bytes(&wav(Form::S16, SAMPLE_RATE, 1, &sine(SAMPLE_RATE, samples))).expect_err("too short");
        assert!(matches!(error, AudioError::TooShort { samples: found, .. } if found == samples), "{error:?}");
    }
    let error = hear_bytes(&wav_header(Form::S16, SAMPLE_RATE, 1, 0)).expect_err("nothing");
    assert!(matches!(error, AudioError::TooShort { samples: 0, .. }), "{error:?}");
    let sound = hear_bytes(&wav(Form::S16, SAMPLE_RATE, 1, &sine(SAMPLE_RATE, 321))).expect("decodes");
    assert_eq!(LogMel::new(128, LONGEST_WINDOW).mel(&sound).frames, 3);
}

#[test]
fn opus_is_named_as_what_is_not_supported() {
    let head = b"OpusHead\x01\x01\0\0\x80\xbb\0\0\0\0\0";
    let tags = b"OpusTags\x01\0\0\0x\0\0\0\0";
    let pages = [page(2, 0, head), page(0, 1, tags), page(4, 2, &[0xfc; 40])];
    assert_undecodable(&pages.concat(), "Opus is not supported: convert it to WAV");
}

/// An Ogg page with one packet.
fn page(flags: u8, sequence: u8, packet: &[u8]) -> Vec<u8> {
    let mut page = b"OggS\0".to_vec();
    page.push(flags);
    page.extend([0; 8]);
    page.extend([7, 0, 0, 0, sequence, 0, 0, 0, 0, 0, 0, 0, 1, packet.len() as u8]);
    page.extend(packet);
    let sum = page.iter().fold(0u32, |sum, &byte| {
        (0..8).fold(sum ^ u32::from(byte) << 24, |sum, _| sum << 1 ^ if sum >> 31 == 1 { 0x04c1_1db7 } else { 0 })
    });
    page[22..26].copy_from_slice(&sum.to_le_bytes());
    page
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..Default::default() })]

    #[test]
    fn arbitrary_bytes_end_in_sound_or_an_error(
        start in prop::sample::select(vec![
            &b"RIFF\0\0\0\0WAVEfmt "[..], b"fLaC", b"OggS", b"\xff\xfb\x90\0", b"\0\0\0\x10ftyp", b"FORM", b"",
        ]),
        bytes in prop::collection::vec(any::<u8>(), 0..4_000),
    ) {
        if let Ok(sound) = hear_bytes(&[start, &bytes].concat()) {
            prop_assert!(sound.iter().all(|sample| sample.is_finite()));
        }
    }

    #[test]
    fn files_with_wrong_bytes_end_in_sound_or_an_error(
        name in prop::sample::select(vec![
            "rock-e-minor-120.wav",
            "waltz-g-major-180.flac",
            "swing-f-major-160.ogg",
            "bossa-a-minor-132.m4a",
            "country-d-major-126.mp3",
        ]),
        places in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
        headers in prop::collection::vec((0..600usize, any::<u8>()), 0..4),
    ) {
        let mut bytes = read_clip(name);
        for (place, byte) in places {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        for (place, byte) in headers {
            bytes[place] = byte;
        }
        if let Ok(sound) = hear_bytes(&bytes) {
            prop_assert!(sound.iter().all(|sample| sample.is_finite()));
        }
    }
}
