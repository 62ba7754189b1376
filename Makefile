# trtforge: `make help` lists what there is.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv/bin
# What a fresh Debian or Ubuntu lacks; installed by `make setup` as root.
APT := python3-venv mmdebstrap ca-certificates
APT_TEST := docker-registry skopeo umoci podman openssl gcc libc6-dev git
# What is measured against, by `make bench`.
APT_BENCH := buildah

LOCKED := --universal --python-version 3.11 --generate-hashes --no-header --no-annotate

CUDA ?= 12.1
ARCH ?= ampere
SCHEDULER ?= tcp://127.0.0.1:8786
RESOURCES ?=

.PHONY: help setup setup-test engine image test test-toolkit test-cell test-rest test-unit lint scheduler worker bench docs requirements clean

help:  ## Show this list.
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup:  ## Everything a build needs: Debian packages (as root), .venv with the locked requirements.
	@./scripts/apt-install $(APT)
	@$(PYTHON) build.py --version

setup-test: setup  ## Everything the tests need besides.
	@./scripts/apt-install $(APT_TEST)
	@$(VENV)/uv pip install --quiet --python $(VENV)/python --require-hashes -r requirements-dev.lock

engine: setup  ## Find a Docker Engine, or install and start one (Debian, Ubuntu; as root).
	@$(PYTHON) build.py engine

image: engine  ## Build, load and test one image: make image CUDA=12.1 ARCH=ampere
	$(PYTHON) build.py --cuda $(CUDA) --arch $(ARCH)

test: setup-test engine  ## All tests; the end-to-end ones build real images (about 20 minutes, 40 GB of disk).
	$(VENV)/python -m pytest -n 2 -m "not e2e"
	$(MAKE) --no-print-directory test-toolkit
	$(MAKE) --no-print-directory -j 2 --output-sync=target test-cell test-rest

test-cell: engine
	$(VENV)/python -m pytest -m "e2e and cell" --durations=8

test-rest: engine
	$(VENV)/python -m pytest -m "e2e and not cell" --durations=8

test-toolkit: setup-test  ## The tests of trtkit that need no PyTorch; those that do run inside a built image.
	cd toolkit && PYTHONPATH=$(CURDIR)/toolkit $(CURDIR)/$(VENV)/python -m pytest -n 2 -m "not torch"

test-unit: setup-test  ## The fast tests.
	$(VENV)/python -m pytest -n 2 -m "not e2e"

lint: setup-test  ## ruff and mypy --strict; workflows by zizmor, their schemas and actionlint.
	$(VENV)/ruff check .
	$(VENV)/ruff format --check .
	$(VENV)/mypy
	cd toolkit && $(CURDIR)/$(VENV)/mypy
	$(VENV)/zizmor --offline --quiet .github/workflows toolkit/examples/ci
	$(VENV)/check-jsonschema --quiet --builtin-schema vendor.gitlab-ci .gitlab-ci.yml ci/*.yml toolkit/examples/ci/gitlab.yml
	./scripts/actionlint .github/workflows/*.yml toolkit/examples/ci/github.yml

scheduler: setup  ## A Dask scheduler for many machines (docs/scale.md); it says its address.
	@$(VENV)/uv pip install --quiet --python $(VENV)/python --require-hashes -r requirements-dashboard.lock
	PYTHONPATH=$(CURDIR) $(VENV)/dask scheduler

worker: setup  ## A worker of it: make worker SCHEDULER=tcp://host:8786 RESOURCES="ENGINE=1 GPU_SM86=1"
	PYTHONPATH=$(CURDIR) $(VENV)/dask worker $(SCHEDULER) --nthreads 1 --resources "$(RESOURCES)"

bench: setup-test engine  ## Measure against other tools; results go to bench/results/.
	@./scripts/apt-install $(APT_BENCH)
	$(VENV)/python -m bench.main_job
	$(VENV)/python -m bench.publish
	$(VENV)/python -m bench.many_cells
	$(VENV)/python -m bench.image_sizes --arches ampere,ada --build --pull ampere
	$(VENV)/python -m bench.guard
	PYTHONPATH=toolkit $(VENV)/python -m bench.serve

docs: setup-test  ## Write the generated parts of docs/ anew.
	$(VENV)/python -m docs.generate

requirements:  ## Lock trtforge's own requirements anew.
	$(VENV)/uv pip compile --quiet $(LOCKED) pyproject.toml -o requirements.lock
	$(VENV)/uv pip compile --quiet $(LOCKED) pyproject.toml --group dev -c requirements.lock \
	    toolkit/pyproject.toml --extra build --extra plot --extra serve -o requirements-dev.lock
	$(VENV)/uv pip compile --quiet $(LOCKED) pyproject.toml --group dashboard -c requirements.lock -o requirements-dashboard.lock

clean:  ## Stop our Engine and delete .cache/ and .venv/.
	-@$(PYTHON) build.py engine --stop
	rm -rf .cache .venv
