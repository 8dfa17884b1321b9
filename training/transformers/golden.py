"""Loads a checkpoint that Tidemark made in Hugging Face's transformers, and writes down what it computes there.

The files it writes, expected.json, expected.safetensors and expected_tokens.json, are what `tidemark model verify` compares
itself with. Everything is loaded as a user of transformers would: the model, the tokenizer, the feature extractor and the
chat template come from the checkpoint's folder. Needs requirements.txt beside this file.
Usage: golden.py CHECKPOINT CLIP.wav…
"""

import json
import sys
import wave
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import AutoProcessor, Qwen2AudioForConditionalGeneration

QUESTION = "Describe this audio as JSON."
NEW_TOKENS = 24
TEXTS = [QUESTION, "naïve café 音楽 2026", "  spaces\n\nand\tlines ", '{"genre":"rock","tempo_bpm":128', "<|im_end|>"]


class Reference:
    """The checkpoint in transformers, in float32."""

    def __init__(self, folder):
        self.processor = AutoProcessor.from_pretrained(folder)
        self.model = Qwen2AudioForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
        conversation = [{"role": "user", "content": [{"type": "audio", "audio_url": "x"}, {"type": "text", "text": QUESTION}]}]
        self.prompt = self.processor.apply_chat_template(conversation, add_generation_prompt=True, tokenize=False)
        self.seen = {}
        parts = {"encoder": self.model.model.audio_tower, "projected": self.model.model.multi_modal_projector}
        for name, part in parts.items():
            part.register_forward_hook(lambda _, __, out, name=name: self.seen.__setitem__(name, out))

    def inputs(self, sounds):
        return self.processor(
            text=[self.prompt] * len(sounds), audio=sounds, sampling_rate=16000, return_tensors="pt", padding=True
        )

    def case(self, names, sounds):
        """Greedy answers whose end is ignored, and the logits of the first token."""
        inputs = self.inputs(sounds)
        config, pad = self.model.config.text_config, self.processor.tokenizer.pad_token_id
        with torch.no_grad():
            answer = self.model.generate(
                **inputs, max_new_tokens=NEW_TOKENS, do_sample=False, return_dict_in_generate=True, output_logits=True,
                eos_token_id=config.vocab_size + 1, pad_token_id=pad,
            )
            first = self.model(**inputs).logits[:, -1]
        tokens = answer.sequences[:, inputs["input_ids"].shape[1] :]
        log_probs = torch.stack(answer.logits, 1).log_softmax(-1).gather(-1, tokens[..., None])[..., 0]
        case = {
            "audio": names,
            "prompt": self.prompt,
            "input_ids": inputs["input_ids"].tolist(),
            "attention_mask": inputs["attention_mask"].tolist(),
            "mel_frames": inputs["feature_attention_mask"].sum(-1).tolist(),
            "generated": tokens.tolist(),
            "logprobs": [[round(x, 6) for x in row] for row in log_probs.tolist()],
        }
        return case, first.contiguous()

    def clip(self, sound):
        """A clip's spectrogram, encoding and projection."""
        inputs = self.inputs([sound])
        frames = int(inputs["feature_attention_mask"].sum())
        with torch.no_grad():
            self.model(**inputs)
        tokens = (frames + 1) // 4
        encoded = self.seen["encoder"].last_hidden_state
        return {
            "log_mel": inputs["input_features"][0, :, : min(frames + 8, 3000)].contiguous(),
            "encoder": encoded[0, :tokens].contiguous(),
            "projected": self.seen["projected"][0, :tokens].contiguous(),
        }


def sound(clip):
    """A WAV file's samples: 16 kHz, one channel, 16 bits."""
    with wave.open(str(clip)) as file:
        if (file.getframerate(), file.getnchannels(), file.getsampwidth()) != (16000, 1, 2):
            sys.exit(f"{clip} is not 16 kHz, one channel, 16 bits")
        return np.frombuffer(file.readframes(file.getnframes()), dtype="<i2").astype(np.float32) / 32768


def main(folder, *clips):
    torch.set_num_threads(1)
    folder, reference = Path(folder), Reference(folder)
    sounds = {Path(clip).stem: sound(clip) for clip in clips}
    cases, tensors = {}, {}
    for name, samples in sounds.items():
        tensors |= {f"{name}.{part}": tensor for part, tensor in reference.clip(samples).items()}
        cases[name], tensors[f"{name}.first_logits"] = reference.case([name], [samples])
    cases["together"], tensors["together.first_logits"] = reference.case(list(sounds), list(sounds.values()))
    tokens = {text: reference.processor.tokenizer(text)["input_ids"] for text in TEXTS}
    save_file(tensors, folder / "expected.safetensors")
    (folder / "expected.json").write_text(json.dumps({"question": QUESTION, "cases": cases}))
    (folder / "expected_tokens.json").write_text(json.dumps(tokens, ensure_ascii=False))


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
