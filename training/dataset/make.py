#!/usr/bin/env python3
"""Makes the labelled data set: `make.py --out data/dataset`. README.md describes what comes out.

The same seed and the same package versions make the same bytes, in whatever number of processes. A run that was ended
goes on where it was.
"""

import argparse
import ctypes
import functools
import json
import multiprocessing
import os
import signal
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

try:
    import numpy as np

    import clip
    import machine
    from styles import GENRES
    from synth import Synth
except ModuleNotFoundError as missing:
    here = Path(__file__).parent
    sys.exit(f"{missing.name} is missing: python3 -m venv venv && venv/bin/pip install -r {here}/requirements.txt, "
             f"then make dataset PYTHON=venv/bin/python")

# While the first of training's clips are made, all of the other splits are: so a run that is cut short is of use.
_FIRST_TRAIN_CLIPS = 2000
_COUNTS = {"train": 12_000, "validation": 500, "test-progressions": 500, "test-font": 500, "test-grooves": 500}
# From <linux/prctl.h>.
_PR_SET_PDEATHSIG = 1


def main():
    options = _options()
    if packages := machine.missing_packages():
        sys.exit(f"missing on this machine: apt-get install --no-install-recommends {' '.join(packages)}")
    counts = {name: getattr(options, name.replace("-", "_")) for name in _COUNTS}
    make_dataset(options.out, options.seed, counts, options.jobs)


def make_dataset(out, seed, counts, jobs):
    """Makes what is not there yet of `counts` clips by split."""
    out.mkdir(parents=True, exist_ok=True)
    _claim(out, seed)
    finished = {split.name: _resume(out, split) for split in clip.SPLITS}
    units = [unit for unit in plan(seed, counts) if unit.piece not in finished[unit.split.name]]
    # Before the workers are forked, so that they share its samples.
    synth()
    manifests = {split.name: (out / f"{split.name}.jsonl").open("a", encoding="utf-8") for split in clip.SPLITS}
    progress = _Progress(sum(len(unit.clips) for unit in units))
    fork = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(jobs, mp_context=fork, initializer=_end_with_parent) as pool:
        for unit, lines in zip(units, pool.map(_make, units, [out] * len(units))):
            # All lines of a piece in one write: a piece that is in the manifest is finished.
            manifests[unit.split.name].write("".join(f"{line}\n" for line in lines))
            manifests[unit.split.name].flush()
            progress.add(len(lines))
    for manifest in manifests.values():
        manifest.close()


def plan(seed, counts):
    """The units of work in the order in which they are made: genres in turn, splits side by side."""
    units = []
    for index, split in enumerate(clip.SPLITS):
        pieces = -(-counts[split.name] // split.clips_per_piece)
        pace = _FIRST_TRAIN_CLIPS / split.clips_per_piece if split.name == "train" else max(pieces, 1)
        for piece in range(pieces):
            order = np.random.default_rng([seed, index, piece // len(GENRES), 0]).permutation(len(GENRES))
            first = piece * split.clips_per_piece
            clips = range(first, min(first + split.clips_per_piece, counts[split.name]))
            unit = clip.Unit(seed, split, piece, GENRES[order[piece % len(GENRES)]], clips)
            units.append((piece / pace, index, unit))
    return [unit for _, _, unit in sorted(units, key=lambda entry: entry[:2])]


def _end_with_parent():
    """A worker would wait for ever on the queue of a parent that was killed."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


@functools.cache
def synth():
    """The process's synthesizer, with all fonts decoded."""
    return Synth(machine.font_paths())


def _make(unit, out):
    return [json.dumps(line, separators=(",", ":")) for line in clip.make(unit, synth(), out)]


def _claim(out, seed):
    """Keeps a folder from holding the clips of two seeds."""
    owner = out / "seed"
    if owner.exists() and owner.read_text().strip() != str(seed):
        sys.exit(f"{out} was made from the seed {owner.read_text().strip()}, not {seed}: take another --out")
    owner.write_text(f"{seed}\n")


def _resume(out, split):
    """The pieces that the manifest lists; a line that was cut off is dropped from it, and its piece made again."""
    (out / split.name).mkdir(exist_ok=True)
    manifest = out / f"{split.name}.jsonl"
    text = manifest.read_text(encoding="utf-8") if manifest.exists() else ""
    lines = [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
    whole = {}
    for line in lines:
        whole[line["song"]] = whole.get(line["song"], 0) + 1
    finished = {piece for piece, count in whole.items() if count == split.clips_per_piece}
    kept = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines if line["song"] in finished)
    if kept != text:
        partial = manifest.with_suffix(".partial")
        partial.write_text(kept, encoding="utf-8")
        os.replace(partial, manifest)
    return finished


class _Progress:
    """A line on standard error: clips made, clips a second, time left."""

    def __init__(self, total):
        self._total, self._made, self._begun, self._told = total, 0, time.monotonic(), 0.0
        self._every_seconds = 1 if sys.stderr.isatty() else 30

    def add(self, clips):
        self._made += clips
        now = time.monotonic()
        if now - self._told < self._every_seconds and self._made < self._total:
            return
        self._told = now
        speed = self._made / max(now - self._begun, 1e-3)
        left = (self._total - self._made) / max(speed, 1e-3)
        end = "\r" if sys.stderr.isatty() and self._made < self._total else "\n"
        print(f"{self._made} of {self._total} clips, {speed:.1f} a second, {left / 60:.0f} min left ", end=end,
              file=sys.stderr, flush=True)


def _options():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("data/dataset"), help="folder (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes (default: one a core)")
    for name, count in _COUNTS.items():
        parser.add_argument(f"--{name}", type=int, default=count, metavar="CLIPS", help="default: %(default)s")
    return parser.parse_args()


if __name__ == "__main__":
    main()
