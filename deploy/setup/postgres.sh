#!/usr/bin/env bash
# A Postgres server with TLS on a free port, for tests and for trying things out. It says where it is in two lines: its
# address with user and password, and the folder with ca.pem (who vouches for it) and other-ca.pem (who does not).
#
#   postgres.sh run        in a temporary folder; ends with its standard input, and so with whoever started it
#   postgres.sh up DIR     in DIR, until `postgres.sh down DIR`, which deletes it
#
# Postgres refuses to run as root; root's server runs as the user postgres, or nobody where there is none.
set -euo pipefail

binaries() { # the folder of the newest Postgres here, or nothing
  local folder
  for folder in $(printf '%s\n' /usr/lib/postgresql/*/bin /usr/local/pgsql/bin | sort --reverse --version-sort) \
    "$(dirname "$(command -v initdb || echo none)")"; do
    if [ -x "$folder/initdb" ]; then echo "$folder"; return; fi
  done
}

bin=$(binaries)
if [ -z "$bin" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  exec 9>/tmp/tidemark-postgres.lock
  flock 9
  if [ -z "$(binaries)" ]; then
    echo "installing Debian's postgresql (about 60 MB, once)" >&2
    export DEBIAN_FRONTEND=noninteractive
    { apt-get install --quiet --yes postgresql || { apt-get update --quiet && apt-get install --quiet --yes postgresql; }; } >&2
  fi
  exec 9>&-
  bin=$(binaries)
fi
[ -n "$bin" ] || { echo "there is no Postgres here: apt-get install postgresql" >&2; exit 1; }
command -v openssl >/dev/null || { echo "there is no openssl here, which makes the server's certificate: apt-get install openssl" >&2; exit 1; }

as_user() { "$@"; }
if [ "$(id -u)" = 0 ]; then
  user=$(id -un postgres 2>/dev/null || echo nobody)
  as_user() { runuser -u "$user" -- "$@"; }
fi

certificates() { # of ca.pem for localhost, and of nobody who is known
  local ca key=(-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes)
  for ca in ca other-ca; do
    openssl req -x509 "${key[@]}" -days 365 -subj "/CN=Tidemark's $ca" -keyout "$1/$ca.key" -out "$1/$ca.pem" 2>/dev/null
  done
  openssl req "${key[@]}" -subj /CN=localhost -keyout "$1/server.key" -out "$1/server.csr" 2>/dev/null
  echo subjectAltName=DNS:localhost > "$1/server.ext"
  openssl x509 -req -in "$1/server.csr" -CA "$1/ca.pem" -CAkey "$1/ca.key" -CAcreateserial -days 365 \
    -extfile "$1/server.ext" -out "$1/server.pem" 2>/dev/null
}

create() { # a cluster in the folder $1, with the settings of standard input
  openssl rand -hex 16 > "$1/password"
  certificates "$1"
  [ "$(id -u)" != 0 ] || chown -R "$user" "$1"
  as_user "$bin/initdb" --pgdata "$1/data" --username tidemark --pwfile "$1/password" --auth scram-sha-256 --encoding UTF8 \
    --locale C.UTF-8 --no-sync > "$1/initdb.log"
  cat >> "$1/data/postgresql.conf" <<CONF
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
max_connections = 200
ssl = on
ssl_cert_file = '$1/server.pem'
ssl_key_file = '$1/server.key'
CONF
  cat >> "$1/data/postgresql.conf"
}

start() { # the cluster in the folder $1, on a port that is free
  local try port
  for try in {1..20}; do
    port=$((20000 + RANDOM % 12000))
    if as_user "$bin/pg_ctl" --pgdata "$1/data" --log "$1/log" --options "-p $port" --wait start >/dev/null 2>&1; then
      address="postgres://tidemark:$(cat "$1/password")@localhost:$port"
      "$bin/psql" --quiet --no-psqlrc "$address/postgres" --command 'CREATE DATABASE tidemark' 2>/dev/null || true
      echo "$address/tidemark"
      echo "$1"
      return
    fi
    grep -q 'Address already in use' "$1/log" || break
  done
  echo "Postgres does not start; the end of its log:" >&2
  tail -20 "$1/log" >&2 || true
  return 1
}

stop() {
  as_user "$bin/pg_ctl" --pgdata "$1/data" --mode immediate --wait stop >/dev/null 2>&1 || true
  rm -rf "$1"
}

cd /
case "${1:-} ${2:-}" in
  "run ")
    folder=$(mktemp -d "${TMPDIR:-/tmp}/tidemark-postgres.XXXXXX")
    trap 'stop "$folder"' EXIT
    # Tests kill processes, never the machine.
    create "$folder" <<< "fsync = off"
    start "$folder"
    cat > /dev/null
    ;;
  "up /"*)
    if as_user "$bin/pg_ctl" --pgdata "$2/data" status >/dev/null 2>&1; then
      cat "$2/address"
    else
      [ -e "$2/data" ] || { mkdir -p "$2" && create "$2" < /dev/null; }
      start "$2" | tee "$2/address"
    fi
    ;;
  "down /"*) stop "$2" ;;
  *) echo "usage: postgres.sh run | up DIR | down DIR (an absolute path)" >&2; exit 2 ;;
esac
