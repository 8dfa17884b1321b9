"""A piece as notes in beats: MMA writes the accompaniment to a random progression, a random tune goes on top."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

import mido
import numpy as np

import harmony
import melody

# Which of the 16 channels of a MIDI file is the drums'.
DRUM_CHANNEL = 9


@dataclass(frozen=True)
class Part:
    """What one player plays: notes as rows of (start, end, pitch, velocity), times in beats. Drums have no program."""

    role: str
    program: int | None
    notes: np.ndarray


@dataclass(frozen=True)
class Piece:
    """A piece that can be played as a loop."""

    parts: list
    tonic: int
    mode: str
    beats_per_bar: int
    beats: int
    groove: str


class ScoreError(Exception):
    """MMA could not write the piece."""


def compose(rng, style, role, folder):
    """A random piece in the style, of phrases that belong to `role`. `folder` is the caller's own, for MMA's files."""
    tonic, mode = int(rng.integers(12)), harmony.MODES[int(rng.random() < 0.45)]
    bars = harmony.progression(rng, style.genre, mode, role)
    groove = style.grooves[rng.integers(len(style.grooves))]
    text = _source(rng, style, groove, bars, tonic)
    accompaniment = _play(text, Path(folder))
    if not any(part.program is not None for part in accompaniment):
        raise ScoreError(f"{style.file}:{groove} has nothing but drums")
    beats_per_bar = style.beats_per_bar
    swung = _is_swung(accompaniment)
    tune = melody.melody(rng, bars, mode, style.genre, beats_per_bar, tonic, swung)
    parts = [*accompaniment, Part("tune", 0, np.array(tune))]
    return Piece(parts, tonic, mode, beats_per_bar, len(bars) * beats_per_bar, f"{style.file}:{groove}")


def _source(rng, style, groove, bars, tonic):
    """MMA's source. The first groove is the piece's; another of the same file may take over in the middle."""
    lines = ["Tempo 120", f"RndSeed {int(rng.integers(1, 1 << 30))}", f"Groove {style.file}:{groove}"]
    change = len(bars) // 2 if rng.random() < 0.3 else None
    for number, bar in enumerate(bars):
        if number == change:
            lines.append(f"Groove {style.file}:{style.grooves[rng.integers(len(style.grooves))]}")
        names = [harmony.chord_name(chord, tonic) for chord in bar]
        # The second chord enters in the middle of the bar, or on the third beat of three.
        held = " /" * (-(-style.beats_per_bar // 2) - 1)
        lines.append(f"{number + 1} " + f"{held} ".join(names))
    return "\n".join(lines) + "\n"


def _play(text, folder):
    source, output = folder / "piece.mma", folder / "piece.mid"
    source.write_text(text)
    output.unlink(missing_ok=True)
    done = subprocess.run(["mma", str(source), "-f", str(output)], capture_output=True, text=True, check=False)
    if done.returncode != 0 or not output.exists():
        raise ScoreError(f"mma failed:\n{done.stdout}{done.stderr}\n{text}")
    return _parts(mido.MidiFile(output))


def _parts(file):
    """The parts of a MIDI file: one for every pair of channel and program."""
    notes, programs, sounding = {}, {}, {}
    for tick, message in _in_order(file.tracks):
        if message.type == "program_change":
            programs[message.channel] = message.program
        elif message.type == "note_on" and message.velocity > 0:
            player = _player(message.channel, programs)
            sounding.setdefault((message.channel, message.note), []).append((tick, message.velocity, player))
        elif message.type in ("note_on", "note_off"):
            started = sounding.get((message.channel, message.note))
            if started:
                start, velocity, player = started.pop(0)
                row = (start / file.ticks_per_beat, max(tick, start + 1) / file.ticks_per_beat, message.note, velocity)
                notes.setdefault(player, []).append(row)
    return [
        Part("drums" if program is None else "accompaniment", program, np.array(sorted(rows)))
        for (_, program), rows in sorted(notes.items(), key=lambda item: (item[0][0], item[0][1] or 0))
    ]


def _in_order(tracks):
    """Messages of all tracks with their ticks. mido's own merge checks every value of every message again."""
    messages = []
    for track in tracks:
        tick = 0
        for message in track:
            tick += message.time
            messages.append((tick, message))
    return sorted(messages, key=lambda entry: entry[0])


def _player(channel, programs):
    return channel, None if channel == DRUM_CHANNEL else programs.get(channel, 0)


def _is_swung(parts):
    """Whether more notes start on the last third of a beat than on its half."""
    fractions = np.concatenate([part.notes[:, 0] % 1 for part in parts])
    return int(((fractions > 0.6) & (fractions < 0.72)).sum()) > int(((fractions > 0.45) & (fractions < 0.55)).sum())
