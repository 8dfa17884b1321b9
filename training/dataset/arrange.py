"""From a piece to one clip: key, tempo, players and crop are drawn, and what the score says of the crop is kept."""

from dataclasses import dataclass

import numpy as np

import synth

FAMILIES = (
    "piano", "chromatic percussion", "organ", "guitar", "bass", "strings", "ensemble", "brass", "reed", "pipe",
    "synth lead", "synth pad", "synth effects", "ethnic", "percussive", "sound effects", "drums",
)
DRUMS = FAMILIES.index("drums")
MOST_FAMILIES = 8
# Rendered before the crop, so that notes and echoes ring into it.
PREROLL_SECONDS = 1.5

# General MIDI programs that may stand for one another; timpani, orchestra hit, guitar noises and sound effects may not.
_EXCHANGEABLE = (
    *(range(first, first + 8) for first in (0, 8, 16)), range(24, 31), range(32, 40), range(40, 46), range(48, 55),
    *(range(first, first + 8) for first in (56, 64, 72, 80, 88, 96)), range(104, 110),
)
# Players of chords that may stand for one another across families, so that no genre is told by its players alone.
_CHORD_PLAYERS = (0, 4, 5, 6, 11, 12, 16, 18, 21, 24, 25, 26, 27, 46, 48, 50, 51, 61, 81, 88, 89, 90, 95, 99)
_TUNE_PLAYERS = (
    0, 2, 4, 9, 11, 12, 13, 16, 18, 21, 22, 24, 25, 26, 27, 29, 30, 40, 41, 42, 46, 48, 52, 53, 56, 57, 58, 60, 61, 64,
    65, 66, 67, 68, 70, 71, 72, 73, 74, 75, 78, 79, 80, 81, 82, 84, 85, 87, 88, 98, 104, 105, 107, 108, 109, 110, 112,
    114,
)
_USUAL_TUNE_PLAYERS = {
    "rock": (27, 29, 30, 26, 18), "jazz": (65, 66, 56, 59, 26, 0, 11, 71), "blues": (22, 27, 66, 26, 29),
    "latin": (73, 24, 56, 21, 66), "country": (25, 105, 110, 22, 40), "waltz": (40, 21, 73, 0, 71),
    "march": (56, 72, 57, 60, 71), "ballad": (0, 4, 48, 73, 66), "electronic": (80, 81, 84, 87, 62),
    "soul": (65, 61, 4, 18, 56),
}
_KITS = (0, 8, 16, 24, 25, 32, 40)
_BASS_BELOW = 48


@dataclass(frozen=True)
class Arrangement:
    """A clip before it sounds. Times in seconds from its start; the family of a voice is `families[voice.stem]`."""

    voices: list
    families: list
    tempo_bpm: int
    tonic: int
    beats: np.ndarray
    downbeats: np.ndarray
    notes: list
    drums: list


def arrange(rng, piece, style, seconds, fonts):
    """Draws a clip of the piece, played with the fonts (one or two of their names)."""
    tempo = int(round(np.exp(rng.uniform(np.log(style.slowest), np.log(style.fastest)))))
    tonic = int(rng.integers(12))
    transposition = (tonic - piece.tonic + 6) % 12 - 6
    beat_seconds = 60 / tempo
    start = rng.uniform(0, piece.beats)
    span = (start - PREROLL_SECONDS / beat_seconds, start + seconds / beat_seconds)

    players = [(part, *_player(rng, part, style.genre)) for part in _present(rng, piece.parts)]
    families = sorted({family for _, _, family in players})
    # The whole players of a family leave, as a clip has room for so many in its answer.
    while len(families) > MOST_FAMILIES:
        families.pop(rng.integers(len(families)))

    voices, notes, drums = [], [], []
    for part, program, family in players:
        if family not in families:
            continue
        times, pitches, velocities = _heard(part, piece.beats, span)
        times = (times - start) * beat_seconds
        if family == DRUMS:
            drums += [[round(at, 3), int(pitch)] for at, pitch in zip(times[:, 0], pitches) if 0 <= at < seconds]
        else:
            pitches = _in_range(pitches + transposition)
            notes += [[round(on, 3), round(off, 3), int(pitch), family]
                      for (on, off), pitch in zip(times, pitches) if off > 0]
        voices.append(synth.Voice(
            stem=families.index(family), font=fonts[rng.integers(len(fonts))], program=program, drums=family == DRUMS,
            volume=int(rng.integers(70, 127)), shape=_shape(rng), events=_events(times, pitches, velocities),
        ))
    beats = _grid(start, span[1], 1)
    downbeats = _grid(start, span[1], piece.beats_per_bar)
    return Arrangement(voices, families, tempo, tonic, (beats - start) * beat_seconds,
                       (downbeats - start) * beat_seconds, sorted(notes), sorted(drums))


def _present(rng, parts):
    """Leaves some parts out, never the last two pitched ones."""
    kept = [part for part in parts if rng.random() > {"tune": 0.3, "drums": 0.08, "accompaniment": 0.15}[part.role]]
    return kept if sum(part.role != "drums" for part in kept) >= 2 else parts


def _player(rng, part, genre):
    """The program that plays a part, and its family."""
    if part.role == "drums":
        return int(_KITS[rng.integers(len(_KITS))] if rng.random() < 0.5 else 0), DRUMS
    program = part.program
    if part.role == "tune":
        pool = _USUAL_TUNE_PLAYERS[genre] if rng.random() < 0.5 else _TUNE_PLAYERS
        program = pool[rng.integers(len(pool))]
    else:
        alike = next((programs for programs in _EXCHANGEABLE if program in programs), None)
        drawn = rng.random()
        if alike is not None and drawn < 0.35:
            program = alike[rng.integers(len(alike))]
        elif alike is not None and drawn < 0.45 and np.median(part.notes[:, 2]) >= _BASS_BELOW:
            program = _CHORD_PLAYERS[rng.integers(len(_CHORD_PLAYERS))]
    return int(program), int(program) // 8


def _heard(part, length, span):
    """The notes of the looped part that sound within the span of beats: times, pitches, velocities."""
    rounds = np.arange(np.floor(span[0] / length) - 1, np.ceil(span[1] / length) + 1)
    times = (part.notes[None, :, :2] + rounds[:, None, None] * length).reshape(-1, 2)
    rows = np.tile(part.notes[:, 2:], (len(rounds), 1)).astype(int)
    inside = (times[:, 1] > span[0]) & (times[:, 0] < span[1])
    return times[inside], rows[inside, 0], rows[inside, 1]


def _in_range(pitches):
    """Folds by octaves what MIDI has no pitch for."""
    return np.where(pitches < 12, pitches + 12, np.where(pitches > 120, pitches - 12, pitches))


def _events(times, pitches, velocities):
    """Starts and ends as the synthesizer takes them, from the start of the preroll."""
    samples = np.maximum((times + PREROLL_SECONDS) * synth.RATE, 0).astype(int)
    starts = np.stack([samples[:, 0], pitches, np.clip(velocities, 1, 127)], axis=1)
    ends = np.stack([np.maximum(samples[:, 1], samples[:, 0] + synth.BLOCK), pitches, np.zeros_like(pitches)], axis=1)
    return np.concatenate([starts, ends])


def _shape(rng):
    """Moves a third of the players' sounds away from their font, so that fewer fonts do for more timbres."""
    if rng.random() > 0.35:
        return {}
    return {"filter_cents": float(rng.uniform(-2400, 0)), "attack_timecents": float(rng.uniform(-600, 1500)),
            "release_timecents": float(rng.uniform(-1200, 1200)), "tuning_cents": float(rng.normal(0, 6))}


def _grid(start, end, step):
    """The multiples of step from start on, before end."""
    return np.arange(np.ceil(start / step), np.ceil(end / step)) * step
