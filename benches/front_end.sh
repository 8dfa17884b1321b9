#!/usr/bin/env bash
# The audio front end beside librosa + transformers, on one core, clip by clip: seconds of sound in a second, and the ratio.
# Needs python3 with the packages of benches/peers/front_end-requirements.txt; PYTHON names another one.
set -euo pipefail
cd "$(dirname "$0")/.."

export LIBTORCH
LIBTORCH=$(deploy/setup/libtorch.sh)
python=${PYTHON:-python3}
# libsndfile, which librosa reads with, takes no M4A.
clips=(demo/clips/*.{wav,flac,ogg,mp3})

ours=$(mktemp)
theirs=$(mktemp)
trap 'rm -f "$ours" "$theirs"' EXIT
cargo bench --quiet --profile "${PROFILE:-dev}" --bench front_end -- "${clips[@]/#/$PWD/}" >"$ours"
"$python" benches/peers/front_end.py "${clips[@]}" >"$theirs"
printf '%-28s %10s %10s %10s %7s\n' clip seconds tidemark peer ratio
paste "$ours" "$theirs" | awk -F'\t' '{ printf "%-28s %10s %10s %10s %6.1fx\n", $1, $2, $3, $6, $3 / $6 }'
