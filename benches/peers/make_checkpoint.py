"""Makes a checkpoint to measure with: Qwen2-Audio of 113 million random weights, in the hub's layout.

Encoder: 8 layers, width 512. Language model: 12 layers, width 768. The tokenizer is the test data's. Random weights answer
noise; they cost what real ones of their shape cost.

Needs generate-requirements.txt beside this file. Usage: make_checkpoint.py FOLDER
"""

import json
import math
import sys
from pathlib import Path

import torch
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2AudioConfig,
    Qwen2AudioForConditionalGeneration,
    WhisperFeatureExtractor,
)

TOKENIZER = Path(__file__).parents[2] / "tests/fixtures/qwen2_audio/tiny-a"


def config(tokenizer):
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in ("<|endoftext|>", "<|im_end|>", "<|AUDIO|>")}
    audio = dict(
        model_type="qwen2_audio_encoder",
        num_mel_bins=128,
        d_model=512,
        encoder_layers=8,
        encoder_attention_heads=8,
        encoder_ffn_dim=2048,
        max_source_positions=1500,
    )
    text = dict(
        model_type="qwen2",
        hidden_size=768,
        num_hidden_layers=12,
        num_attention_heads=12,
        num_key_value_heads=12,
        intermediate_size=2048,
        vocab_size=math.ceil((len(tokenizer) + 10) / 64) * 64,
        rms_norm_eps=1e-5,
        rope_theta=10000.0,
        max_position_embeddings=8192,
        bos_token_id=ids["<|endoftext|>"],
        eos_token_id=ids["<|im_end|>"],
        pad_token_id=ids["<|endoftext|>"],
        tie_word_embeddings=False,
    )
    return Qwen2AudioConfig(audio_config=audio, text_config=text, audio_token_index=ids["<|AUDIO|>"]), ids


def main(folder):
    torch.manual_seed(1)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(TOKENIZER)
    shape, ids = config(tokenizer)
    model = Qwen2AudioForConditionalGeneration(shape).eval()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                scale = 1 / math.sqrt(parameter[0].numel())
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    WhisperFeatureExtractor(feature_size=128).save_pretrained(folder)
    eos = [ids["<|im_end|>"], ids["<|endoftext|>"]]
    (Path(folder) / "generation_config.json").write_text(json.dumps(dict(eos_token_id=eos, do_sample=False)))
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.1f} million parameters in {folder}")


if __name__ == "__main__":
    main(sys.argv[1])
