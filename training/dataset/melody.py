"""A random tune over a progression: chord tones on the strong beats, steps of the scale between them."""

from harmony import chord_tones

_SCALES = {"major": (0, 2, 4, 5, 7, 9, 11), "minor": (0, 2, 3, 5, 7, 8, 10)}
_BLUES = (0, 3, 5, 6, 7, 10)
# Rhythms in quarter notes by the length of a bar; a negative one is a rest.
_RHYTHMS = {
    4: ((1, 1, 1, 1), (2, 2), (2, 1, 1), (1.5, 0.5, 1, 1), (0.5,) * 8, (3, -1), (1, 0.5, 0.5, 1, -1), (-1, 1, 1, 1),
        (1.5, 1.5, 1), (0.5, 0.5, 1, 2), (4,), (-0.5, 0.5, 0.5, 0.5, 1, 1), (0.75, 0.25, 0.75, 0.25, 2)),
    3: ((1, 1, 1), (2, 1), (3,), (1.5, 0.5, 1), (0.5,) * 6, (1, -1, 1), (-1, 1, 1), (1, 0.5, 0.5, 1)),
    2: ((1, 1), (2,), (0.5, 0.5, 1), (1.5, 0.5), (0.5,) * 4),
}


def melody(rng, bars, mode, genre, beats_per_bar, tonic, swung):
    """Notes as (start, end, pitch, velocity), times in beats."""
    scale = _BLUES if genre == "blues" and rng.random() < 0.7 else _SCALES[mode]
    centre = int(rng.integers(62, 78))
    # A tune comes back to few rhythms; that is what makes it one.
    rhythms = _RHYTHMS[beats_per_bar]
    own = [rhythms[index] for index in rng.choice(len(rhythms), 3, replace=False)]
    pitch, notes = centre, []
    for number, bar in enumerate(bars):
        beat = 0.0
        for length in own[rng.integers(len(own))]:
            if length > 0:
                chord = bar[min(int(beat * len(bar) / beats_per_bar), len(bar) - 1)]
                classes = chord_tones(chord) if beat == int(beat) and rng.random() < 0.75 else scale
                pitch = _near(rng, pitch, classes, tonic, centre)
                start = number * beats_per_bar + (_swing(beat) if swung else beat)
                end = number * beats_per_bar + beat + length * rng.uniform(0.6, 1.0)
                notes.append((start, max(end, start + 0.15), pitch, int(rng.integers(70, 115))))
            beat += abs(length)
    return notes


def _near(rng, pitch, classes, tonic, centre):
    """A pitch of the classes near the last one, drawn back to the centre of the range."""
    target = pitch + rng.normal(0, 3) + 0.15 * (centre - pitch)
    candidates = [note for note in range(centre - 14, centre + 15) if (note - tonic) % 12 in classes and note != pitch]
    return min(candidates, key=lambda note: abs(note - target))


def _swing(beat):
    """Moves the second eighth of a beat to its last third."""
    return beat + 1 / 6 if beat % 1 == 0.5 else beat
