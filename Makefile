# Needs make and Python 3.11 to 3.14 with its venv module; everything else goes into .venv.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
RUN_DIR ?= runs/pong
SEEDS ?= 0 1 2
PYTHONS ?= python3.11 python3.12 python3.13 python3.14 python3

# The first interpreter that runs (version managers leave shims that do not), is in range, and can
# make environments with pip in them (Debian packages that apart).
define FIND_PYTHON
found=""; without_venv=""; \
for python in $(PYTHONS); do \
  "$$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 15))' \
    >/dev/null 2>&1 || continue; \
  if "$$python" -c 'import venv, ensurepip' >/dev/null 2>&1; then found=$$python; break; fi; \
  without_venv=$$python; \
done; \
if [ -z "$$found" ] && [ -n "$$without_venv" ]; then \
  echo "error: $$without_venv has no venv module, which is needed to make $(VENV);" \
       "on Debian and Ubuntu install it with: apt-get install python3-venv" >&2; exit 2; \
elif [ -z "$$found" ]; then \
  echo "error: Python 3.11 to 3.14 is needed and none of '$(PYTHONS)' runs and is in that range;" \
       "install one, or name yours: make PYTHONS=/path/to/python" >&2; exit 2; \
fi
endef

.PHONY: help
help: ## List the targets.
	@grep -hE '^[a-z.-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z.-]+):.*## (.*)/  make \1|\2/' \
	  | column -t -s '|' 2>/dev/null || grep -hE '^[a-z.-]+:.*## ' $(MAKEFILE_LIST)

.PHONY: install
install: $(STAMP) ## Make .venv with everything pinned; the command is .venv/bin/dreamer.

$(STAMP): pyproject.toml constraints.txt
	@$(FIND_PYTHON); \
	if ! [ -x $(BIN)/python ] || ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
	  echo "making $(VENV) with $$("$$found" --version)"; "$$found" -m venv --clear $(VENV); \
	fi
	@echo "installing everything that constraints.txt pins into $(VENV), which takes some minutes"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $(STAMP)

.PHONY: demo
demo: $(STAMP) ## Watch a trained agent play Boxing beside its dream, in a browser.
	$(BIN)/dreamer demo

.PHONY: demo-agent
demo-agent: $(STAMP) ## Put the agent of RUN_DIR in the demo's place, with its score and model card.
	$(BIN)/python benchmarks/demo_agent.py $(RUN_DIR)

.PHONY: train
train: $(STAMP) ## Train on Pong for a few minutes; again resumes. RUN_DIR=runs/pong
	$(BIN)/dreamer train atari_tiny --env.task pong --run-dir $(RUN_DIR)

.PHONY: test
test: $(STAMP) ## Run all tests but those of learning, faults, hosts and containers.
	$(BIN)/python -m pytest

.PHONY: test-learning
test-learning: $(STAMP) ## Train to a target return, up to 10 minutes a seed. SEEDS="0 1 2"
	DREAMER_LEARNING_SEEDS="$(SEEDS)" $(BIN)/python -m pytest tests/learning -m learning

.PHONY: test-faults
test-faults: $(STAMP) ## Break running services for real: kills, hangs, full disks.
	$(BIN)/python -m pytest tests/faults -m faults

.PHONY: simulate
simulate: $(STAMP) ## Break simulated runs in SCHEDULES (20000) ways, or as in SEED=N.
	$(BIN)/python -m tests.simulation $(if $(SEED),--seed $(SEED),--schedules $(SCHEDULES))
SCHEDULES ?= 20000

.PHONY: simulate-record
simulate-record: $(STAMP) ## Put SCHEDULES and all faults put in on purpose on record.
	$(BIN)/python -m tests.simulation --all --schedules $(SCHEDULES) --json benchmarks/results/simulation.json

.PHONY: test-soak
test-soak: $(STAMP) ## Kill something of one run every half a minute for SOAK_SECONDS, 900.
	DREAMER_SOAK_SECONDS=$(SOAK_SECONDS) $(BIN)/python -m pytest tests/faults -m soak
SOAK_SECONDS ?= 900

.PHONY: test-deploy
test-deploy: $(STAMP) ## Watch a real run with a real Prometheus (Debian package prometheus).
	$(BIN)/python -m pytest tests/deploy -m deploy

.PHONY: test-cluster
test-cluster: $(STAMP) ## ray up; cut cables, power off hosts; as root, with iproute2, tini, sshd, rsync.
	$(BIN)/python -m pytest tests/cluster -m cluster

.PHONY: test-docker
test-docker: $(STAMP) ## Build the image, bring the stack up, kill containers; as root, with Docker.
	$(BIN)/python -m pytest tests/docker -m docker

RESULTS := benchmarks/results
BENCH := $(BIN)/dreamer bench

.PHONY: bench
bench: $(STAMP) ## Measure this machine: gradient step, policy, replay, environment, whole run.
	$(BENCH) learner atari --json $(RESULTS)/learner_50x50.json
	$(BENCH) learner atari --replay.batch-size 16 \
	  --json $(RESULTS)/learner_16x50.json
	$(BENCH) learner atari_tiny --behavior.horizon 5 --learner.num-threads 2 \
	  --json $(RESULTS)/learner_tiny.json
	GOMP_SPINCOUNT=10000 $(BENCH) learner atari_tiny --behavior.horizon 5 \
	  --learner.num-threads 2 --json $(RESULTS)/learner_tiny_spinning.json
	$(BENCH) policy atari --json $(RESULTS)/policy_atari.json
	$(BENCH) policy atari_tiny --json $(RESULTS)/policy_tiny.json
	$(BENCH) env atari --json $(RESULTS)/env.json
	$(BENCH) replay atari --rows 20000 200000 2000000 --seconds 8 \
	  --json $(RESULTS)/replay.json
	$(BENCH) run atari_tiny --steps 1000000 --seconds 60 --json $(RESULTS)/run_tiny.json
	$(BENCH) run atari --seconds 60 --schedule.prefill-policy-steps 5000 \
	  --schedule.report-interval-gradient-steps 1 --replay.capacity-steps 100000 \
	  --json $(RESULTS)/run_atari.json
	$(MAKE) bench-tables

.PHONY: bench-tables
bench-tables: $(STAMP) ## Write the tables of README.md, benchmarks/ and docs/ from the results.
	$(BIN)/python benchmarks/tables.py

.PHONY: check
check: $(STAMP) ## Lint, format, types, import contracts, spelling, alert rules, Docker files.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports --no-logo
	$(BIN)/codespell
	@if command -v promtool >/dev/null; then \
	  promtool check config deploy/prometheus/prometheus.yml; \
	  promtool test rules deploy/prometheus/rules_test.yml; \
	else echo "skipped: deploy/prometheus, for want of promtool (Debian package prometheus)"; fi
	$(BIN)/hadolint docker/Dockerfile
	@if docker compose version >/dev/null 2>&1; then $(COMPOSE_CHECK); \
	else echo "skipped: docker-compose*.yml, for want of docker compose, version 2"; fi
COMPOSE_CHECK = docker compose --profile "*" config --quiet \
  && docker compose -f docker-compose.yml -f docker-compose.gpu.yml config --quiet

.PHONY: format
format: $(STAMP) ## Format the code and repair what the linter can.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Keeps the comment at the top of the file, and pins what a fresh environment gets.
.PHONY: constraints
constraints: ## Upgrade every pin in constraints.txt (torch: TORCH=2.13.0).
	@$(FIND_PYTHON); \
	fresh=$$(mktemp -d); trap 'rm -rf "$$fresh"' EXIT; \
	"$$found" -m venv "$$fresh/venv"; \
	"$$fresh/venv/bin/python" -m pip install --quiet --upgrade -e '.[dev]' torch==$(TORCH) setuptools; \
	grep '^#' constraints.txt >"$$fresh/pins"; \
	"$$fresh/venv/bin/python" -m pip freeze --all --exclude-editable \
	  | grep -viE '^(pip|nvidia-[a-z0-9-]+|cuda-[a-z0-9-]+|triton)==' \
	  | sed -E 's/\+[a-z0-9.]+$$//' >>"$$fresh/pins"; \
	cp "$$fresh/pins" constraints.txt
TORCH ?= $(shell sed -n 's/^torch==//p' constraints.txt)

.PHONY: clean
clean: ## Remove .venv and caches; runs/ stays.
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis .import_linter_cache build dist *.egg-info
	find dreamer_core services tests -name __pycache__ -type d -prune -exec rm -rf {} +
