# One command surface, for people and for CI. `make` alone prints the targets.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
# Test files that run side by side; most of their time they wait, so it is more than the cores.
JOBS ?= 3

# The modules of the hot path are compiled where they are; without that the Python itself runs (streamapp/native.py).
READY := $(VENV)/.compiled

.DEFAULT_GOAL := help
.PHONY: help setup run test unit wheel check format constraints bench bench-growth crash fuzz fuzz-workers clicks size stock chaos clean

help:  ## print the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(READY)  ## build .venv and nothing else

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
		|| { echo "make: Python 3.11 to 3.13 is needed, and '$(PYTHON)' is $$($(PYTHON) --version 2>&1). Name another one: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 2; }
	@echo "building $(VENV) (once; about a minute)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r constraints.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(READY): $(STAMP) $(shell find streamapp -name '*.py' -o -name '*.pxd')
	@$(BIN)/python -m streamapp.compilation
	@touch $@

run: $(READY)  ## real purchases through real Kafka, with the auditor's verdict (ONCE=1 ends after it)
	@$(BIN)/streamapp demo $(if $(filter-out 0,$(ONCE)),--once)

test: $(READY)  ## every test that gates a change, on real Kafka and PostgreSQL
	@$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

unit: $(READY)  ## the tests that need no broker: rules, engine, state, and workers on the broker in memory
	@$(BIN)/python -m pytest -n 2 --dist load -p no:cacheprovider -m "not slow and not kafka and not builds" tests/unit tests/contract $(PYTEST_ARGS)

wheel: $(READY)  ## dist/streamapp-*.whl, with the hot path compiled for this Python
	@$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir dist .

check: $(READY)  ## formatting, lint, types, import rules, schemas
	@$(BIN)/ruff format --check . && $(BIN)/ruff check . && $(BIN)/mypy && $(BIN)/lint-imports --no-cache \
		&& $(BIN)/streamapp schema check

format: $(READY)  ## format the code and apply the safe fixes
	@$(BIN)/ruff check --fix --quiet . ; $(BIN)/ruff format .

constraints:  ## resolve constraints.txt and bench/constraints.txt anew (needs uv)
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --extra dev pyproject.toml \
		--output-file constraints.txt --no-emit-package streamapp --custom-compile-command "make constraints"
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --extra bench pyproject.toml \
		--output-file bench/constraints.txt --no-emit-package streamapp --custom-compile-command "make constraints"

crash: $(READY)  ## every crash point in every way on real Kafka (SEED= POINT= WAY= DYNAMIC=1 choose, REPORT= keeps)
	@PYTHONPATH=tests/crash $(BIN)/python -m campaign $(if $(SEED),--seed $(SEED)) $(addprefix --point ,$(POINT)) \
		$(addprefix --way ,$(WAY)) $(if $(DYNAMIC),--dynamic) $(if $(REPORT),--report $(REPORT))

fuzz: $(READY)  ## odd records: the worker and the auditor must say the same of each (RECORDS= SEED= choose)
	@PYTHONPATH=tests/support $(BIN)/python -m record_fuzz $(if $(RECORDS),--records $(RECORDS)) $(if $(SEED),--seed $(SEED))

clicks: $(READY)  ## a million clicks through two workers, one killed every 20 s, all counted (CLICKS= SEED= choose, REPORT= keeps)
	@PYTHONPATH=tests/crash $(BIN)/python -m clicks $(if $(CLICKS),--clicks $(CLICKS)) $(if $(SEED),--seed $(SEED)) \
		$(if $(REPORT),--report $(REPORT))

fuzz-workers: $(READY)  ## odd records into whole workers on real Kafka, every one accounted for (RECORDS= SEED= REPORT=; 30 minutes)
	@PYTHONPATH=tests/crash:tests/fuzz $(BIN)/python -m fuzzing $(if $(RECORDS),--records $(RECORDS)) \
		$(if $(SEED),--seed $(SEED)) $(if $(REPORT),--report $(REPORT))

PEERS := .streamapp/bench/venv

$(PEERS)/.ready: bench/constraints.txt
	@echo "building $(PEERS), the peers' own environment (once; about a minute)"
	@test -x $(PEERS)/bin/python || $(PYTHON) -m venv $(PEERS)
	@$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r bench/constraints.txt
	@touch $@

bench: $(READY) $(PEERS)/.ready  ## the peers side by side, alone on the machine (ONLY=ours,quix ROUNDS=2 choose a part)
	@$(BIN)/python -m bench run $(if $(ONLY),--only $(ONLY)) $(if $(ROUNDS),--rounds $(ROUNDS))

bench-growth: $(READY)  ## how our speed holds as partitions, keys, ids, bytes and workers grow (ONLY=ids ROUNDS=1)
	@$(BIN)/python -m bench growth $(if $(ONLY),--only $(ONLY)) $(if $(ROUNDS),--rounds $(ROUNDS))

size: $(READY)  ## restart, take-over, restore, memory and storms at the size that was promised (ONLY= REPORT=; 15 minutes)
	@PYTHONPATH=tests/crash:tests/size $(BIN)/python -m proofs $(addprefix --only ,$(ONLY)) $(if $(REPORT),--report $(REPORT))

stock: $(READY)  ## stock Faust's exactly_once and ours in the same scenarios (ROW= REPORT=; 15 minutes)
	@PYTHONPATH=tests/stock $(BIN)/python -m comparison $(addprefix --row ,$(ROW)) $(if $(REPORT),--report $(REPORT))

chaos:
	@echo "make $@: not built yet; CHANGELOG.md says what is" >&2; exit 2

clean:  ## stop what it started and remove what it made
	@if test -x $(BIN)/streamapp; then $(BIN)/streamapp down --data-dir .streamapp/run; fi
	rm -rf $(VENV) .streamapp build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
