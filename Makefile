# Two commands: `make repro` regenerates every table and figure, `make test` checks the code. Each sets up .venv by itself.

PROFILE ?= default
PYTHON ?= python3
VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
export PATH := $(BIN):$(PATH)
export PYTHONDONTWRITEBYTECODE :=

# The last torchtext, and the PyTorch that it was built for.
OLD := .venv-torchtext
COMPARED := .pcbench/generations
ON_OLD := tests/torchtext tests/wild tests/numerics/test_backprop_equivalence.py tests/properties/test_random_networks.py

# The code bases of the wild models; ARGS="--fresh timm" does timm's anew.
WILD := .venv-wild

# Ray and submitit; ARGS="-k soak" for some of its tests.
CLUSTER := .venv-cluster

# The default profile's pipeline is the repository's own; the others are in profiles/.
PIPELINE = $(if $(filter default,$(PROFILE)),dvc.yaml,profiles/$(PROFILE)/dvc.yaml)

# Other people's libraries; one of them wants an older JAX. Torch2PC is in no package index: TORCH2PC=path/to/its/folder.
PEERS := .venv-peers
PEERS_PCX := .venv-peers-pcx
TORCH2PC ?=

# Which stored run `make bench-compare` compares with: the last one, or a number.
RUN ?=

.PHONY: help known-profile repro test test-all test-torchtext test-wild test-cluster bench bench-compare peers lint docs profiles readme clean
.DEFAULT_GOAL := help

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-15s %s\n", $$1, $$2}'

repro: known-profile $(VENV)/.installed ## fetch, train, measure, report, check: PROFILE=default (minutes), smoke, paper (hours), full (days)
	@echo "==> dvc repro, profile $(PROFILE): what is up to date is not run again"
	@test -e .git || dvc config --local core.no_scm true
	@pcbench run --profile $(PROFILE)
	@echo "==> pcbench check: the report's figures against what is expected of them"
	@pcbench check --profile $(PROFILE)

known-profile:
	@test -f $(PIPELINE) || { echo "error: no profile '$(PROFILE)'; there are: default $$(cd profiles && ls -d */ | tr -d / | xargs)"; exit 2; }

test: $(VENV)/.installed ## the fast tests
	@echo "==> pytest"
	@pytest -n auto

test-all: $(VENV)/.installed ## the slow tests too
	@pytest -n auto -m ''

test-torchtext: $(VENV)/.installed $(OLD)/.installed ## bits on PyTorch 2.3, beside torchtext itself
	@echo "==> pytest in $(OLD)"
	@PATH="$(CURDIR)/$(OLD)/bin:$$PATH" pytest -n auto $(ON_OLD)
	@mkdir -p $(COMPARED)
	@echo "==> one weight update in each of two PyTorch generations"
	@$(OLD)/bin/python tests/torchtext/generations.py write $(COMPARED)/old.pt
	@$(BIN)/python tests/torchtext/generations.py write $(COMPARED)/new.pt
	@$(BIN)/python tests/torchtext/generations.py compare $(COMPARED)/old.pt $(COMPARED)/new.pt
	@echo "==> the tokens of $(VENV) against torchtext's"
	@$(BIN)/python tests/torchtext/parity.py write pcbench $(COMPARED)/pcbench.json
	@$(OLD)/bin/python tests/torchtext/parity.py write torchtext $(COMPARED)/torchtext.json
	@$(BIN)/python tests/torchtext/parity.py compare $(COMPARED)/pcbench.json $(COMPARED)/torchtext.json
	@echo "==> AG News trained with torchtext as back end, and with PCBench's own loader"
	@$(OLD)/bin/python tests/torchtext/training.py

test-wild: $(WILD)/.installed ## Z-IL against BP on models of timm, transformers, diffusers, ... (hours); writes reports/wild.md
	@echo "==> one model a process; what .pcbench/wild already holds is not run again"
	@$(WILD)/bin/python tests/wild/families/run.py $(ARGS)

test-cluster: $(CLUSTER)/.installed ## cells on Ray, and on Slurm if it is installed, with nodes that are lost (long; as root)
	@echo "==> pytest in $(CLUSTER)"
	@PATH="$(CURDIR)/$(CLUSTER)/bin:$$PATH" pytest tests/cluster -n 0 -m '' -rs $(ARGS)

bench: $(VENV)/.installed ## absolute times of weight updates, stored under .benchmarks/; ARGS="-k digits-rnn" for some
	@pytest benchmarks --benchmark-autosave --benchmark-columns=median,iqr,rounds $(ARGS)

bench-compare: $(VENV)/.installed ## the same, compared with the last stored run, or with RUN=0003
	@ls .benchmarks/*/*.json > /dev/null 2>&1 || { echo "error: no run is stored here; \`make bench\` stores one"; exit 2; }
	@pytest benchmarks --benchmark-compare$(if $(RUN),=$(RUN)) --benchmark-columns=median,iqr,rounds $(ARGS)

peers: $(PEERS)/.installed $(PEERS_PCX)/.installed ## other libraries' gradients beside ours in Table 6; TORCH2PC=PATH for one more
	@echo "==> one weight update by each library, on our weights and batch"
	@$(PEERS)/bin/python -m benchmarks.peers fabricpc
	@$(PEERS_PCX)/bin/python -m benchmarks.peers pcx
	@$(if $(TORCH2PC),$(PEERS)/bin/python -m benchmarks.peers torch2pc --path $(TORCH2PC))
	@$(PEERS)/bin/python -m benchmarks.peers table

lint: $(VENV)/.installed ## what the code must look like
	@ruff check . && ruff format --check . && mypy

docs: $(VENV)/.installed ## the API's documentation from its docstrings, in .pcbench/docs
	@pdoc pcbench pcbench.errors pcbench.rules pcbench.nn pcbench.tasks pcbench.data -d google -o .pcbench/docs

profiles: $(VENV)/.installed ## write what follows from params.yaml and the code: pipelines, cards of data sets
	@$(BIN)/python profiles/pipelines.py
	@$(BIN)/python datasets/cards.py

readme: $(VENV)/.installed ## write the report's headline into README.md
	@$(BIN)/python docs/readme.py

clean: ## remove results, DVC's cache of them, and the report (not the environment, not the data)
	rm -rf results .pcbench .dvc/cache reports/index.html

$(VENV)/.installed: requirements.lock pyproject.toml
	$(call install,$(VENV),requirements.lock,--no-compile)

$(OLD)/.installed: requirements-torchtext.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info >= (3, 13))' || \
	  { echo "error: torchtext ends at Python 3.12; name such a one: make PYTHON=python3.12 test-torchtext"; exit 2; }
	$(call install,$(OLD),requirements-torchtext.lock)

$(PEERS)/.installed: requirements-peers.lock pyproject.toml
	$(call install,$(PEERS),requirements-peers.lock)

$(PEERS_PCX)/.installed: requirements-peers-pcx.lock pyproject.toml
	$(call install,$(PEERS_PCX),requirements-peers-pcx.lock)

$(WILD)/.installed: requirements-wild.lock pyproject.toml
	$(call install,$(WILD),requirements-wild.lock)

$(CLUSTER)/.installed: requirements-cluster.lock pyproject.toml
	$(call install,$(CLUSTER),requirements-cluster.lock)

# $(call install,ENVIRONMENT,LOCK,OPTIONS): a lock is whole, so nothing is resolved. Of the default environment's modules few
# are imported: Python compiles these when they are, which every start would repeat where bytecode may not be written. The
# others are compiled beforehand: what old packages are warned of then is an error in a test.
define install
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: $(PYTHON) is older than 3.11; name another one: make PYTHON=python3.12 ..."; exit 2; }
	@echo "==> setting up $(1) from $(2) (PyTorch is large: a few minutes)"
	@$(PYTHON) -m venv $(1)
	@$(1)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps $(3) -r $(2)
	@$(1)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@
endef
