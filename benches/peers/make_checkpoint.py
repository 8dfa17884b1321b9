"""Makes a checkpoint to measure with: Qwen2-Audio of random weights, in the hub's layout.

`small`, 113 million weights: an encoder of 8 layers, width 512; a language model of 12 layers, width 768. `7b`, the shape of
Qwen2-Audio-7B, in bfloat16: 8.4 billion weights, 17 GB. The tokenizer is the test data's. Random weights answer noise; they
cost what real ones of their shape cost.

Needs generate-requirements.txt beside this file. Usage: make_checkpoint.py FOLDER [small|7b]
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
# Layers, width, heads and inner width of the encoder, then of the language model; tokens; kind of number.
SHAPES = {
    "small": ((8, 512, 8, 2048), (12, 768, 12, 2048), None, torch.float32),
    "7b": ((32, 1280, 20, 5120), (32, 4096, 32, 11008), 156032, torch.bfloat16),
}


def config(tokenizer, shape):
    (layers, width, heads, inner), (text_layers, text_width, text_heads, text_inner), tokens, _ = shape
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in ("<|endoftext|>", "<|im_end|>", "<|AUDIO|>")}
    audio = dict(
        model_type="qwen2_audio_encoder",
        num_mel_bins=128,
        d_model=width,
        encoder_layers=layers,
        encoder_attention_heads=heads,
        encoder_ffn_dim=inner,
        max_source_positions=1500,
    )
    text = dict(
        model_type="qwen2",
        hidden_size=text_width,
        num_hidden_layers=text_layers,
        num_attention_heads=text_heads,
        num_key_value_heads=text_heads,
        intermediate_size=text_inner,
        vocab_size=tokens or math.ceil((len(tokenizer) + 10) / 64) * 64,
        rms_norm_eps=1e-5,
        rope_theta=10000.0,
        max_position_embeddings=8192,
        bos_token_id=ids["<|endoftext|>"],
        eos_token_id=ids["<|im_end|>"],
        pad_token_id=ids["<|endoftext|>"],
        tie_word_embeddings=False,
    )
    return Qwen2AudioConfig(audio_config=audio, text_config=text, audio_token_index=ids["<|AUDIO|>"]), ids


def main(folder, shape="small"):
    torch.manual_seed(1)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(TOKENIZER)
    whole, ids = config(tokenizer, SHAPES[shape])
    device = "cuda" if shape == "7b" and torch.cuda.is_available() else "cpu"
    torch.set_default_dtype(SHAPES[shape][-1])
    with torch.device(device):
        model = Qwen2AudioForConditionalGeneration(whole).eval()
    generator = torch.Generator(device).manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                scale = 1 / math.sqrt(parameter[0].numel())
                parameter.copy_(torch.randn(parameter.shape, generator=generator, device=device) * scale)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    WhisperFeatureExtractor(feature_size=128).save_pretrained(folder)
    eos = [ids["<|im_end|>"], ids["<|endoftext|>"]]
    (Path(folder) / "generation_config.json").write_text(json.dumps(dict(eos_token_id=eos, do_sample=False)))
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.1f} million parameters in {folder}")


if __name__ == "__main__":
    main(*sys.argv[1:])
