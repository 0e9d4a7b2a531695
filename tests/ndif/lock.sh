#!/bin/sh
# Write requirements.txt from requirements.in: exact versions and hashes, no index addresses (needs uv). What decides
# numbers and the wire format has the version of ../../requirements-lock.txt. Torch is left out, because each machine
# takes its own build; ndif is taken without its dependencies, because it asks for Python 3.12 and for CUDA, though
# it runs on 3.11 without.
set -eu
cd "$(dirname "$0")"
same='nnsight|transformers|tokenizers|huggingface-hub|safetensors|numpy|accelerate|cloudpickle|zstandard'
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT
compile() {
  uv pip compile "$@" --universal --generate-hashes --no-header --no-annotate --no-emit-index-url \
    --no-emit-find-links --quiet
}
sed -nE -e 's/^# (torch==.*)/\1/p' -e "s/^(($same)==[^\\]+).*/\1/p" ../../requirements-lock.txt > "$work/same"
compile requirements.in --constraint "$work/same" --python-version 3.11 --no-emit-package torch \
  --no-emit-package triton --no-emit-package setuptools > "$work/most"
echo "ndif==0.1.2" | compile - --no-deps --python-version 3.12 > "$work/ndif"
{
  echo "# Made by tests/ndif/lock.sh; install torch first, then this file with --no-deps --require-hashes."
  awk '/^[a-z]/ {keep = ($0 !~ /^(nvidia-|cuda-)/)} keep' "$work/most"
  cat "$work/ndif"
} > requirements.txt
