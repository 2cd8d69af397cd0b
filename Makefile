# Everything runs from a fresh checkout with python3 (3.11 or newer); real test servers also need mvn, or Docker.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help demo test check bench servers lock

help: ## what there is
	@grep -E '^[a-z]+: .*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 18

# The lock file pins every package, also what builds this one; the stamp makes a second call instant.
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$(PYTHON) is older than Python 3.11: make PYTHON=python3.12 …" >&2; exit 1; }
	@echo "Setting up $(VENV) with the packages of requirements.lock: once, a few minutes"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: $(READY) ## simulate traffic with an attack, replay it, read the alerts
	@PATH="$(CURDIR)/$(BIN):$$PATH" sh deploy/demo.sh

check: $(READY) ## style, types, import directions and the fast tests
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -q -n auto -m "not integration and not slow"

test: $(READY) ## all tests, with real Kafka and Elasticsearch
	$(BIN)/pytest -q -n auto -m "not integration"
	$(BIN)/pytest -q -m integration

bench: $(READY) ## speed, measured on this machine
	@$(BIN)/python -m tests.benchmarks

servers: $(READY) ## a real Kafka and Elasticsearch until Ctrl-C
	@$(BIN)/python -m tests.servers

lock: ## take the newest allowed versions and pin them
	rm -rf $(VENV)/lock && $(PYTHON) -m venv $(VENV)/lock
	$(VENV)/lock/bin/python -m pip install --quiet --upgrade "pip>=25.1"
	$(VENV)/lock/bin/python -m pip install --quiet -e . --group dev "hatchling>=1.27" editables
	$(VENV)/lock/bin/python -m pip freeze --exclude-editable > requirements.lock
	rm -rf $(VENV)/lock
