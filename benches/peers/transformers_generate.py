"""Measures transformers' `generate` on a checkpoint of make_checkpoint.py: clips a second by batch, length and precision.

The spectrograms are made beforehand, so that what is measured is the model: encoder, prompt and 64 tokens of answer. The
best of three runs counts. It runs on a GPU where there is one. Columns: who, precision, batch, seconds of each clip, clips a second, CPU seconds a clip.

Needs generate-requirements.txt beside this file. Usage: transformers_generate.py FOLDER THREADS CELL…, where a cell is as in
the columns, bf16/16/5,10,30,10, with another number of tokens than 64 where it ends in /TOKENS.
"""

import os
import sys
import time

import numpy as np
import torch
from transformers import (
    AutoTokenizer,
    Qwen2AudioForConditionalGeneration,
    Qwen2AudioProcessor,
    WhisperFeatureExtractor,
)

NEW_TOKENS = 64
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
PROMPT = (
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\nAudio 1: <|audio_bos|><|AUDIO|>"
    "<|audio_eos|>\nDescribe this audio as JSON.<|im_end|>\n<|im_start|>assistant\n"
)

def measure(model, processor, batch, seconds, tokens):
    noise = np.random.default_rng(3)
    clips = [noise.standard_normal(16000 * seconds[n % len(seconds)]).astype(np.float32) * 0.1 for n in range(batch)]
    inputs = processor(text=[PROMPT] * batch, audio=clips, sampling_rate=16000, return_tensors="pt", padding=True)
    inputs = inputs.to(DEVICE)
    inputs["input_features"] = inputs["input_features"].to(model.dtype)
    best = [float("inf")] * 2
    for _ in range(3):
        start = time.perf_counter(), time.process_time()
        with torch.inference_mode():
            model.generate(**inputs, min_new_tokens=tokens, max_new_tokens=tokens, do_sample=False).cpu()
        took = time.perf_counter() - start[0], time.process_time() - start[1]
        best = [min(pair) for pair in zip(best, took)]
    return batch / best[0], best[1] / batch


def main(folder, threads, *cells):
    torch.set_num_threads(int(threads))
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    processor = Qwen2AudioProcessor(WhisperFeatureExtractor.from_pretrained(folder), tokenizer)
    model = None
    for cell in cells:
        name, batch, lengths, *tokens = cell.split("/")
        dtype = {"f32": torch.float32, "bf16": torch.bfloat16}[name]
        if model is None or model.dtype != dtype:
            load = Qwen2AudioForConditionalGeneration.from_pretrained
            model = load(folder, dtype=dtype, attn_implementation="sdpa").eval().to(DEVICE)
        seconds = [int(length) for length in lengths.split(",")]
        rate, cpu = measure(model, processor, int(batch), seconds, int(tokens[0]) if tokens else NEW_TOKENS)
        print(f"transformers\t{name}\t{batch}\t{lengths}\t{rate:.3f}\t{cpu:.3f}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
