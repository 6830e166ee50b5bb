# Needs Python 3.11 or newer and make; everything else goes into .venv, from requirements.lock.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP_FLAGS := --quiet --no-input --disable-pip-version-check
# Workers side by side, each with an emulator and a Prefect server of its own; one more than CI has
# cores, for tests wait, too.
PYTEST_FLAGS ?= --numprocesses=3 --dist=loadfile --no-loadscope-reorder
CAMPAIGN_FLAGS ?=

export DO_NOT_TRACK := 1
export PREFECT_SERVER_ANALYTICS_ENABLED := false
export SPANNER_DISABLE_BUILTIN_METRICS := true

.DEFAULT_GOAL := help
.PHONY: help setup demo test check lint format bench campaign lock completions docs wheel clean

help: ## Show the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP) ## Install everything into .venv (again only when the lock changed)

$(STAMP): requirements.lock pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "error: $(PYTHON) is not installed; spanctl needs Python 3.11 or newer" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: spanctl needs Python 3.11 or newer, and $(PYTHON) is $$($(PYTHON) -V 2>&1); run: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@echo "installing into $(VENV) ..."
	@$(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install $(PIP_FLAGS) --no-deps --require-hashes --requirement requirements.lock
	@$(BIN)/python -m pip install $(PIP_FLAGS) --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(STAMP) ## Run the main job from start to end on a local stack
	@$(BIN)/python examples/demo.py

test: $(STAMP) ## Run the tests
	@$(BIN)/python -m pytest $(PYTEST_FLAGS)

check: lint test ## Run everything that CI runs

lint: $(STAMP) ## Check style, types and imports
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: $(STAMP) ## Format the code
	@$(BIN)/ruff check --fix-only .
	@$(BIN)/ruff format .

bench: $(STAMP) ## Measure latency, throughput, start-up and memory beside the alternatives
	@$(BIN)/python -m tests.bench

campaign: $(STAMP) ## Fault, kill and rotate thousands of times; renew docs/RELIABILITY.md
	@$(BIN)/python -m tests.campaign $(CAMPAIGN_FLAGS)

lock: $(STAMP) ## Pin the newest versions that pyproject.toml allows, with their hashes
	@$(BIN)/python -m venv build/lock
	@build/lock/bin/python -m pip install $(PIP_FLAGS) "uv>=0.5"
	@build/lock/bin/uv pip compile pyproject.toml --group dev --group build --upgrade --quiet \
	  --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	  --no-emit-index-url --no-emit-find-links --output-file requirements.lock

completions: $(STAMP) ## Write the shell completions and the table of commands that they know
	@$(BIN)/python -m spanctl_cli.completions completions

docs: $(STAMP) ## Write docs/reference from the commands' help
	@$(BIN)/python -m spanctl_cli.reference docs/reference

wheel: $(STAMP) ## Build the wheel and the source archive into dist/
	@$(BIN)/python -m hatchling build

clean: ## Remove what the other targets made
	@rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
