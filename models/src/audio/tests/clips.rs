//! Every format that is promised, and the scars that files have in the wild.

use super::*;

/// What an encoder may add at the ends of a clip, in samples: AAC's containers do not say how much it was.
const SLACK: usize = 1_600;

const CLIPS: [(&str, f64, u32); 6] = [
    ("rock-e-minor-120.wav", 4.2, 16_000),
    ("waltz-g-major-180.flac", 4.2, 44_100),
    ("swing-f-major-160.ogg", 6.2, 48_000),
    ("bossa-a-minor-132.m4a", 7.4, 44_100),
    ("country-d-major-126.mp3", 7.8, 44_100),
    ("blues-a-major-82-long.mp3", 35.4, 22_050),
];

const MP3: &str = "country-d-major-126.mp3";

#[test]
fn every_format_gives_all_of_its_sound() {
    for (name, seconds, rate) in CLIPS {
        let segments = open(&clip(name), LIMIT, LONGEST_WINDOW).expect("opens");
        assert_eq!(segments.source_rate(), rate, "{name}");
        let sound: Vec<f32> = segments.flat_map(|segment| segment.expect("decodes")).collect();
        let expected = (seconds * f64::from(SAMPLE_RATE)) as usize;
        assert!(sound.len().abs_diff(expected) <= SLACK, "{name}: {} samples, not {expected}", sound.len());
        let power = sound.iter().map(|sample| sample * sample).sum::<f32>() / sound.len() as f32;
        assert!(power.sqrt() > 0.01, "{name} is not silent: {power}");
    }
}

#[test]
fn samples_of_every_width_are_the_same_sound() {
    let expected = sine(SAMPLE_RATE, 16_000);
    let bits = [(Form::U8, 8), (Form::S16, 16), (Form::S24, 24), (Form::S32, 32), (Form::F32, 32)];
    for (form, bits) in bits {
        let found = hear_bytes(&wav(form, SAMPLE_RATE, 1, &expected)).expect("decodes");
        let difference = largest_difference(&found, &expected);
        assert!(difference <= 2f32.powi(1 - bits).max(1e-7), "{bits} bits: {difference}");
    }
}

#[test]
fn aiff_is_the_same_sound_from_the_other_end_of_its_bytes() {
    let expected = sine(SAMPLE_RATE, 16_000);
    let data: Vec<u8> = expected.iter().flat_map(|&sample| ((sample * 32_768.0) as i16).to_be_bytes()).collect();
    // One channel, 16,000 frames, 16 bits, and 16,000 Hz as an 80-bit float.
    let common = b"COMM\0\0\0\x12\0\x01\0\0\x3e\x80\0\x10\x40\x0c\xfa\0\0\0\0\0\0\0";
    let sound = [b"SSND", &(data.len() as u32 + 8).to_be_bytes()[..], &[0; 8], &data].concat();
    let length = (4 + common.len() + sound.len()) as u32;
    let found = hear_bytes(&[b"FORM", &length.to_be_bytes()[..], b"AIFF", common, &sound].concat()).expect("decodes");
    assert!(largest_difference(&found, &expected) < 1e-4);
}

#[test]
fn channels_are_averaged() {
    let interleaved: Vec<f32> = sine(SAMPLE_RATE, 16_000).iter().flat_map(|&sample| [sample, 0.25, -0.5]).collect();
    let expected: Vec<f32> = interleaved.chunks(3).map(|frame| frame.iter().sum::<f32>() / 3.0).collect();
    let found = hear_bytes(&wav(Form::F32, SAMPLE_RATE, 3, &interleaved)).expect("decodes");
    assert!(largest_difference(&found, &expected) < 1e-6);
}

#[test]
fn junk_around_an_mp3_does_not_matter() {
    let sound = hear(&clip(MP3)).expect("decodes");
    let junk = b"<html>not found</html>".repeat(100);
    let found = hear_bytes(&[&junk, read_clip(MP3).as_slice(), &junk].concat()).expect("decodes");
    assert!(largest_difference(&found[..sound.len() - 800], &sound[..sound.len() - 800]) < 1e-6);
    assert!(found.len().abs_diff(sound.len()) <= SLACK, "{} {}", found.len(), sound.len());
}

#[test]
fn a_damaged_frame_leaves_the_rest_of_an_mp3_in_its_place() {
    let sound = hear(&clip(MP3)).expect("decodes");
    let mut bytes = read_clip(MP3);
    let middle = bytes.len() / 2;
    bytes[middle..middle + 100].fill(0);
    let found = hear_bytes(&bytes).expect("decodes");
    assert_eq!(found.len(), sound.len());
    let second = SAMPLE_RATE as usize;
    assert!(largest_difference(&found[..3 * second], &sound[..3 * second]) < 1e-6);
    assert!(largest_difference(&found[5 * second..], &sound[5 * second..]) < 1e-6);
}

#[test]
fn an_mp3_that_does_not_tell_its_length_is_heard_to_its_end() {
    let bytes = read_clip(MP3);
    let tag = bytes.windows(4).position(|four| four == b"Info").expect("the encoder's tag");
    let audio = bytes[tag..].windows(2).position(|two| two == [0xff, 0xfb]).expect("the next frame");
    let sound = hear_bytes(&bytes[tag + audio..]).expect("decodes");
    assert!(sound.len() >= (7.8 * f64::from(SAMPLE_RATE)) as usize, "{}", sound.len());
}

#[test]
fn mp3_files_that_were_joined_are_heard_to_the_end_of_the_last() {
    let sound = hear(&clip(MP3)).expect("decodes");
    let found = hear_bytes(&read_clip(MP3).repeat(3)).expect("decodes");
    assert!(found.len() >= 3 * sound.len(), "{} of {}", found.len(), 3 * sound.len());
    assert!(largest_difference(&found[..sound.len() - 800], &sound[..sound.len() - 800]) < 1e-6);
}

#[test]
fn a_wav_file_from_a_pipe_ends_where_it_ends() {
    let sound = sine(SAMPLE_RATE, 16_000);
    let data: Vec<u8> = sound.iter().flat_map(|&sample| Form::S16.bytes(sample)).collect();
    let found = hear_bytes(&[wav_header(Form::S16, SAMPLE_RATE, 1, u32::MAX), data].concat()).expect("decodes");
    assert!(largest_difference(&found, &sound) < 1e-4);
}
