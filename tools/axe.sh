#!/bin/sh
# Fetch axe-core (MPL-2.0), the accessibility rules of tests/test_browser.py, into the cache. It is no part of this
# repository. Needs npm and the environment of `make install`; without it that one test is skipped.
set -eu
cd "$(dirname "$0")/.."
version=4.14.1
sha256=e6b0ce02b84d892e2e33e403485e7f3d6c29e2be6df65daf44d89ba564139745

folder=$(.venv/bin/python -c 'from steerkit.files import cache_dir; print(cache_dir("axe"))')
draft=$(mktemp -d "$folder/draft.XXXXXX")
trap 'rm -rf "$draft"' EXIT
npm pack --silent --pack-destination "$draft" "axe-core@$version" > /dev/null
.venv/bin/python - "$draft/axe-core-$version.tgz" "$sha256" << 'CHECK'
import hashlib, pathlib, sys
found = hashlib.sha256(pathlib.Path(sys.argv[1]).read_bytes()).hexdigest()
sys.exit(0 if found == sys.argv[2] else f"axe-core: expected sha256 {sys.argv[2]}, found {found}. Nothing was kept.")
CHECK
tar -xzf "$draft/axe-core-$version.tgz" -C "$draft" package/axe.min.js
mv "$draft/package/axe.min.js" "$folder/axe.min.js"
echo "axe-core $version is in $folder"
