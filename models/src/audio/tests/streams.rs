//! Files that are longer than the model's window.

use std::num::NonZeroUsize;

use super::*;

/// A WAV file of silence as a sparse file, which takes no room; `stated` bytes of sound in its header.
fn silence(seconds: u32, stated: u32) -> NamedTempFile {
    let file = file(&wav_header(Form::S16, SAMPLE_RATE, 1, stated));
    file.as_file().set_len(44 + u64::from(2 * seconds * SAMPLE_RATE)).expect("longer");
    file
}

#[test]
fn seventy_seconds_are_two_segments_and_a_third() {
    let sound = sine(SAMPLE_RATE, 70 * SAMPLE_RATE as usize);
    let file = file(&wav(Form::F32, SAMPLE_RATE, 1, &sound));
    let segments =
        open(file.path(), LIMIT, LONGEST_WINDOW).expect("opens").collect::<Result<Vec<_>, _>>().expect("decodes");
    assert_eq!(segments.iter().map(Vec::len).collect::<Vec<_>>(), [480_000, 480_000, 160_000]);
    assert_eq!(segments.concat(), sound);
}

#[test]
fn a_last_segment_too_short_to_tell_anything_is_left_out_unless_it_is_the_only_one() {
    for window in [LONGEST_WINDOW, 160_000] {
        let lengths = |samples: usize| {
            let file = file(&wav(Form::S16, SAMPLE_RATE, 1, &sine(SAMPLE_RATE, samples)));
            let segments = open(file.path(), LIMIT, window).expect("opens").collect::<Result<Vec<_>, _>>();
            segments.expect("decodes").iter().map(Vec::len).collect::<Vec<_>>()
        };
        for behind in [0, 320, 7_999] {
            assert_eq!(lengths(window + behind), [window], "{behind} samples behind the first segment");
        }
        assert_eq!(lengths(window + 8_000), [window, 8_000]);
        assert_eq!(lengths(321), [321]);
    }
}

#[test]
fn three_hours_are_refused_by_the_header() {
    let file = silence(3 * 3600, 2 * 3 * 3600 * SAMPLE_RATE);
    let error = open(file.path(), Duration::from_secs(3600), LONGEST_WINDOW).err().expect("too long");
    assert_eq!(error, AudioError::TooLong { path: file.path().to_owned(), longest: Duration::from_secs(3600) });
    assert!(error.to_string().contains("longer than the 3600 s"), "{error}");
}

#[test]
fn a_stream_without_a_length_is_refused_when_it_passes_the_limit() {
    let file = silence(3 * 3600, u32::MAX);
    let mut segments = open(file.path(), Duration::from_secs(65), LONGEST_WINDOW).expect("opens");
    let whole = segments.by_ref().take_while(|segment| segment.as_ref().is_ok_and(|one| one.len() == LONGEST_WINDOW));
    assert_eq!(whole.count(), 2);
    // `take_while` took the error; behind it there is nothing.
    assert_eq!(segments.next(), None);
    let error = spread(file.path(), Duration::from_secs(65), LONGEST_WINDOW, NonZeroUsize::MIN).expect_err("too long");
    assert!(matches!(error, AudioError::TooLong { .. }), "{error:?}");
}

#[test]
fn spread_takes_the_middle_of_equal_parts_and_all_where_there_are_few() {
    // Each segment holds its own number.
    let sound: Vec<f32> = (0..10).flat_map(|n| vec![n as f32 / 16.0; LONGEST_WINDOW]).collect();
    let file = file(&wav(Form::F32, SAMPLE_RATE, 1, &sound));
    for (count, expected) in
        [(1, vec![5]), (3, vec![1, 5, 8]), (4, vec![1, 3, 6, 8]), (10, (0..10).collect()), (11, (0..10).collect())]
    {
        let segments =
            spread(file.path(), LIMIT, LONGEST_WINDOW, NonZeroUsize::new(count).expect("not 0")).expect("decodes");
        let found: Vec<usize> = segments.iter().map(|segment| segment.start / LONGEST_WINDOW).collect();
        assert_eq!(found, expected, "{count}");
        for segment in segments {
            assert_eq!(segment.samples[0] * 16.0, (segment.start / LONGEST_WINDOW) as f32);
            assert_eq!(segment.samples.len(), LONGEST_WINDOW);
        }
    }
}
