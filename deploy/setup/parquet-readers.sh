#!/usr/bin/env bash
# Python with other people's readers of Parquet files, for tests: DuckDB, pandas, pyarrow and Polars from PyPI, kept in
# ~/.cache/tidemark. It says in one line which command runs it.
#
#   parquet-readers.sh run
set -euo pipefail

packages=(duckdb==1.5.5 pandas==2.3.3 pyarrow==21.0.0 polars==2.1.0)
home=${XDG_CACHE_HOME:-$HOME/.cache}/tidemark
root=$home/parquet-readers-2

[ "${1:-}" = run ] || { echo "usage: parquet-readers.sh run" >&2; exit 2; }
if [ ! -e "$root/.complete" ]; then
  mkdir -p "$home"
  exec 9>"$home/parquet-readers.lock"
  flock 9
  if [ ! -e "$root/.complete" ]; then
    echo "fetching ${packages[*]} (about 120 MB, once) into $root" >&2
    rm -rf "$root"
    python3 -m pip install --quiet --no-warn-conflicts --root-user-action=ignore --disable-pip-version-check \
      --only-binary=:all: --target "$root/packages" "${packages[@]}" >&2
    printf '#!/bin/sh\nPYTHONPATH=%q exec %q "$@"\n' "$root/packages" "$(python3 -c 'import sys; print(sys.executable)')" > "$root/python"
    chmod +x "$root/python"
    touch "$root/.complete"
  fi
  exec 9>&-
fi
echo "$root/python"
