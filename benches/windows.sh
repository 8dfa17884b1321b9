#!/usr/bin/env bash
# Outcomes from files to rows of windows a second: Tidemark, then DuckDB as a batch, then Bytewax, Pathway and Flink as streams, on
# the same files. MILLIONS says how many outcomes (2: 1.6 GB for a while), PROFILE how Tidemark is compiled.
# Needs python3 with the packages of benches/peers/windows-requirements.txt; PYTHON names another one. Flink wants a Python of its
# own (3.9 to 3.12, benches/peers/windows-flink-requirements.txt) and Java 17: FLINK_PYTHON names it, without it Flink is left out.
set -euo pipefail
cd "$(dirname "$0")/.."

export LIBTORCH
LIBTORCH=$(deploy/setup/libtorch.sh)
python=${PYTHON:-python3}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
printf 'who\tfrom\tworkers\toutcomes/s\trows\n'
cargo bench --quiet --profile "${PROFILE:-dev}" --workspace --bench windows -- "${MILLIONS:-2}" "$folder"
for threads in 1 2; do "$python" benches/peers/windows_duckdb.py "$folder" "$threads"; done
for peer in bytewax pathway; do "$python" "benches/peers/windows_$peer.py" "$folder" 2> "$folder/said" || cat "$folder/said" >&2; done
for subtasks in 1 2; do
  [ -z "${FLINK_PYTHON:-}" ] || "$FLINK_PYTHON" benches/peers/windows_flink.py "$folder" "$subtasks" 2> "$folder/said" || cat "$folder/said" >&2
done
