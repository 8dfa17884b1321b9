"""One unit of work: a piece is composed, and its clips are rendered, written and labelled."""

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

import score
from arrange import FAMILIES, PREROLL_SECONDS, arrange
from harmony import TONICS
from machine import SEEN_FONTS, UNSEEN_FONT
from sound import finish
from styles import STYLES
from synth import RATE, Room

# A family is heard where its stem is within so many decibels of the whole clip's mean, in so many tenths of a second.
_AUDIBLE_DB = -22
_AUDIBLE_FRAMES = 5
_FRAME = RATE // 10
_ATTEMPTS = 20


@dataclass(frozen=True)
class Split:
    """What a split draws from, and how many clips one piece gives to it."""

    name: str
    role: str
    held_out_grooves: bool
    unseen_font: bool
    clips_per_piece: int
    lengths_vary: bool


# Only training takes several clips of a piece: elsewhere clips are independent, so that intervals mean what they say.
SPLITS = (
    Split("train", "train", False, False, 4, False),
    Split("validation", "validation", False, False, 1, False),
    Split("test-progressions", "test", False, False, 1, True),
    Split("test-font", "test", False, True, 1, True),
    Split("test-grooves", "test", True, False, 1, True),
)


@dataclass(frozen=True)
class Unit:
    """The piece number `piece` of a split, and the clips that are taken from it."""

    seed: int
    split: Split
    piece: int
    genre: str
    clips: range


def make(unit, synth, folder):
    """Writes the unit's clips under `folder/<split>/`; gives their lines of the manifest as dictionaries."""
    rng = np.random.default_rng([unit.seed, SPLITS.index(unit.split), unit.piece])
    styles = [style for style in STYLES if style.genre == unit.genre and style.held_out == unit.split.held_out_grooves]
    with tempfile.TemporaryDirectory() as work:
        style, piece = _compose(rng, styles, unit.split.role, work)
    return [_make_clip(rng, unit, number, style, piece, synth, folder) for number in unit.clips]


def _compose(rng, styles, role, work):
    for _ in range(_ATTEMPTS):
        style = styles[rng.integers(len(styles))]
        try:
            return style, score.compose(rng, style, role, work)
        except score.ScoreError as error:
            failure = error
    raise failure


def _make_clip(rng, unit, number, style, piece, synth, folder):
    seconds = 10.0
    if unit.split.lengths_vary and rng.random() < 0.3:
        seconds = float(rng.integers(10, 61)) / 2
    for _ in range(_ATTEMPTS):
        fonts = _fonts(rng, unit.split)
        arrangement = arrange(rng, piece, style, seconds, fonts)
        stems, effects = synth.render(arrangement.voices, PREROLL_SECONDS + seconds, _room(rng))
        first, length = int(PREROLL_SECONDS * RATE), int(seconds * RATE)
        stems, effects = stems[:, first : first + length], effects[first : first + length]
        heard = _heard(stems)
        # A crop can fall into a rest of all that has a pitch; then another is drawn.
        if any(arrangement.families[stem] != FAMILIES.index("drums") for stem in heard):
            break
    else:
        raise RuntimeError(f"{piece.groove}: no crop in which anything is heard")
    mix, done = finish(rng, stems.sum(axis=0, dtype=np.float64) + effects)
    name = f"{unit.split.name}/{number:06}.wav"
    _write(Path(folder) / name, mix)
    return {
        "audio": name,
        "metadata": {
            "genre": style.genre,
            "tempo_bpm": arrangement.tempo_bpm,
            "key": f"{TONICS[arrangement.tonic]} {piece.mode}",
            "instruments": [FAMILIES[arrangement.families[stem]] for stem in heard],
        },
        "metre": f"{piece.beats_per_bar}/4",
        "seconds": seconds,
        "song": unit.piece,
        "groove": piece.groove,
        "font": "+".join(sorted({voice.font for voice in arrangement.voices})),
        **done,
        "frames": {
            "beats": [round(float(at), 3) for at in arrangement.beats],
            "downbeats": [round(float(at), 3) for at in arrangement.downbeats],
            "notes": arrangement.notes,
            "drums": arrangement.drums,
        },
    }


def _fonts(rng, split):
    """One font, or two among which the players are dealt."""
    if split.unseen_font:
        return list(UNSEEN_FONT)
    shares = [share for _, _, share in SEEN_FONTS.values()]
    count = 2 if rng.random() < 0.4 else 1
    return [str(name) for name in rng.choice(list(SEEN_FONTS), count, replace=False, p=shares)]


def _room(rng):
    reverb = rng.uniform(0.2, 0.9) if rng.random() < 0.6 else 0.0
    chorus = rng.uniform(0.5, 2.0) if rng.random() < 0.3 else 0.0
    return Room(float(rng.uniform(0.1, 0.9)), float(reverb), float(chorus))


def _heard(stems):
    """The stems that are loud enough for long enough."""
    frames = stems[:, : stems.shape[1] // _FRAME * _FRAME].reshape(len(stems), -1, _FRAME)
    powers = np.mean(np.square(frames, dtype=np.float64), axis=2)
    floor = np.mean(np.square(stems.sum(axis=0, dtype=np.float64))) * 10 ** (_AUDIBLE_DB / 10)
    return [stem for stem, power in enumerate(powers) if np.sum(power > max(floor, 1e-9)) >= _AUDIBLE_FRAMES]


def _write(path, mix):
    """Under a temporary name first: a clip that has its name is whole."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    soundfile.write(partial, mix, RATE, subtype="PCM_16", format="WAV")
    os.replace(partial, path)
