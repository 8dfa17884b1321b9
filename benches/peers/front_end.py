"""The same work as benches/front_end.rs by librosa and transformers: one line a clip, with seconds of sound a second."""

import os

for library in ("OMP", "OPENBLAS", "MKL", "NUMBA"):
    os.environ[f"{library}_NUM_THREADS"] = "1"

import sys
import time

import librosa
from transformers import WhisperFeatureExtractor

extractor = WhisperFeatureExtractor(feature_size=128)


def one_pass(path):
    samples, _ = librosa.load(path, sr=16000, mono=True)
    # A clip of more than 30 s is cut by the extractor; it is given in pieces, as Qwen2-Audio's processor would have to be.
    for start in range(0, len(samples), 480_000):
        extractor(samples[start : start + 480_000], sampling_rate=16000, return_attention_mask=True, return_tensors="np")
    return len(samples)


for path in sys.argv[1:]:
    samples = one_pass(path)
    start, passes = time.perf_counter(), 0
    while passes < 3 or time.perf_counter() - start < 1:
        one_pass(path)
        passes += 1
    seconds = samples / 16000
    rate = seconds * passes / (time.perf_counter() - start)
    print(f"{os.path.basename(path)}\t{seconds:.1f}\t{rate:.0f}", flush=True)
