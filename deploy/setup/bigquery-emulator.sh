#!/usr/bin/env bash
# A BigQuery emulator (local-bigquery, which has DuckDB inside) on free ports, for tests and for trying things out. It says
# where it is in three lines: the address of its REST interface, that of its gRPC interface, and a command that runs Python
# with DuckDB in it. Its project is `proj`, and the dataset `tidemark` is there.
#
#   bigquery-emulator.sh run        in a temporary folder; ends with its standard input, and so with whoever started it
#   bigquery-emulator.sh up DIR     in DIR, until `bigquery-emulator.sh down DIR`, which deletes it
#
# It is installed beside its Python packages, without a virtual environment, which not every python3 can make.
set -euo pipefail

emulator=0.4.0
# DuckDB would fetch its extensions when it needs them; PyPI has them up to this version.
duckdb=1.5.5
home=${XDG_CACHE_HOME:-$HOME/.cache}/tidemark
root=$home/local-bigquery-$emulator

python() { # the first Python here that is new enough, or nothing
  local found
  local pyenv=${PYENV_ROOT:-$(dirname "$(dirname "$(command -v pyenv || echo /none/none/none)")")}
  for found in python3 python3.14 python3.13 /usr/local/bin/python3.1[3-9] {"$pyenv","$HOME/.pyenv",/root/.pyenv}/versions/3.1[3-9]*/bin/python3 \
    "$(uv python find '>=3.13' 2>/dev/null || true)"; do
    found=$(command -v "$found" 2>/dev/null) || continue
    if "$found" -c 'import sys, pip; sys.exit(sys.version_info < (3, 13))' 2>/dev/null; then echo "$found"; return; fi
  done
}

install() {
  local python
  python=$(python)
  [ -n "$python" ] || { echo "the BigQuery emulator needs Python 3.13 with pip: uv python install 3.13, or pyenv install 3.13" >&2; exit 1; }
  echo "fetching local-bigquery $emulator (about 200 MB, once) into $root" >&2
  rm -rf "$root"
  local pip=("$python" -m pip install --quiet --no-warn-conflicts --root-user-action=ignore --disable-pip-version-check
    --only-binary=:all: --target "$root/packages")
  "${pip[@]}" "local-bigquery==$emulator" >&2
  "${pip[@]}" --upgrade --no-deps "duckdb==$duckdb" "duckdb-extension-"{icu,ducklake,spatial,httpfs,avro}"==$duckdb" >&2
  # A home of its own: DuckDB looks for extensions there, and nowhere else.
  local extensions=$root/home/.duckdb/extensions/v$duckdb/linux_amd64
  mkdir -p "$extensions"
  mv "$root"/packages/duckdb_extension_*/extensions/v$duckdb/*.duckdb_extension "$extensions"
  cat > "$root/python" <<SH
#!/bin/sh
HOME=$root/home PYTHONPATH=$root/packages exec $python "\$@"
SH
  chmod +x "$root/python"
  # Google keeps idle connections for minutes; after uvicorn's 5 s a slow machine's next request would meet a closed one.
  cat > "$root/serve.py" <<'PY'
import functools
import uvicorn
from local_bigquery.cli import main
uvicorn.run = functools.partial(uvicorn.run, timeout_keep_alive=3600)
main()
PY
  "$root/python" -c 'import local_bigquery, duckdb; duckdb.sql("LOAD icu")'
  touch "$root/.complete"
}

if [ ! -e "$root/.complete" ]; then
  mkdir -p "$home"
  exec 9>"$home/local-bigquery.lock"
  flock 9
  [ -e "$root/.complete" ] || install
  exec 9>&-
fi

start() { # it in the folder $1; its process, and then where it is
  local port grpc
  read -r port grpc < <("$root/python" -c '
import socket
held = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
print(*(one.getsockname()[1] for one in held))')
  # Out of the terminal's group, so that it outlives the shell that brought it up.
  setsid "$root/python" "$root/serve.py" --host 127.0.0.1 --port "$port" --grpc-port "$grpc" \
    --data-dir "$1/data" --project proj --dataset tidemark > "$1/log" 2>&1 < /dev/null &
  echo "$!" > "$1/pid"
  if ! "$root/python" - "http://127.0.0.1:$port/bigquery/v2/projects/proj/datasets" "$(cat "$1/pid")" <<'PY'
import os, sys, time, urllib.error, urllib.request
url, pid, end = sys.argv[1], int(sys.argv[2]), time.monotonic() + 60
dataset = b'{"datasetReference": {"projectId": "proj", "datasetId": "tidemark"}}'
request = urllib.request.Request(url, dataset, {"Content-Type": "application/json"})
while time.monotonic() < end:
    try:
        sys.exit(urllib.request.urlopen(request).status != 200)
    except urllib.error.HTTPError as error:
        sys.exit(error.code != 409)
    except OSError:
        os.kill(pid, 0)
        time.sleep(0.1)
sys.exit(1)
PY
  then
    echo "the BigQuery emulator does not start; the end of its log:" >&2
    tail -20 "$1/log" >&2
    return 1
  fi
  printf '%s\n' "http://127.0.0.1:$port" "http://127.0.0.1:$grpc" "$root/python"
}

stop() {
  [ ! -e "$1/pid" ] || kill -9 "$(cat "$1/pid")" 2>/dev/null || true
  rm -rf "$1"
}

case "${1:-} ${2:-}" in
  "run ")
    folder=$(mktemp -d "${TMPDIR:-/tmp}/tidemark-bigquery.XXXXXX")
    trap 'stop "$folder"' EXIT
    start "$folder"
    cat > /dev/null
    ;;
  "up /"*)
    if [ -e "$2/pid" ] && kill -0 "$(cat "$2/pid")" 2>/dev/null; then
      cat "$2/address"
    else
      mkdir -p "$2"
      start "$2" | tee "$2/address"
    fi
    ;;
  "down /"*) stop "$2" ;;
  *) echo "usage: bigquery-emulator.sh run | up DIR | down DIR (an absolute path)" >&2; exit 2 ;;
esac
