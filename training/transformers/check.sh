#!/usr/bin/env bash
# Shows that transformers loads a checkpoint which `tidemark train` made, and computes in it what Tidemark computes: every
# quantity from log-mel to the answer's tokens.
# Usage: check.sh CHECKPOINT
set -euo pipefail
cd "$(dirname "$0")/../.."

checkpoint=${1:?usage: check.sh CHECKPOINT}
venv=${XDG_CACHE_HOME:-$HOME/.cache}/tidemark/transformers-5.24.0
if [ ! -x "$venv/bin/python" ] || ! "$venv/bin/python" -c 'import torch, transformers' 2>/dev/null; then
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --requirement training/transformers/requirements.txt
fi
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
cp "$checkpoint"/*.json "$checkpoint"/*.safetensors "$checkpoint"/*.jinja "$copy"
audio=tests/fixtures/qwen2_audio/tiny-a/audio
"$venv/bin/python" training/transformers/golden.py "$copy" "$audio"/{chirp_500ms,chord_3200ms,sweep_31s}.wav
"${CARGO_TARGET_DIR:-target}/debug/tidemark" model verify "$copy" --audio "$audio"
