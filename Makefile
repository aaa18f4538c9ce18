# One virtual environment, one file of pins. On a fresh clone `make demo` or `make test` is all there is to type.
PYTHON ?= python3
VENV ?= .venv
PYTEST_ARGS ?=
# two workers of one thread each (tests/README.md); `make test WORKERS=0` runs in one process
WORKERS ?= 2
DEMO_ARGS ?=

# the pins hold for the packages that build ours, too: PIP_CONSTRAINT says so to old pips, the other name to new ones
PIP := PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt \
  $(VENV)/bin/python -m pip install -q -q -c constraints.txt

.NOTPARALLEL:
.PHONY: image help setup setup-test setup-lint demo check test lint bars slurm-up slurm-down slurm-2411 clean

help:
	@echo "make setup   install into $(VENV), with torch and SDV"
	@echo "make demo    a real table through all four models: minutes (DEMO_ARGS='-o runs/demo')"
	@echo "make check   lint, and the quick tests: two minutes on two cores"
	@echo "make test    all tests (PYTEST_ARGS='-m runs -k import'); what needs a tool that is not here skips"
	@echo "make image   shardsynth.sif, with Apptainer (containers/README.md)"
	@echo "make lint    ruff, ruff format, mypy, lint-imports"
	@echo "make bars    all benchmarks, one after the other: long"
	@echo "make slurm-up, make slurm-down   a Slurm of four nodes on this machine, to play with (Debian packages, root)"
	@echo "make slurm-2411   tests/site/slurm on Slurm 24.11 of Debian 13 (mmdebstrap, root; long)"
	@echo "make clean   remove $(VENV), caches and builds; runs/ stays"

setup: $(VENV)/.with-all
setup-test: $(VENV)/.with-test
setup-lint: $(VENV)/.with-lint

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; v = sys.version_info; v < (3, 9) and print("warning: $(PYTHON) is Python %d.%d; shardsynth needs 3.9 or newer: make PYTHON=python3.11" % v[:2])'
	@$(PYTHON) -m venv $(VENV) || { echo "$(PYTHON) cannot make a virtual environment (Debian, Ubuntu: apt install python3-venv)"; exit 1; }
	@touch $@

$(VENV)/.with-all: $(VENV)/.made pyproject.toml constraints.txt
	@echo "installing shardsynth with torch and SDV into $(VENV) (1.6 GB, a minute or two)"
	@$(PIP) -e ".[all,clinical]"
	@touch $@

$(VENV)/.with-test: $(VENV)/.with-all
	@$(PIP) -e ".[all,clinical,test]"
	@touch $@

$(VENV)/.with-lint: $(VENV)/.made pyproject.toml constraints.txt
	@$(PIP) -e ".[lint]"
	@touch $@

demo: setup
	$(VENV)/bin/shardsynth demo $(DEMO_ARGS)

PYTEST := $(VENV)/bin/python -m pytest -p tests.noskip_plugin -n $(WORKERS)

check: lint setup-test
	$(PYTEST) tests/unit $(PYTEST_ARGS)

test: setup-test
	$(PYTEST) $(PYTEST_ARGS)

image:
	containers/build.sh

lint: setup-lint
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

bars: setup-test
	@failed=; for bar in $$(grep -l __main__ benchmarks/*.py); do \
	  echo "== $$bar"; $(VENV)/bin/python $$bar || failed="$$failed $$bar"; \
	done; test -z "$$failed" || { echo "failed:$$failed"; exit 1; }

slurm-up:
	@$(PYTHON) tests/site/slurm/cluster.py up .slurm

# the whole of tests/site/slurm once more, on the Slurm of Debian 13: too long for each run of CI
slurm-2411: setup-test
	$(VENV)/bin/python benchmarks/slurm_release.py $(PYTEST_ARGS)

slurm-down:
	@$(PYTHON) tests/site/slurm/cluster.py down .slurm

clean:
	rm -rf $(VENV) dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
