#!/usr/bin/env python3
"""The promises of the data set. `python3 training/dataset/test_dataset.py`; it takes about a minute."""

import hashlib
import json
import sys
import tempfile
import unittest
from pathlib import Path

import numpy as np

import harmony
import make
import sound
from arrange import FAMILIES
from clip import SPLITS
from styles import GENRES, STYLES
from synth import BLOCK, RATE, Room, Voice

_SCHEMA = Path(__file__).parents[2] / "models/schemas/music-basic.json"
_COUNTS = {"train": 10, "validation": 3, "test-progressions": 3, "test-font": 3, "test-grooves": 3}


def _bytes_of(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _lines(folder, split):
    return [json.loads(line) for line in (folder / f"{split.name}.jsonl").read_text().splitlines()]


class DataSet(unittest.TestCase):
    """Two runs with one seed, the second one interrupted, and what they made."""

    @classmethod
    def setUpClass(cls):
        cls._work = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls._work.cleanup)
        cls.first, cls.second = Path(cls._work.name) / "first", Path(cls._work.name) / "second"
        make.make_dataset(cls.first, 7, _COUNTS, jobs=2)

    def test_one_seed_makes_the_same_bytes_and_another_seed_others(self):
        make.make_dataset(self.second, 7, _COUNTS, jobs=1)
        expected = _bytes_of(self.first)
        self.assertEqual(sum(name.endswith(".wav") for name in expected), sum(_COUNTS.values()))
        self.assertEqual(_bytes_of(self.second), expected)

        other = Path(self._work.name) / "other"
        make.make_dataset(other, 8, {**dict.fromkeys(_COUNTS, 0), "validation": 3}, jobs=1)
        self.assertNotEqual((other / "validation.jsonl").read_text(), (self.first / "validation.jsonl").read_text())

    def test_a_killed_run_goes_on_to_the_same_bytes(self):
        resumed = Path(self._work.name) / "resumed"
        make.make_dataset(resumed, 7, {**_COUNTS, "train": 4}, jobs=1)
        manifest = resumed / "validation.jsonl"
        manifest.write_text(manifest.read_text()[:-40])
        (resumed / "validation/000002.wav").write_bytes(b"half")
        kept = (resumed / "train/000000.wav").stat().st_mtime_ns
        make.make_dataset(resumed, 7, _COUNTS, jobs=2)
        self.assertEqual(_bytes_of(resumed), _bytes_of(self.first))
        self.assertEqual((resumed / "train/000000.wav").stat().st_mtime_ns, kept, "what is there is not made again")

    def test_a_folder_takes_one_seed_only(self):
        with self.assertRaisesRegex(SystemExit, "another --out"):
            make.make_dataset(self.first, 9, _COUNTS, jobs=1)

    def test_every_line_fits_the_schema_and_its_clip(self):
        properties = json.loads(_SCHEMA.read_text())["properties"]
        self.assertEqual(tuple(properties["instruments"]["items"]["enum"]), FAMILIES)
        for split in SPLITS:
            for line in _lines(self.first, split):
                metadata, frames, seconds = line["metadata"], line["frames"], line["seconds"]
                self.assertEqual(list(metadata), list(properties))
                for field in ("genre", "key"):
                    self.assertIn(metadata[field], properties[field]["enum"])
                self.assertTrue(30 <= metadata["tempo_bpm"] <= 300)
                order = [FAMILIES.index(name) for name in metadata["instruments"]]
                self.assertEqual(order, sorted(set(order)))
                self.assertTrue(1 <= len(order) <= 8)
                samples, rate = sound.soundfile.read(self.first / line["audio"], dtype="int16")
                self.assertEqual((rate, samples.shape), (RATE, (round(seconds * RATE),)))
                self.assertGreater(np.abs(samples).max(), 1000)
                beats = np.array(frames["beats"])
                np.testing.assert_allclose(np.diff(beats), 60 / metadata["tempo_bpm"], atol=0.0011)
                self.assertTrue(0 <= beats[0] and beats[-1] <= seconds)
                self.assertTrue(set(frames["downbeats"]) <= set(frames["beats"]))
                per_bar = int(line["metre"].split("/")[0])
                self.assertTrue(all(b - a == per_bar for a, b in zip(*[
                    [frames["beats"].index(at) for at in frames["downbeats"]][cut:] for cut in (0, 1)])))
                played = {note[3] for note in frames["notes"]} | ({len(FAMILIES) - 1} if frames["drums"] else set())
                self.assertTrue(set(order) <= played, "nothing is heard that no note says")

    def test_what_is_held_out_is_held_out(self):
        held_out = {style.file for style in STYLES if style.held_out}
        for split in SPLITS:
            for line in _lines(self.first, split):
                self.assertEqual(line["groove"].split(":")[0] in held_out, split.name == "test-grooves")
                self.assertEqual("sf_GMbank" in line["font"], split.name == "test-font")


class Parts(unittest.TestCase):
    """What the pieces of the pipeline promise each other."""

    def test_every_genre_has_seen_and_held_out_styles_that_exist(self):
        for genre in GENRES:
            for held_out in (False, True):
                styles = [style for style in STYLES if (style.genre, style.held_out) == (genre, held_out)]
                self.assertTrue(styles and all(style.grooves for style in styles), genre)
        files = [style.file for style in STYLES]
        self.assertEqual(len(files), len(set(files)))

    def test_no_phrase_has_two_roles_and_every_genre_finds_its_own(self):
        rng = np.random.default_rng(3)
        owners = {}
        for genre in GENRES:
            for mode in harmony.MODES:
                for role in ("train", "validation", "test"):
                    bars = [bar for _ in range(5) for bar in harmony.progression(rng, genre, mode, role)]
                    for first in range(0, len(bars), 4):
                        roots = str([[chord[:2] for chord in bar] for bar in bars[first : first + 4]]) + mode
                        self.assertEqual(owners.setdefault(roots, role), role)

    def test_genres_are_balanced_in_every_prefix_and_tests_come_with_the_first_training_clips(self):
        units = make.plan(1, {**dict.fromkeys(_COUNTS, 50), "train": 8000})
        train = [unit.genre for unit in units if unit.split.name == "train"]
        self.assertEqual({train[:100].count(genre) for genre in GENRES}, {10})
        last_test = max(index for index, unit in enumerate(units) if unit.split.name != "train")
        self.assertLess(last_test, 2000 // 4 + 200)

    def test_a_note_sounds_when_and_as_high_as_its_label_says_on_its_own_stem(self):
        at, pitch = 8000, 69
        silent = np.zeros((0, 3), int)
        voices = [
            Voice(0, "TimGM6mb", 0, False, 100, {}, silent),
            Voice(1, "TimGM6mb", 19, False, 100, {}, np.array([[at, pitch, 100], [at + RATE, pitch, 0]])),
        ]
        stems, _ = make.synth().render(voices, 2.0, Room(0.0, 0.0, 0.0))
        self.assertLess(np.abs(stems[0]).max(), 1e-4)
        start = int(np.argmax(np.abs(stems[1]) > 1e-3))
        self.assertTrue(at // BLOCK * BLOCK <= start < at + 0.03 * RATE, start)
        spectrum = np.abs(np.fft.rfft(stems[1][at : at + RATE] * np.hanning(RATE)))
        # An organ sounds octaves as well: the pitch class tells.
        sounding = 69 + 12 * np.log2(np.argmax(spectrum) / 440)
        self.assertAlmostEqual(sounding % 12, pitch % 12, delta=0.2)

    def test_a_codec_shifts_nothing(self):
        rng = np.random.default_rng(5)
        clicks = np.convolve(rng.standard_normal(4 * RATE) * (rng.random(4 * RATE) < 0.001), np.hanning(64), "same")
        clip = clicks / np.abs(clicks).max() * 0.5
        for codec in ("mp3", "vorbis", "opus"):
            for severity in (0.0, 1.0):
                decoded = sound.through_codec(clip, codec, severity)
                self.assertEqual(len(decoded), len(clip))
                lags = range(-40, 41)
                best = max(lags, key=lambda lag: np.dot(np.roll(decoded, -lag), clip))
                self.assertLessEqual(abs(best), 2, (codec, severity))

    def test_a_missing_package_is_named(self):
        self.assertEqual(make.machine.missing_packages(), [], "run this where the packages are")
        kept = make.machine.UNSEEN_FONT["sf_GMbank"]
        make.machine.UNSEEN_FONT["sf_GMbank"] = (Path("/nowhere"), *kept[1:])
        self.addCleanup(make.machine.UNSEEN_FONT.__setitem__, "sf_GMbank", kept)
        self.assertEqual(make.machine.missing_packages(), ["csound-soundfont"])


if __name__ == "__main__":
    sys.exit(not unittest.main(exit=False, verbosity=2).result.wasSuccessful())
