#!/usr/bin/env bash
# A broker that speaks Kafka's protocol on a free port, for tests and for trying things out: noida-db, 5 MB from PyPI, kept
# in ~/.cache/tidemark. It says where it is in two lines: its address, for kafka.brokers, and its process id. Told to stop by
# SIGTERM it has everything on the disk; killed with -9 it loses its last moments, so no promise about a broker that crashes
# can be shown with it.
#
#   kafka.sh run [DIR PORT]   in DIR, or a temporary folder; ends with its standard input, and so with whoever started it
#   kafka.sh up DIR           in DIR, until `kafka.sh down DIR`, which deletes it
set -euo pipefail

noida=0.2.3
home=${XDG_CACHE_HOME:-$HOME/.cache}/tidemark
root=$home/noida-db-$noida

if [ ! -e "$root/.complete" ]; then
  mkdir -p "$home"
  exec 9>"$home/noida-db.lock"
  flock 9
  if [ ! -e "$root/.complete" ]; then
    echo "fetching noida-db $noida (about 5 MB, once) into $root" >&2
    rm -rf "$root"
    python3 -m pip install --quiet --no-warn-conflicts --root-user-action=ignore --disable-pip-version-check \
      --only-binary=:all: --target "$root" "noida-db==$noida" >&2
    "$root/noida_db/noida-db" version > "$root/.complete.part" 2>/dev/null
    mv "$root/.complete.part" "$root/.complete"
  fi
  exec 9>&-
fi

start() { # in the folder $1, on the port $2 or any; sets pid and address
  : > "$1/log" # before the broker opens it, and without what another one said
  "$root/noida_db/noida-db" start --data-dir "$1/data" --only kafka --kafka-port "$2" > "$1/log" 2>&1 < /dev/null &
  pid=$!
  while kill -0 "$pid" 2>/dev/null; do
    address=$(sed -nE 's/^ *kafka +(127\.0\.0\.1:[0-9]+)$/\1/p' "$1/log")
    if [ -n "$address" ]; then return; fi
    sleep 0.05
  done
  echo "the Kafka broker does not start; the end of its log:" >&2
  tail -20 "$1/log" >&2 || true
  return 1
}

stop() { # whoever has the process id $1, and waits for its end
  kill "$1" 2>/dev/null || true
  while kill -0 "$1" 2>/dev/null; do sleep 0.05; done
}

case "${1:-} ${2:-}" in
  "run ")
    folder=$(mktemp -d "${TMPDIR:-/tmp}/tidemark-kafka.XXXXXX")
    trap 'kill -9 "$pid" 2>/dev/null || true; rm -rf "$folder"' EXIT
    start "$folder" 0
    disown "$pid"
    printf '%s\n%s\n' "$address" "$pid"
    cat > /dev/null
    ;;
  "run /"*)
    trap 'kill -9 "$pid" 2>/dev/null || true' EXIT
    mkdir -p "$2"
    start "$2" "${3:-0}"
    disown "$pid"
    printf '%s\n%s\n' "$address" "$pid"
    cat > /dev/null
    ;;
  "up /"*)
    if [ -e "$2/pid" ] && kill -0 "$(cat "$2/pid")" 2>/dev/null; then
      cat "$2/address" "$2/pid"
    else
      mkdir -p "$2"
      start "$2" 0
      disown "$pid"
      echo "$address" | tee "$2/address"
      echo "$pid" | tee "$2/pid"
    fi
    ;;
  "down /"*)
    if [ -e "$2/pid" ]; then stop "$(cat "$2/pid")"; fi
    rm -rf "$2"
    ;;
  *) echo "usage: kafka.sh run [DIR PORT] | up DIR | down DIR (an absolute path)" >&2; exit 2 ;;
esac
