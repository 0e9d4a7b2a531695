# The verbs of this repository. CI runs exactly these.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PROFILE ?= laptop
# Where torch comes from. On a machine without a GPU, pytorch.org's install page names an index with small CPU
# builds: make book TORCH_ARGS="--index-url <that index>"
TORCH_ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help install book pdf test fuzz test-ndif formats audit bench smoke check newest links lock dist clean

help:  ## list the verbs
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

install: $(VENV)/.installed  ## make the environment from the lock

$(VENV)/.installed: requirements-lock.txt pyproject.toml
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "Python 3.11 or newer is needed"'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(TORCH_ARGS) "torch==$$(sed -n 's/^# torch==//p' requirements-lock.txt)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements-lock.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

book: install  ## fetch the model, run the notebooks, build the book (PROFILE=laptop)
	$(BIN)/steerkit reproduce --profile $(PROFILE)

pdf: install  ## the whole book as one PDF, after make book (needs Chromium)
	$(BIN)/steerkit book --pdf

smoke: install  ## all notebooks with a tiny random model, in a minute
	$(BIN)/steerkit reproduce --profile smoke --no-book

test: install  ## run the tests; all of them with SLOW=1 (browser, families of models, killed runs, fuzz, dry runs)
	$(BIN)/python -m pytest -q -n 2 $(if $(SLOW),,-m "not slow")

fuzz: install  ## drive every command with 10,000 drawn inputs
	STEERKIT_FUZZ=10000 $(BIN)/python -m pytest -q -x --hypothesis-show-statistics tests/test_fuzz.py

# NDIF's server in an environment of its own; parity.json is written when everything ran and passed.
NDIF := .venv-ndif
$(NDIF)/.installed: tests/ndif/requirements.txt
	test -x $(NDIF)/bin/python || $(PYTHON) -m venv $(NDIF)
	$(NDIF)/bin/python -m pip install --quiet --disable-pip-version-check $(TORCH_ARGS) "torch==$$(sed -n 's/^# torch==//p' requirements-lock.txt)"
	$(NDIF)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --ignore-requires-python -r tests/ndif/requirements.txt
	touch $@

test-ndif: install $(NDIF)/.installed  ## run the same work on NDIF's own server, on this machine; writes benchmarks/parity.json
	PYTHONPATH=tests/ndif $(BIN)/python -m pytest -q -p served tests/ndif

formats: install  ## what was expected of the formats chapter and what was found, from the records
	$(BIN)/steerkit formats

audit: install  ## compute random cells of the committed records again
	$(BIN)/steerkit audit

bench: install  ## time the engine against upstream-style evaluation, and signed pursuit; writes benchmarks/*.json
	$(BIN)/python benchmarks/engine.py
	$(BIN)/python benchmarks/pursuit.py

dist: install  ## wheel, site and results as the files of a release, in dist/ (after make book)
	$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .
	tar -czf dist/book.tar.gz -C _build html
	cp book/generated/downloads/*.zip dist/

check: install  ## who imports whom, lint, layout of the code, types of the library
	PYTHONPATH=book $(BIN)/lint-imports --no-cache
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

newest:  ## run the tests with the newest versions that pyproject.toml allows, in .venv-newest
	$(PYTHON) -m venv .venv-newest
	.venv-newest/bin/python -m pip install --quiet --disable-pip-version-check $(TORCH_ARGS) torch
	.venv-newest/bin/python -m pip install --quiet --disable-pip-version-check -e '.[book,test]'
	.venv-newest/bin/python -m pytest -q

links: install  ## ask every address that the book links to whether it answers (after make book)
	$(BIN)/jupyter-book build book --builder linkcheck

lock:  ## write requirements-lock.txt anew from pyproject.toml (needs uv)
	sh tools/lock.sh

clean:  ## remove what was built; the cache with model and tables stays
	rm -rf _build book/notebooks book/generated out
