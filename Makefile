# Needs make and Python 3.11 to 3.14 with its venv module; everything else goes into .venv.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
RUN_DIR ?= runs/krull
SEEDS ?= 0 1 2
PYTHONS ?= python3.11 python3.12 python3.13 python3.14 python3

# A stamp for what running needs, and one for what each extra of pyproject.toml puts on top of it.
RUN := $(VENV)/.installed
DEV := $(RUN)-dev
EXTRAS ?=
COMMA := ,
WORDS := $(strip $(subst $(COMMA), ,$(EXTRAS)))
UNKNOWN := $(filter-out control s3 export wandb dev,$(WORDS))
ifneq ($(UNKNOWN),)
$(error EXTRAS=$(EXTRAS): wanted some of control,s3,export,wandb,dev and got $(UNKNOWN))
endif

# uv installs where it runs, else pip; `make install UV=` has pip do it all the same. pip tells of all that
# it does, so its log is cut to the large downloads.
UV ?= $(shell uv --version >/dev/null 2>&1 && echo uv)
PIP = PYTHONUNBUFFERED=1 $(BIN)/python -m pip install --disable-pip-version-check
INSTALL = $(if $(UV),$(UV) pip install --python $(BIN)/python,$(PIP)) -c constraints.txt
LARGE = s/^ *Downloading (.*) \(([0-9]{2,}[0-9.]* MB|[0-9.]+ GB)\)$$/  \1, \2/p
LOG = $(if $(UV),,| sed -unE '$(LARGE); s/^Installing collected .*/  unpacking/p')

# The ordinary build of torch has CUDA in it. The CPU build is on an index of PyTorch's own, which uv
# knows and pip has to be told. GPU=yes installs as if a GPU were here.
GPU ?= $(shell nvidia-smi -L 2>/dev/null)
TORCH_INDEX ?=
CPU_BUILD = $(if $(TORCH_INDEX),--index-url '$(TORCH_INDEX)',$(if $(GPU),,$(UV:%=--torch-backend cpu)))
define TORCH_FAILED
echo "error: torch $(TORCH) could not be had with $(CPU_BUILD) (see above). Give TORCH_INDEX the address" \
  "that PyTorch's install page names for CPU, or take the ordinary build: GPU=yes" >&2; exit 2
endef
# Where pip installs, a uv of the environment's own has that step; `UV=` leaves it to pip.
OWN_UV = $(if $(CPU_BUILD)$(GPU),,$(if $(filter file,$(origin UV)),$(BIN)/uv))
define TORCH_HINT
echo "pip takes the torch that its index has, as a rule with 2.5 GB for an NVIDIA GPU, and there is none here: for the" \
  "CPU build give TORCH_INDEX the address that PyTorch's install page names for CPU"
endef
TORCH ?= $(shell sed -n 's/^torch==//p' constraints.txt)

# Runs what is left by Ctrl-C, which is no error then.
UNTIL_LEFT = echo '$(1)'; $(1) || { code=$$?; [ $$code -eq 130 ] || exit $$code; }

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
install: $(RUN) $(addprefix $(RUN)-,$(subst $() ,$(COMMA),$(WORDS))) ## Make .venv for running, pinned: .venv/bin/dreamer. EXTRAS=control,s3,export,wandb

.PHONY: install-dev
install-dev: $(DEV) ## Put on top of it what testing needs.

$(RUN): pyproject.toml constraints.txt
	@$(FIND_PYTHON); \
	if ! [ -x $(BIN)/python ] || ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
	  echo "making $(VENV) with $$("$$found" --version)"; "$$found" -m venv --clear $(VENV); \
	fi
	@echo "installing what running needs: some 90 packages, 0.4 GB to download, 2.9 GB with CUDA;" \
	  "about $(if $(UV),half a minute,a minute or two) where downloads are fast"
	@$(if $(CPU_BUILD),$(INSTALL) --no-deps $(CPU_BUILD) torch $(LOG) || { $(TORCH_FAILED); })
	@$(if $(OWN_UV),echo "fetching the CPU build of torch (0.2 GB) with a uv of its own")
	@$(if $(OWN_UV),{ $(PIP) -q -c constraints.txt uv && $(OWN_UV) pip install -q --python $(BIN)/python -c constraints.txt \
	  --no-deps --torch-backend cpu torch; } || $(TORCH_HINT))
	@$(if $(CPU_BUILD)$(GPU)$(OWN_UV),,$(TORCH_HINT))
	@$(INSTALL) -e . $(LOG)
	@touch $@

$(RUN)-%: $(RUN)
	@echo "installing what $* needs besides: up to 55 packages and 0.3 GB$(if $(UV),,, a minute)"
	@$(INSTALL) -e '.[$*]' $(LOG)
	@touch $@

.PHONY: demo
demo: $(RUN) ## Watch a trained agent play Boxing beside its dream, in a browser.
	@$(call UNTIL_LEFT,$(BIN)/dreamer demo)

.PHONY: demo-agent
demo-agent: $(RUN) ## Put the agent of RUN_DIR in the demo's place, with its score and model card.
	$(BIN)/python benchmarks/demo_agent.py $(RUN_DIR)

.PHONY: train
train: $(RUN) ## Learn Krull in ten to fifteen minutes; again resumes. RUN_DIR=runs/krull
	@$(call UNTIL_LEFT,$(BIN)/dreamer train atari_tiny --env.task krull --steps 20000 --run-dir $(RUN_DIR))

TWO_AT_A_TIME = --numprocesses 2 --dist loadfile --no-loadscope-reorder

.PHONY: test
test: $(DEV) ## Run all tests but those of learning, faults, hosts and containers.
	$(BIN)/python -m pytest $(TWO_AT_A_TIME)

.PHONY: test-learning
test-learning: $(DEV) ## Train on TASKS ("catch reach"; all), 10 minutes a task and seed. SEEDS="0 1 2" UNTIL_LEARNED=
	DREAMER_LEARNING_SEEDS="$(SEEDS)" DREAMER_LEARNING_TASKS="$(TASKS)" \
	  DREAMER_LEARNING_UNTIL_LEARNED="$(UNTIL_LEARNED)" $(BIN)/python -m pytest tests/learning -m learning

.PHONY: test-faults
test-faults: $(DEV) ## Break running services for real: kills, hangs, full disks.
	$(BIN)/python -m pytest tests/faults -m faults $(TWO_AT_A_TIME)

.PHONY: simulate
simulate: $(DEV) ## Break simulated runs in SCHEDULES (20000) ways, or as in SEED=N.
	$(BIN)/python -m tests.simulation $(if $(SEED),--seed $(SEED),--schedules $(SCHEDULES))
SCHEDULES ?= 20000

.PHONY: simulate-record
simulate-record: $(DEV) ## Put SCHEDULES and all faults put in on purpose on record.
	$(BIN)/python -m tests.simulation --all --schedules $(SCHEDULES) --json benchmarks/results/simulation.json

.PHONY: test-soak
test-soak: $(DEV) ## Kill something of one run every half a minute for SOAK_SECONDS, 900.
	DREAMER_SOAK_SECONDS=$(SOAK_SECONDS) $(BIN)/python -m pytest tests/faults -m soak
SOAK_SECONDS ?= 900

.PHONY: test-deploy
test-deploy: $(DEV) ## Watch a real run with a real Prometheus (Debian package prometheus).
	$(BIN)/python -m pytest tests/deploy -m deploy

.PHONY: test-cluster
test-cluster: $(DEV) ## ray up; cut cables, power off hosts; as root, with iproute2, tini, sshd, rsync.
	$(BIN)/python -m pytest tests/cluster -m cluster

.PHONY: test-docker
test-docker: $(DEV) ## Build the image, bring the stack up, kill containers; as root, with Docker.
	$(BIN)/python -m pytest tests/docker -m docker

IMAGE ?= dreamerv2-service

.PHONY: image
image: ## Build the images IMAGE:VERSION-cpu and -gpu, with their labels. IMAGE=registry/name
	DREAMER_IMAGE=$(IMAGE) DREAMER_COMMIT=$$(git rev-parse HEAD) \
	  DREAMER_CREATED=$$(date --utc +%Y-%m-%dT%H:%M:%SZ) \
	  docker compose -f docker-compose.yml -f docker-compose.gpu.yml build \
	  $(if $(TORCH_INDEX),--build-arg TORCH_INDEX='$(TORCH_INDEX)') head learner

RESULTS := benchmarks/results
BENCH := $(BIN)/dreamer bench

.PHONY: bench
bench: $(RUN) ## Measure this machine: gradient step, policy, replay, environment, whole run.
	$(BENCH) learner atari --json $(RESULTS)/learner_50x50.json
	$(BENCH) learner atari --replay.batch-size 16 \
	  --json $(RESULTS)/learner_16x50.json
	$(BENCH) learner atari_tiny --json $(RESULTS)/learner_tiny.json
	$(BENCH) learner atari_tiny --learner.num-processes 1 --json $(RESULTS)/learner_tiny_alone.json
	$(BENCH) learner atari_tiny --behavior.horizon 5 --json $(RESULTS)/learner_tiny_short.json
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
bench-tables: $(RUN) ## Write the tables of benchmarks/ and docs/ from the results.
	$(BIN)/python benchmarks/tables.py

.PHONY: check
check: $(DEV) ## Lint, format, types, import contracts, spelling, alert rules, Docker files.
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
format: $(DEV) ## Format the code and repair what the linter can.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Keeps the comment at the top of the file, and pins what a fresh environment gets.
.PHONY: constraints
constraints: ## Upgrade every pin in constraints.txt (torch: TORCH=2.13.0).
	@$(FIND_PYTHON); \
	fresh=$$(mktemp -d); trap 'rm -rf "$$fresh"' EXIT; \
	"$$found" -m venv "$$fresh/venv"; \
	"$$fresh/venv/bin/python" -m pip install --quiet --upgrade -e '.[dev]' torch==$(TORCH) setuptools uv; \
	grep '^#' constraints.txt >"$$fresh/pins"; \
	"$$fresh/venv/bin/python" -m pip freeze --all --exclude-editable \
	  | grep -viE '^(pip|nvidia-[a-z0-9-]+|cuda-[a-z0-9-]+|triton)==' \
	  | sed -E 's/\+[a-z0-9.]+$$//' >>"$$fresh/pins"; \
	cp "$$fresh/pins" constraints.txt

.PHONY: clean
clean: ## Remove .venv and caches; runs/ stays.
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis .import_linter_cache build dist *.egg-info
	find dreamer_core services tests -name __pycache__ -type d -prune -exec rm -rf {} +
