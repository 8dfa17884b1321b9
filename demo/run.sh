#!/usr/bin/env bash
# The main job on real sound, with the embedded default: files into the queue, the queue through the graph and the model,
# outcomes into the store and Parquet files.
set -euo pipefail
cd "$(dirname "$0")/.."

tidemark=${CARGO_TARGET_DIR:-target}/debug/tidemark
data=data/demo
rm -rf "$data"

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }

say "Six clips go into the queue: one from an enterprise customer, a hurry; five from free ones"
"$tidemark" enqueue --data "$data" --tier enterprise --customer acme demo/clips/rock-e-minor-120.wav
"$tidemark" enqueue --data "$data" --tier free --customer some demo/clips/{waltz,swing,bossa,country,blues}*
printf 'no sound at all' >"$data/notes.wav"
"$tidemark" enqueue --data "$data" --tier free --customer some "$data/notes.wav"

say "serve works the queue until it is empty"
env -u OPENAI_API_KEY "$tidemark" serve --data "$data" --until-idle --listen 127.0.0.1:0

say "What became of them"
"$tidemark" outcomes --data "$data"
cat <<'TEXT'

File names say what is right. The answers are those of nano, a small network that comes with the program; its confidence is the
probability that all of an answer is right. models/nano/README.md says what it can do and what it cannot.
TEXT

say "What could not be described"
"$tidemark" dlq list --data "$data"

say "The same outcomes as Parquet"
find "$data/outcomes" -name '*.parquet'
cat <<TEXT

Query them, with DuckDB for example (python3 -m pip install duckdb-cli, or https://duckdb.org):
  duckdb -c "SELECT day, lane, status, count(*), avg(total_ms) FROM read_parquet('$data/outcomes/**/*.parquet', hive_partitioning = true) GROUP BY ALL"
TEXT
