#!/usr/bin/env bash
# Prints the path of llmock 0.2.2 on standard output, and fetches it first where it is missing: a server that speaks
# OpenAI's interface, fails as it is told to, and keeps a journal. The tests of the OpenAI branch talk to it.
#
# It is installed beside its Python packages, without a virtual environment, which not every python3 can make.
set -euo pipefail

llmock=0.2.2
home=${XDG_CACHE_HOME:-$HOME/.cache}/tidemark
root=$home/llmock-$llmock
if [ ! -e "$root/.complete" ]; then
  mkdir -p "$home"
  exec 9>"$home/llmock.lock"
  flock 9
fi
if [ ! -e "$root/.complete" ]; then
  echo "fetching llmock $llmock (about 20 MB, once) into $root" >&2
  rm -rf "$root"
  python3 -m pip install --quiet --no-warn-conflicts --root-user-action=ignore --disable-pip-version-check --only-binary=:all: --target "$root/packages" "llmock==$llmock" >&2
  cat > "$root/llmock" <<'SH'
#!/bin/sh
PYTHONPATH=$(dirname "$0")/packages exec python3 -c 'from llmock.cli import app; app(prog_name="llmock")' "$@"
SH
  chmod +x "$root/llmock"
  "$root/llmock" --help > "$root/.complete.part"
  mv "$root/.complete.part" "$root/.complete"
fi
echo "$root/llmock"
