"""fluidsynth's library: renders notes of several parts to a sample-accurate stem for each instrument family.

The library is called directly, as one process then renders clip after clip without reading its sound fonts again, and
as every family comes out on a bus of its own: what is heard in a clip can be measured.
"""

import ctypes
from dataclasses import dataclass

import numpy as np

RATE = 16_000
# fluidsynth acts on events only between blocks of this many samples.
BLOCK = 64
# Audio written by one call; an event ends a stretch early.
_STRETCH = 8192
_DRUM_BANK = 128
_CHANNEL_MELODIC, _CHANNEL_DRUM = 0, 1
_VOLUME = 7
# Generators of the SoundFont standard that a voice may shift, with their numbers there.
GENERATORS = {"filter_cents": 8, "attack_timecents": 34, "release_timecents": 38, "tuning_cents": 52}


@dataclass(frozen=True)
class Voice:
    """A part to play: `stem` is the bus, `events` rows of (sample, pitch, velocity), velocity 0 ends a note.

    `shape` moves generators, by their name in GENERATORS, away from what the font says.
    """

    stem: int
    font: str
    program: int
    drums: bool
    volume: int
    shape: dict
    events: np.ndarray


@dataclass(frozen=True)
class Room:
    """fluidsynth's reverb and chorus; a level of 0 switches the effect off."""

    reverb_size: float
    reverb_level: float
    chorus_level: float


class SynthError(Exception):
    """fluidsynth refused a sound font or a program."""


class Synth:
    """Renders with fonts that are decoded once. Make it before forking, so that the workers share the samples."""

    def __init__(self, fonts):
        """`fonts` maps a name to the path of its file."""
        self._library = _library()
        self._fonts = {name: self._load(path) for name, path in fonts.items()}

    def render(self, voices, seconds, room):
        """The stems as (stem, sample), and what reverb and chorus add as (sample,), in floats.

        Every call has a synthesizer of its own, so that no clip depends on those before it.
        """
        library, stems = self._library, 1 + max(voice.stem for voice in voices)
        rows = -(-len(voices) // 16) * 16
        settings, synth = self._open(stems, channels=rows * stems, room=room)
        lent = {name: self._fonts[name] for name in sorted({voice.font for voice in voices})}
        fonts = {name: library.fluid_synth_add_sfont(synth, font) for name, font in lent.items()}
        try:
            events = []
            for row, voice in enumerate(voices):
                # The bus is the channel modulo the number of buses.
                channel = row * stems + voice.stem
                self._select(synth, channel, fonts[voice.font], voice)
                library.fluid_synth_cc(synth, channel, _VOLUME, voice.volume)
                for name, amount in voice.shape.items():
                    library.fluid_synth_set_gen(synth, channel, GENERATORS[name], amount)
                events += [(int(at) // BLOCK * BLOCK, int(velocity > 0), channel, int(pitch), int(velocity))
                           for at, pitch, velocity in voice.events]
            return self._run(synth, sorted(events), stems, -(-int(seconds * RATE) // BLOCK) * BLOCK)
        finally:
            # The font outlives the synthesizer, which would take with it what it still has.
            for font in lent.values():
                library.fluid_synth_remove_sfont(synth, font)
            library.delete_fluid_synth(synth)
            library.delete_fluid_settings(settings)

    def _run(self, synth, events, stems, samples):
        """Plays events, ends before starts, and gathers the audio between them."""
        library = self._library
        # Left and right of each stem; the two effects, left and right, go into one.
        out, effects = np.zeros((2 * stems, samples), np.float32), np.zeros((2, samples), np.float32)
        out_at, effects_at, at = out.ctypes.data, effects.ctypes.data, 0

        def write(until):
            nonlocal at
            while at < until:
                length = min(_STRETCH, until - at)
                dry = (ctypes.c_void_p * (2 * stems))(*(out_at + 4 * (row * samples + at) for row in range(2 * stems)))
                wet = (ctypes.c_void_p * 4)(*(effects_at + 4 * (row % 2 * samples + at) for row in range(4)))
                library.fluid_synth_process(synth, length, 4, wet, 2 * stems, dry)
                at += length

        for when, starts, channel, pitch, velocity in events:
            write(min(when, samples))
            if starts:
                library.fluid_synth_noteon(synth, channel, pitch, velocity)
            else:
                library.fluid_synth_noteoff(synth, channel, pitch)
        write(samples)
        return (out[0::2] + out[1::2]) / 2, effects.sum(axis=0) / 2

    def _open(self, stems, channels, room):
        library = self._library
        settings = ctypes.c_void_p(library.new_fluid_settings())
        for name, value in (("audio-groups", stems), ("audio-channels", stems), ("midi-channels", channels),
                            ("dynamic-sample-loading", 1), ("polyphony", 128), ("cpu-cores", 1),
                            ("reverb.active", int(room.reverb_level > 0)),
                            ("chorus.active", int(room.chorus_level > 0))):
            library.fluid_settings_setint(settings, f"synth.{name}".encode(), value)
        for name, value in (("sample-rate", RATE), ("gain", 0.4), ("reverb.room-size", room.reverb_size),
                            ("reverb.level", room.reverb_level), ("chorus.level", room.chorus_level)):
            library.fluid_settings_setnum(settings, f"synth.{name}".encode(), ctypes.c_double(value))
        return settings, ctypes.c_void_p(library.new_fluid_synth(settings))

    def _select(self, synth, channel, font, voice):
        library = self._library
        if not voice.drums:
            library.fluid_synth_set_channel_type(synth, channel, _CHANNEL_MELODIC)
            if library.fluid_synth_program_select(synth, channel, font, 0, voice.program) != 0:
                raise SynthError(f"{voice.font} has no program {voice.program}")
            return
        library.fluid_synth_set_channel_type(synth, channel, _CHANNEL_DRUM)
        # Few fonts have every kit; the standard one is in all.
        kits = (voice.program, 0)
        if not any(library.fluid_synth_program_select(synth, channel, font, _DRUM_BANK, kit) == 0 for kit in kits):
            raise SynthError(f"{voice.font} has no drums")

    def _load(self, path):
        """The font, held for the life of the process by a synthesizer that has all of its presets selected.

        fluidsynth keeps the samples of a preset only while it is selected somewhere.
        """
        _, synth = self._open(1, channels=256, room=Room(0.0, 0.0, 0.0))
        font = self._library.fluid_synth_sfload(synth, str(path).encode(), 0)
        if font < 0:
            raise SynthError(f"fluidsynth cannot load {path}")
        for channel in range(128):
            self._library.fluid_synth_set_channel_type(synth, channel, _CHANNEL_MELODIC)
            self._library.fluid_synth_program_select(synth, channel, font, 0, channel)
            self._library.fluid_synth_set_channel_type(synth, channel + 128, _CHANNEL_DRUM)
            self._library.fluid_synth_program_select(synth, channel + 128, font, _DRUM_BANK, channel)
        return ctypes.c_void_p(self._library.fluid_synth_get_sfont_by_id(synth, font))


def _library():
    library = ctypes.CDLL("libfluidsynth.so.3")
    pointer, integer = ctypes.c_void_p, ctypes.c_int
    library.new_fluid_settings.restype = library.new_fluid_synth.restype = pointer
    library.fluid_synth_get_sfont_by_id.restype = pointer
    library.fluid_settings_setint.argtypes = (pointer, ctypes.c_char_p, integer)
    library.fluid_settings_setnum.argtypes = (pointer, ctypes.c_char_p, ctypes.c_double)
    library.fluid_synth_set_gen.argtypes = (pointer, integer, integer, ctypes.c_float)
    library.fluid_synth_process.argtypes = (pointer, integer, integer, pointer, integer, pointer)
    # It warns of every preset that a font lacks; whether one is there is seen from what a call returns.
    library.fluid_set_log_function.argtypes = (integer, pointer, pointer)
    for level in (1, 2, 3):
        library.fluid_set_log_function(level, None, None)
    return library
