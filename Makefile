# Every target but help sets up .venv by itself; `make help` lists them.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help

PYTHON ?= python3
ARGS ?=
BIN := .venv/bin
LOCKED := .venv/locked
READY := .venv/ready

# Two workers share the cores; threads of torch and numpy on top of them only slow both down.
export OMP_NUM_THREADS := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1

.PHONY: help setup devnet test bench lint lock vectors docker-check clean

help: ## list the targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 22

setup: $(READY) ## create .venv with everything the project needs
	@echo "Ready: $(BIN)/freezenet"

devnet: $(READY) ## start a local network (ARGS="--nodes 3 --miners 2")
	@exec $(BIN)/freezenet devnet up $(ARGS)

test: $(READY) ## run the tests and check the coverage of consensus and chain
	@$(BIN)/coverage erase
	@$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder --cov --cov-report= $(ARGS)
	@echo "Coverage of consensus, at least 95 %:"
	@$(BIN)/coverage report --include='consensus/*' --fail-under=95
	@echo "Coverage of chain, at least 90 %:"
	@$(BIN)/coverage report --include='chain/*' --fail-under=90

bench: $(READY) ## measure what the work and its verification cost, beside the goals
	@exec $(BIN)/freezenet lab bench $(ARGS)

lint: $(READY) ## check style, types and the direction of imports
	@$(BIN)/ruff check --quiet
	@$(BIN)/ruff format --quiet --check || { $(BIN)/ruff format --check; exit 1; }
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-annotate --custom-compile-command "make lock"

lock: $(READY) ## resolve the newest versions that pyproject.toml allows (ARGS="-P name" for one alone)
	@$(COMPILE) $(if $(ARGS),$(ARGS),--upgrade) -o requirements.lock pyproject.toml
	@$(COMPILE) $(if $(ARGS),$(ARGS),--upgrade) -c requirements.lock --extra dev --extra lab \
		-o requirements-dev.lock pyproject.toml

vectors: $(READY) ## write the golden vectors anew
	@exec $(BIN)/freezenet dev vectors $(ARGS)

docker-check: ## build the container image, run the composed devnet, take it down
	@exec $(PYTHON) docker/check.py $(ARGS)

clean: ## remove caches, build outputs and local networks; .venv stays
	@rm -rf .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .schemathesis
	@rm -rf .coverage .coverage.* htmlcov build dist *.egg-info .devnet .devnet-*
	@find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

# What an installation tells goes to stderr: `make devnet ARGS=--json` prints JSON alone.
# The stamp goes first and comes back last: an interrupted installation has none, and the next one starts afresh.
$(LOCKED): requirements-dev.lock
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is missing: install Python 3.11 or newer" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$$($(PYTHON) -V) is too old: FreezeNet needs 3.11 or newer (make PYTHON=python3.12)" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "$(PYTHON) has no venv module: install the package python3-venv" >&2; exit 1; }
	@if [ ! -e $@ ] || ! $(BIN)/python -c '' 2>/dev/null; then \
		echo "Creating .venv" >&2; $(PYTHON) -m venv --clear .venv; fi
	@rm -f $@
	@echo "Installing $$(grep -c '==' $<) locked packages, several gigabytes with PyTorch; this takes minutes" >&2
	@$(BIN)/pip install --no-deps --only-binary :all: --require-hashes --progress-bar off -r $< 2>&1 \
		| tee .venv/install.log | sed -un -E \
			-e 's/^ *(Downloading|Using cached) ([^-]+-[^-]+).* (\([0-9]{3,}\.[0-9] MB\)).*/  \2 \3/p' \
			-e 's/^Installing collected packages.*/Unpacking and installing/p' >&2 \
		|| { tail -n 5 .venv/install.log; echo "Installation failed; the whole log is .venv/install.log"; exit 1; } >&2
	@touch $@

$(READY): $(LOCKED) pyproject.toml
	@$(BIN)/pip install --quiet --no-deps --no-build-isolation --no-index -e .
	@touch $@
