#!/usr/bin/env bash
# An S3 emulator (moto) on a free port, empty, for tests and for trying things out. It says its address, which
# objects.s3_endpoint and AWS_ENDPOINT_URL take; it believes any key.
#
#   s3-emulator.sh run        ends with its standard input, and so with whoever started it
#   s3-emulator.sh up DIR     until `s3-emulator.sh down DIR`
#
# It needs python3 with pip, and PyPI once. It is installed beside its packages, without a virtual environment, which not
# every python3 can make.
set -euo pipefail

moto=5.2.5
home=${XDG_CACHE_HOME:-$HOME/.cache}/tidemark
root=$home/moto-$moto
if [ ! -e "$root/.complete" ]; then
  mkdir -p "$home"
  exec 9>"$home/moto.lock"
  flock 9
  if [ ! -e "$root/.complete" ]; then
    echo "fetching moto $moto (about 115 MB, once) into $root" >&2
    rm -rf "$root"
    python3 -m pip install --quiet --no-warn-conflicts --root-user-action=ignore --disable-pip-version-check \
      --only-binary=:all: --target "$root" "moto[s3]==$moto" flask==3.1.3 flask-cors==6.0.5 >&2
    touch "$root/.complete"
  fi
  exec 9>&-
fi

start() { # on a port that is free, with its log and process id in the folder $1; sets address
  local try wait port
  for try in {1..20}; do
    port=$((20000 + RANDOM % 12000))
    address=http://127.0.0.1:$port
    PYTHONPATH=$root python3 -c 'import sys; from moto.server import main; main(sys.argv[1:])' -H 127.0.0.1 -p "$port" \
      > "$1/log" 2>&1 < /dev/null &
    echo $! > "$1/pid"
    for wait in {1..300}; do
      # Another server may have the port.
      kill -0 "$(cat "$1/pid")" 2>/dev/null || break
      if grep -q "Running on" "$1/log" && (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then return; fi
      sleep 0.1
    done
    kill "$(cat "$1/pid")" 2>/dev/null || true
  done
  echo "moto does not start; the end of its log:" >&2
  tail -20 "$1/log" >&2
  return 1
}

stop() {
  [ ! -e "$1/pid" ] || kill "$(cat "$1/pid")" 2>/dev/null || true
  rm -rf "$1"
}

case "${1:-} ${2:-}" in
  "run ")
    folder=$(mktemp -d "${TMPDIR:-/tmp}/tidemark-s3.XXXXXX")
    trap 'stop "$folder"' EXIT
    start "$folder"
    echo "$address"
    cat > /dev/null
    ;;
  "up /"*)
    mkdir -p "$2"
    if [ ! -e "$2/address" ] || ! kill -0 "$(cat "$2/pid")" 2>/dev/null; then
      start "$2"
      echo "$address" > "$2/address"
    fi
    cat "$2/address"
    ;;
  "down /"*) stop "$2" ;;
  *) echo "usage: s3-emulator.sh run | up DIR | down DIR (an absolute path)" >&2; exit 2 ;;
esac
