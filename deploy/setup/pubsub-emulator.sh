#!/usr/bin/env bash
# Google's emulator of Pub/Sub on a free port, for tests and for trying things out. It says where it is in two lines: its
# address, for PUBSUB_EMULATOR_HOST, and its process id. It keeps everything in memory: topics, subscriptions and messages
# are gone with it.
#
#   pubsub-emulator.sh run [PORT]   ends with its standard input, and so with whoever started it
#   pubsub-emulator.sh up DIR       with its log in DIR, until `pubsub-emulator.sh down DIR`, which deletes it
set -euo pipefail

component=platform/pubsub-emulator/bin/cloud-pubsub-emulator

launcher() { # the emulator of the Google Cloud CLI here, or nothing
  local root
  for root in "${CLOUDSDK_ROOT_DIR:-}" /usr/lib/google-cloud-sdk \
    "$(dirname "$(dirname "$(readlink -f "$(command -v gcloud || echo /none/none)")")")"; do
    if [ -x "$root/$component" ]; then echo "$root/$component"; return; fi
  done
}

emulator=$(launcher)
if [ -z "$emulator" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  exec 9>/tmp/tidemark-pubsub-emulator.lock
  flock 9
  if [ -z "$(launcher)" ]; then
    echo "installing google-cloud-cli-pubsub-emulator (once)" >&2
    DEBIAN_FRONTEND=noninteractive apt-get install --quiet --yes google-cloud-cli-pubsub-emulator default-jre-headless >&2 || true
  fi
  exec 9>&-
  emulator=$(launcher)
fi
[ -n "$emulator" ] || {
  echo "there is no Pub/Sub emulator here. It is a part of the Google Cloud CLI (https://cloud.google.com/sdk/docs/install):" >&2
  echo "  gcloud components install pubsub-emulator   or, from Google's apt repository," >&2
  echo "  apt-get install google-cloud-cli-pubsub-emulator" >&2
  exit 1
}
command -v java >/dev/null || { echo "there is no Java here, which the Pub/Sub emulator runs on: apt-get install default-jre-headless" >&2; exit 1; }

start() { # with its log in the file $1, on the port $2 or, without one, on a port that is free; sets pid and address
  local try port
  for try in {1..20}; do
    port=${2:-$((20000 + RANDOM % 12000))}
    "$emulator" --host=127.0.0.1 --port="$port" > "$1" 2>&1 < /dev/null &
    pid=$!
    while kill -0 "$pid" 2>/dev/null; do
      if grep -q 'Server started' "$1"; then
        address=127.0.0.1:$port
        return
      fi
      sleep 0.05
    done
    grep -q 'Address already in use' "$1" || break
  done
  echo "the Pub/Sub emulator does not start; the end of its log:" >&2
  tail -20 "$1" >&2 || true
  return 1
}

case "${1:-} ${2:-}" in
  "run "*)
    log=$(mktemp "${TMPDIR:-/tmp}/tidemark-pubsub.XXXXXX")
    trap 'kill -9 "$pid" 2>/dev/null || true; rm -f "$log"' EXIT
    start "$log" "${2:-}"
    printf '%s\n%s\n' "$address" "$pid"
    cat > /dev/null
    ;;
  "up /"*)
    if [ -e "$2/pid" ] && kill -0 "$(cat "$2/pid")" 2>/dev/null; then
      cat "$2/address" "$2/pid"
    else
      mkdir -p "$2"
      start "$2/log"
      disown "$pid"
      echo "$address" | tee "$2/address"
      echo "$pid" | tee "$2/pid"
    fi
    ;;
  "down /"*)
    if [ -e "$2/pid" ]; then kill "$(cat "$2/pid")" 2>/dev/null || true; fi
    rm -rf "$2"
    ;;
  *) echo "usage: pubsub-emulator.sh run [PORT] | up DIR | down DIR (an absolute path)" >&2; exit 2 ;;
esac
