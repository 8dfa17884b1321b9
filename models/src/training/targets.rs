//! What the encoder should hear in each of its outputs, drawn from a score.

use super::score::Score;

/// Outputs of the encoder in a second.
const RATE: f32 = 25.0;
/// The lowest pitch that has a target of its own (C2), and how many have.
const LOWEST: u8 = 36;
const PITCHES: usize = 60;
/// General MIDI families, and drums as one more.
const FAMILIES: usize = 17;
const DRUMS: usize = 16;

/// Targets of a frame, in this order: beat, downbeat, onset of a note, drum of low, middle and high sound, 12 pitch
/// classes, the lowest note's pitch class (12), pitches, families.
pub(crate) const WIDTH: usize = CLASSES + 12 + 12 + PITCHES + FAMILIES;
const CLASSES: usize = 6;

/// Which part of a frame's targets each kind has, and how much it counts.
pub(crate) const PARTS: [(&str, usize, f64); 6] = [
    ("beat", 2, 6.0),
    ("onset", 4, 4.0),
    ("chroma", 12, 4.0),
    ("bass", 12, 2.0),
    ("pitch", PITCHES, 6.0),
    ("family", FAMILIES, 4.0),
];

/// The targets of `frames` outputs (frames, [`WIDTH`]), each 0 to 1.
pub(crate) fn draw(score: &Score, frames: usize) -> Vec<f32> {
    let mut targets = vec![0f32; frames * WIDTH];
    let mut set = |frame: i64, column: usize, value: f32| {
        if (0..frames as i64).contains(&frame) {
            let target = &mut targets[frame as usize * WIDTH + column];
            *target = target.max(value);
        }
    };
    // A moment between two frames belongs to both.
    let mut moment = |time: f32, column: usize| {
        let place = time * RATE - 0.5;
        let (before, part) = (place.floor(), place - place.floor());
        set(before as i64, column, 1.0 - part);
        set(before as i64 + 1, column, part);
    };
    score.beats.iter().for_each(|&time| moment(time, 0));
    score.downbeats.iter().for_each(|&time| moment(time, 1));
    score.notes.iter().for_each(|note| moment(note.onset, 2));
    score.drums.iter().for_each(|&(time, drum)| moment(time, 3 + of_drum(drum)));

    let mut lowest = vec![u8::MAX; frames];
    let frame = |time: f32| ((time * RATE).round().max(0.0) as usize).min(frames);
    for note in &score.notes {
        let sounding = frame(note.onset)..frame(note.offset).max(frame(note.onset));
        for (row, lowest) in targets.chunks_exact_mut(WIDTH).zip(&mut lowest).skip(sounding.start).take(sounding.len())
        {
            row[CLASSES + usize::from(note.pitch % 12)] = 1.0;
            if (LOWEST..LOWEST + PITCHES as u8).contains(&note.pitch) {
                row[CLASSES + 24 + usize::from(note.pitch - LOWEST)] = 1.0;
            }
            if note.family < FAMILIES {
                row[WIDTH - FAMILIES + note.family] = 1.0;
            }
            *lowest = note.pitch.min(*lowest);
        }
    }
    for (at, pitch) in lowest.into_iter().enumerate().filter(|(_, pitch)| *pitch < u8::MAX) {
        targets[at * WIDTH + CLASSES + 12 + usize::from(pitch % 12)] = 1.0;
    }
    // A drum is heard for about a quarter of a second.
    for &(time, _) in &score.drums {
        for at in frame(time)..frame(time + 0.25) {
            targets[at * WIDTH + WIDTH - FAMILIES + DRUMS] = 1.0;
        }
    }
    targets
}

/// 0 for drums that sound low, 1 for snares and toms, 2 for metal and small percussion.
fn of_drum(drum: u8) -> usize {
    match drum {
        35 | 36 | 41 | 43 => 0,
        37..=40 | 45 | 47 | 48 | 50 => 1,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::super::score::Note;
    use super::*;

    #[test]
    fn parts_are_as_wide_as_a_frame() {
        assert_eq!(PARTS.iter().map(|(_, width, _)| width).sum::<usize>(), WIDTH);
    }

    #[test]
    fn a_score_is_drawn_where_it_sounds_and_nothing_outside_the_clip() {
        let note = |onset, offset, pitch, family| Note { onset, offset, pitch, family };
        let score = Score {
            beats: vec![0.02, 9.0],
            downbeats: vec![0.08],
            notes: vec![note(-1.0, 0.08, 48, 4), note(0.04, 5.0, 64, 0)],
            drums: vec![(0.1, 36)],
        };
        let targets = draw(&score, 4);
        let column = |column: usize| (0..4).map(|frame| targets[frame * WIDTH + column]).collect::<Vec<_>>();
        let near = |found: Vec<f32>, wanted: [f32; 4]| {
            assert!(found.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-3), "{found:?} {wanted:?}");
        };
        near(column(0), [1.0, 0.0, 0.0, 0.0]);
        near(column(1), [0.0, 0.5, 0.5, 0.0]);
        near(column(3), [0.0, 0.0, 1.0, 0.0]);
        near(column(CLASSES), [1.0, 1.0, 0.0, 0.0]);
        near(column(CLASSES + 4), [0.0, 1.0, 1.0, 1.0]);
        near(column(CLASSES + 12), [1.0, 1.0, 0.0, 0.0]);
        near(column(CLASSES + 12 + 4), [0.0, 0.0, 1.0, 1.0]);
        near(column(CLASSES + 24 + 12), [1.0, 1.0, 0.0, 0.0]);
        near(column(WIDTH - FAMILIES + 4), [1.0, 1.0, 0.0, 0.0]);
        near(column(WIDTH - 1), [0.0, 0.0, 0.0, 1.0]);
    }
}
