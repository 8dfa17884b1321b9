//! When what sounds in a clip: the labels of frames that a rendered score knows exactly.

use serde::Deserialize;

/// A clip's score; times in seconds from its start.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Score {
    /// Every quarter note.
    pub beats: Vec<f32>,
    /// The first beat of each bar.
    pub downbeats: Vec<f32>,
    /// The notes, drums aside. One may begin before the clip or end behind it.
    pub notes: Vec<Note>,
    /// Drum hits: when, and the General MIDI drum.
    pub drums: Vec<(f32, u8)>,
}

/// A note.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(from = "(f32, f32, u8, usize)")]
pub struct Note {
    /// When it begins.
    pub onset: f32,
    /// When it ends.
    pub offset: f32,
    /// Its MIDI pitch.
    pub pitch: u8,
    /// Its General MIDI family, 0 to 15.
    pub family: usize,
}

impl From<(f32, f32, u8, usize)> for Note {
    fn from((onset, offset, pitch, family): (f32, f32, u8, usize)) -> Self {
        Self { onset, offset, pitch, family }
    }
}

impl Score {
    /// As it is when played `factor` times as fast.
    pub(crate) fn faster(mut self, factor: f32) -> Self {
        self.map_times(|time| time / factor);
        self
    }

    /// As it is when heard from `start` on.
    pub(crate) fn from(mut self, start: f32) -> Self {
        self.map_times(|time| time - start);
        self
    }

    /// As it is so many semitones higher.
    pub(crate) fn transposed(mut self, semitones: i8) -> Self {
        self.notes.iter_mut().for_each(|note| note.pitch = note.pitch.saturating_add_signed(semitones));
        self
    }

    fn map_times(&mut self, map: impl Fn(f32) -> f32) {
        self.beats.iter_mut().chain(&mut self.downbeats).for_each(|time| *time = map(*time));
        self.drums.iter_mut().for_each(|(time, _)| *time = map(*time));
        self.notes.iter_mut().for_each(|note| (note.onset, note.offset) = (map(note.onset), map(note.offset)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_score_moves_with_tempo_pitch_and_crop() {
        let note = Note { onset: 2.0, offset: 3.0, pitch: 60, family: 0 };
        let score = Score { beats: vec![1.0, 2.0], downbeats: vec![1.0], notes: vec![note], drums: vec![(2.0, 35)] };
        let moved = score.faster(2.0).transposed(-3).from(0.5);
        assert_eq!((moved.beats, moved.downbeats), (vec![0.0, 0.5], vec![0.0]));
        assert_eq!(moved.notes, [Note { onset: 0.5, offset: 1.0, pitch: 57, family: 0 }]);
        assert_eq!(moved.drums, [(0.5, 35)]);
    }
}
