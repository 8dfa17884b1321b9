#!/usr/bin/env bash
# Prints the folder of libtorch 2.11.0 on standard output, and fetches its CPU half first where it is missing.
#
# PyPI's torch wheel is the CUDA build; its CPU half works alone once two small CUDA libraries that it names lie beside
# it. An empty libtorch.so satisfies `-ltorch`; without a libtorch_cuda.so nothing of CUDA is linked.
# LIBTORCH in the environment wins: set it to any libtorch 2.11 (a CUDA one on a GPU worker).
set -euo pipefail

if [ -n "${LIBTORCH:-}" ]; then
  [ -e "$LIBTORCH/lib/libtorch_cpu.so" ] || { echo "LIBTORCH=$LIBTORCH has no lib/libtorch_cpu.so; unset it or point it at a libtorch 2.11 folder" >&2; exit 1; }
  echo "$LIBTORCH"
  exit 0
fi

torch=2.11.0 cuda_cupti=13.0.85 cuda_runtime=13.0.96
home=${XDG_CACHE_HOME:-$HOME/.cache}/tidemark
root=$home/libtorch-$torch-cpu
if [ ! -e "$root/.complete" ]; then
  [ "$(uname -sm)" = "Linux x86_64" ] || { echo "libtorch is fetched for Linux x86-64 only; set LIBTORCH to a libtorch $torch folder" >&2; exit 1; }
  mkdir -p "$home"
  exec 9>"$home/libtorch.lock"
  flock 9
fi
if [ ! -e "$root/.complete" ]; then
  echo "fetching libtorch $torch for the CPU (about 550 MB, once) into $root" >&2
  work=$(mktemp -d "$home/fetch.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  python3 -m pip download --quiet --no-deps --only-binary=:all: --implementation cp --python-version 3.11 \
    --platform manylinux_2_28_x86_64 --platform manylinux_2_25_x86_64 --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 \
    --dest "$work" "torch==$torch" "nvidia-cuda-cupti==$cuda_cupti" "nvidia-cuda-runtime==$cuda_runtime" >&2
  rm -rf "$root"
  mkdir -p "$root/lib"
  python3 - "$work" "$root" <<'PY'
import glob, os, re, shutil, sys, zipfile

work, root = sys.argv[1:]
wanted = re.compile(r"torch/(include/.*|lib/(libtorch_cpu|libc10|libgomp[^/]*)\.so[^/]*)$")
for wheel in glob.glob(f"{work}/*.whl"):
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if wanted.match(name) and not name.endswith("/"):
                path = os.path.join(root, name.removeprefix("torch/"))
            elif re.search(r"/(libcupti|libcudart)\.so\.\d+$", name):
                path = os.path.join(root, "lib", os.path.basename(name))
            else:
                continue
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with archive.open(name) as source, open(path, "wb") as target:
                shutil.copyfileobj(source, target)
PY
  echo | "${CC:-cc}" -shared -x c - -o "$root/lib/libtorch.so"
  echo "$torch" > "$root/build-version"
  touch "$root/.complete"
fi
echo "$root"
