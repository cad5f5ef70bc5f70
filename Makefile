# Every target may be interrupted at any time: the programs it starts end with it and leave nothing behind.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help venv tools demo up down status check test unit laws sim mutants contract scenarios ha chaos faults image bench load \
	churn coldstart clean

PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
SEEDS ?= 50
EXAMPLES ?= 5000
LOAD ?=
CHURN ?=
PRESENT ?= 50000
export PYTHONUNBUFFERED := 1

help: ## this text
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

venv: ## the virtual environment .venv from the lock files
	@PYTHON=$(PYTHON) bash tests/cluster/venv.sh $(VENV)

tools: venv ## what the tests' cluster is made of (built once into the user's cache)
	@$(PY) -m tests.cluster.binaries

demo: tools ## the user document, played on a real cluster
	@$(PY) -m tests.scenarios.demo

up: tools ## a cluster with the controller on it, for your own kubectl
	@$(PY) -m tests.cluster up

down: venv ## end the cluster of `make up`
	@$(PY) -m tests.cluster down

status: venv ## what runs of the cluster of `make up`
	@$(PY) -m tests.cluster status

check: venv ## lint, format, types, floors, tidiness
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
	$(PY) -m pytest -q tests/test_tidy.py tests/test_bugs.py

unit: venv ## core and machines, every branch of them; the shell and the process
	$(VENV)/bin/coverage run --data-file=.coverage.unit --source=controller.core,controller.machines \
		-m pytest -q tests/core tests/machines
	$(VENV)/bin/coverage report --data-file=.coverage.unit --fail-under=100 --skip-covered
	$(PY) -m pytest -q tests/reconcilers tests/process

laws: venv ## new examples for every property, instead of the same ones each time (EXAMPLES=5000)
	KEEPIP_EXAMPLES=$(EXAMPLES) $(PY) -m pytest -q --timeout=0 -m hypothesis tests/core tests/machines tests/reconcilers tests/wire

sim: venv ## the whole controller in virtual time against a hostile world (SEEDS=50)
	$(PY) -m tests.sim.run --seeds $(SEEDS)
	$(PY) -m pytest -q tests/sim -k "hash_seed or outlives"

mutants: venv ## break one rule at a time: the simulation must notice
	$(PY) -m tests.sim.mutants

contract: tools ## one suite against the simulated world and the real servers
	$(PY) -m pytest -q tests/wire tests/contract tests/cluster

scenarios: tools ## stories on the real cluster
	$(PY) -m pytest -q tests/scenarios tests/load

ha: tools ## the leader killed 20 times during churn, each take-over timed
	KEEPIP_HA_KILLS=20 $(PY) -m pytest -q tests/scenarios/test_ha.py

chaos: tools ## five minutes of scaling in a tight subnet, the controller killed every 20 s
	KEEPIP_CHAOS_SECONDS=300 $(PY) -m pytest -q tests/scenarios/test_chaos.py

faults: tools ## whatever can be wrong between the controller and the API server, with nothing left of it at rest
	KEEPIP_FAULTS=1 $(PY) -m pytest -q tests/scenarios/test_faults.py

image: tools ## the Dockerfile, built without a container engine (needs root) and run as nobody on a read-only root
	@$(PY) -m pytest -q tests/image

bench: tools ## load, beside what the bare servers can do
	$(PY) -m tests.load.bench

load: tools ## the load tool on a cluster of its own (LOAD="--reservations 20000 --pods 20000"; LOAD=--help)
	@$(PY) -m tests.load.local $(LOAD)

churn: tools ## 100 changes a second on a full cluster, beside the floor (CHURN="--present 20000 --seconds 600")
	$(PY) -m tests.load.churn $(CHURN)

coldstart: tools ## three starts with 50,000 IPs and 50,000 ports there (PRESENT=50000)
	$(PY) -m tests.load.bench --large $(PRESENT)

test: ## everything
	@bash tests/cluster/everything.sh

clean: ## forget what was made here (not the user's cache of binaries)
	@if [ -d .cluster ] && [ -x $(PY) ]; then $(PY) -m tests.cluster down; fi
	rm -rf $(VENV) build dist *.egg-info .coverage* .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find controller tests -name __pycache__ -type d -prune -exec rm -rf {} +
