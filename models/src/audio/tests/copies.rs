//! Fingerprints of real music: copies by other codecs are found, and nothing else is.

use super::*;

/// Clips, and what ffmpeg made of them with another codec, rate or number of channels, at about the lowest quality that
/// anybody uses.
const COPIES: [(&str, &str); 2] =
    [("swing-f-major-160.ogg", "swing-f-major-160.mp3"), ("bossa-a-minor-132.m4a", "bossa-a-minor-132.ogg")];

/// Further clips that are long enough to have a fingerprint.
const OTHERS: [&str; 2] = ["country-d-major-126.mp3", "blues-a-major-82-long.mp3"];

/// Pieces of synthesised music.
const PIECES: u64 = 40;
const RATE: u32 = 16_000;
const SECONDS: f64 = 10.0;

fn fingerprint(path: &Path) -> Option<Fingerprint> {
    Fingerprint::of(path, LIMIT).expect("it is heard")
}

/// What the cache does: some number is shared, and it is the same from one end to the other.
fn is_found(copy: &Fingerprint, original: &Fingerprint) -> bool {
    let sketch = original.sketch();
    copy.sketch().iter().any(|value| sketch.contains(value)) && copy.is_copy_of(original)
}

#[test]
fn a_clip_by_another_codec_is_found_and_no_other_clip_is() {
    let copy = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/copies").join(name);
    let originals = COPIES.map(|(name, _)| fingerprint(&clip(name)).expect("it is long enough"));
    let copies = COPIES.map(|(_, name)| fingerprint(&copy(name)).expect("it is long enough"));
    for (m, copy) in copies.iter().enumerate() {
        for (n, original) in originals.iter().enumerate() {
            assert_eq!(is_found(copy, original), n == m, "{:?} of {:?}", COPIES[m].1, COPIES[n].0);
        }
        for name in OTHERS {
            let other = fingerprint(&clip(name)).expect("it is long enough");
            assert!(!is_found(copy, &other), "{:?} of {name}", COPIES[m].1);
        }
    }
}

#[test]
fn what_is_short_or_monotonous_has_no_fingerprint() {
    assert_eq!(fingerprint(&clip("rock-e-minor-120.wav")), None, "it has 4.2 s");
    for sound in [vec![0.0; 30 * RATE as usize], sine(RATE, 30 * RATE as usize)] {
        assert_eq!(fingerprint(file(&wav(Form::S16, RATE, 1, &sound)).path()), None);
    }
}

#[test]
fn what_is_no_audio_has_an_error() {
    assert!(Fingerprint::of(file(b"no sound").path(), LIMIT).is_err());
    assert!(Fingerprint::of(&clip("blues-a-major-82-long.mp3"), Duration::from_secs(10)).is_err(), "it is too long");
}

/// A piece of chords, four voices each, of a timbre and a tempo of its own.
fn piece(seed: u64) -> Vec<f32> {
    let mut random = fastrand::Rng::with_seed(seed);
    let chord_s = 60.0 / f64::from(random.u32(70..180)) * 2.0;
    let chords: Vec<[f64; 4]> = (0..(SECONDS / chord_s) as usize + 1)
        .map(|_| std::array::from_fn(|_| 440.0 * 2f64.powf(f64::from(random.i32(-24..24)) / 12.0)))
        .collect();
    let overtones: [f64; 4] = std::array::from_fn(|_| random.f64());
    let at = |n: usize| {
        let time = n as f64 / f64::from(RATE);
        let (chord, since) = (&chords[(time / chord_s) as usize], time % chord_s);
        let voice = |frequency: &f64| -> f64 {
            let tone =
                |(n, loud): (usize, &f64)| loud * (std::f64::consts::TAU * frequency * (n + 1) as f64 * time).sin();
            overtones.iter().enumerate().map(tone).sum()
        };
        (chord.iter().map(voice).sum::<f64>() * 0.05 * (-2.0 * since).exp()) as f32
    };
    (0..(SECONDS * f64::from(RATE)) as usize).map(at).collect()
}

/// Quieter, with noise 40 dB below the loudest, every third sample left out and in 8 bits.
fn worn(piece: &[f32], seed: u64) -> Vec<f32> {
    let mut random = fastrand::Rng::with_seed(seed);
    let loudest = piece.iter().fold(0f32, |loudest, sample| loudest.max(sample.abs()));
    let noisy = |sample: f32| 0.7 * sample + 0.01 * loudest * (random.f32() - 0.5);
    let samples: Vec<f32> = piece.iter().copied().map(noisy).collect();
    // Two of three, the second in the middle of those that it stands for.
    samples.chunks_exact(3).flat_map(|three| [three[0], f32::midpoint(three[1], three[2])]).collect()
}

#[test]
fn hundreds_of_pieces_are_told_apart_and_many_are_found_again_when_they_are_worn() {
    let originals: Vec<_> = (0..PIECES)
        .map(|seed| fingerprint(file(&wav(Form::S16, RATE, 1, &piece(seed))).path()).expect("it is long enough"))
        .collect();
    let rate = RATE / 3 * 2;
    let copies: Vec<_> = (0..PIECES)
        .map(|seed| fingerprint(file(&wav(Form::U8, rate, 1, &worn(&piece(seed), seed))).path()).expect("long enough"))
        .collect();
    let (mut found, mut pairs) = (0, 0);
    for (n, original) in originals.iter().enumerate() {
        for (m, copy) in copies.iter().enumerate() {
            if n == m {
                found += usize::from(is_found(copy, original));
            } else {
                assert!(!copy.is_copy_of(original), "piece {m} is not piece {n}");
                pairs += 1;
            }
        }
    }
    println!("{found} of {PIECES} worn copies found, none of {pairs} other pairs");
    // What is missed is asked about again; what is mixed up would be wrong.
    assert!(found * 5 >= originals.len() * 2, "only {found} of {PIECES} were found");
}
