#!/usr/bin/env bash
# The engine beside transformers' generate, on the same weights (113 million random ones) and processor, both in bfloat16,
# which is the faster precision of both: clips a second by batch and lengths, and the ratio; whole answers under the grammar
# beside as many free tokens; then what memory rows hold. About 8 minutes on 2 cores.
# Needs python3 with the packages of benches/peers/generate-requirements.txt; PYTHON names another one.
set -euo pipefail
cd "$(dirname "$0")/.."

export LIBTORCH
LIBTORCH=$(deploy/setup/libtorch.sh)
python=${PYTHON:-python3}
threads=${THREADS:-$(nproc)}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"$python" benches/peers/make_checkpoint.py "$folder"
ours() { cargo bench --quiet --profile "${PROFILE:-dev}" --workspace --bench engine -- "$folder" "$threads" "$@"; }
theirs() { "$python" benches/peers/transformers_generate.py "$folder" "$threads" "$@" 2>/dev/null; }

printf '%-6s %-14s %10s %12s %7s\n' batch seconds tidemark transformers ratio
for cell in ${CELLS:-1/5 1/10 1/30 4/5 4/10 4/30 4/5,10,30,10 16/5 16/10 16/30 16/5,10,30,10}; do
  # One after the other: side by side, each would take the other's processor.
  tidemark=$(ours "bf16/$cell")
  transformers=$(theirs "bf16/$cell")
  paste <(echo "$tidemark") <(echo "$transformers") \
    | awk -F'\t' '{ printf "%-6s %-14s %10s %12s %6.2fx\n", $3, $4, $5, $11, $5 / $11 }'
done
answer=$(ours grammar)
tokens=$(cut -f6 <<<"$answer")
transformers=$(theirs "bf16/16/5/$tokens")
paste <(echo "$answer") <(echo "$transformers") | awk -F'\t' '{
  printf "whole answers under the grammar, 16 of 5 s: %s tokens in %s passes: %s against %s, %.2fx\n", $6, $7, $5, $12, $5 / $12 }'
ours memory
