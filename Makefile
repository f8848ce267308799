# `make help` lists the targets. Everything runs in .venv, which `make setup` builds.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
# A process for each core; the tests of a file stay in one, since they share what it set up.
PYTEST := pytest -q -n logical --dist loadfile --no-loadscope-reorder
# Analytics and telemetry of every tool are off in this project.
export DO_NOT_TRACK := 1
export DVC_NO_ANALYTICS := 1
export GX_ANALYTICS_ENABLED := false
export MLFLOW_DISABLE_TELEMETRY := true
export PREFECT_SERVER_ANALYTICS_ENABLED := false
# As the pipeline's own commands do: threads that wait for each other leave the cores to others.
export GOMP_SPINCOUNT := 30000
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: help setup run repro ui deploy check test zoo chaos format lint types imports lock schema expectations readme bench-run bench-data bench-train bench-evaluate published ablations clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: .venv/.installed ## Build .venv from requirements.lock

.venv/.installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "$$($(PYTHON) --version) is too old: Python 3.11 or newer is needed; name one with 'make setup PYTHON=python3.12'" >&2; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@# Compiled once, here: otherwise the first start of each tool does it, and where Python may not
	@# write bytecode (PYTHONDONTWRITEBYTECODE, as in many containers) every start does.
	$(BIN)/uv pip install --quiet --compile-bytecode -r requirements.lock
	$(BIN)/uv pip install --quiet --no-deps -e .
	@touch $@

run: setup ## Everything: data, checks, training, evaluation, registration
	@python -m flows.training

repro: setup ## The same stages by DVC alone, without any server or registration
	@python -m pipeline data restore && dvc repro

ui: setup ## The web pages of MLflow and Prefect, on loopback, until Ctrl-C
	@python -m flows.ui

deploy: setup ## Serve the scheduled flows to Prefect's page, until Ctrl-C (needs `make ui`)
	@python -m flows.deploy

check: lint types imports ## Lint, types, import contracts and the fast tests: before every commit
	$(PYTEST) -m "not slow and not chaos"

test: setup ## All tests but those of `make chaos`, with real servers and whole pipelines
	$(PYTEST) -m "not chaos"

zoo: setup ## Train every own network a little, and compare its layers with the network itself
	pytest -q -n logical -m zoo

chaos: setup ## Tests that kill at random moments and wait; slower than `make test`
	pytest -q -m chaos

lint: setup
	ruff format --check
	ruff check

types: setup
	mypy

imports: setup
	lint-imports --no-cache

format: setup ## Format the code and mend what can be mended
	ruff format
	ruff check --fix

schema: setup ## Write params.schema.json anew, after a change to src/pipeline/params/
	python -m pipeline params --schema > .schema.tmp && mv .schema.tmp params.schema.json

expectations: setup ## Write expectations.json anew, after a change to the checks or their settings
	python -m pipeline params --expectations > .expectations.tmp
	mv .expectations.tmp src/pipeline/data/validation/expectations.json

bench-run: setup ## Time the whole run in a fresh clone of the last commit
	python -m benchmarks.main_run

bench-data: setup ## Time scan, near duplicates, validate and split beside their peers
	python -m benchmarks.data

bench-train: setup ## Time training beside its compute ceiling and the loops of others
	python -m benchmarks.train

bench-evaluate: setup ## Time explanations, predictions and intervals beside their peers
	python -m benchmarks.evaluate

published: setup ## Train PRESET with several seeds beside its published figure (DATA: its source)
	python -m benchmarks.published $(PRESET) $(if $(DATA),--data $(DATA))

ablations: setup ## Exchange one block of a network at a time, on Fashion-MNIST (DATA: its source)
	python -m benchmarks.ablations $(if $(DATA),--data $(DATA))

readme: setup ## Fill README.md's tables, docs/benchmarks.md and docs/published.md from the results
	python -m benchmarks.readme

lock: setup ## Write requirements.lock anew from pyproject.toml
	uv pip compile --quiet --universal --all-extras --no-header --no-annotate --no-emit-index-url \
		pyproject.toml -o requirements.lock

clean: ## Remove what stages and servers wrote; keeps data/ and the environment
	rm -rf artifacts checkpoints .pipeline .cache
