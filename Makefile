# Every command creates the environment that it needs on first use, in .venv.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin
OLDEST := .venv-oldest
# Python compiles a module when it is first imported, and most are never.
INSTALL := python -m pip install --quiet --disable-pip-version-check --no-compile
PYTEST := $(RUN)/python -m pytest -n auto --dist worksteal
# Files with a marked test: importing all files takes a worker 15 seconds.
LONGER := $(sort $(shell grep -rl --include='test_*.py' mark.slow tests))
TORCH := $(sort $(shell grep -rl --include='test_*.py' mark.torch tests))
# Whose longer tests compare numbers of compiled programs with oracles and uncompiled functions.
NUMERICS := $(filter tests/augment/% tests/nn/kernels/% tests/nn/normalization/% tests/lab/plots/%, \
	$(LONGER))
# Without it each process compiles the package and each worker rewrites the assertions of all tests.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test test-all test-oldest test-faults check parity bench golden clean
.DELETE_ON_ERROR:

demo: $(VENV)/.demo  ## train on real digits, write a picture to out/, then an ensemble and a search
	$(RUN)/python examples/01_digits.py

test: $(VENV)/.test  ## the tests that take minutes; no torch needed
	$(PYTEST)

test-all: test  ## and then the longer ones; those of numerics with the optimizations of users
	$(PYTEST) -m "slow and not faults and not torch" $(filter-out $(NUMERICS),$(LONGER))
	XLA_FLAGS=--xla_backend_optimization_level=3 \
		$(PYTEST) -m "slow and not faults and not torch" $(NUMERICS)

test-oldest: $(OLDEST)/.test  ## training and values with the oldest versions that are supported
	$(OLDEST)/bin/python -m pytest -n auto --dist worksteal -o cache_dir=.cache/oldest \
		tests/train tests/values tests/lab/fit

test-faults: $(VENV)/.test  ## more simulated crashes and broken files: some minutes
	$(PYTEST) -m faults

check: $(VENV)/.check  ## format, lint, types
	$(RUN)/ruff format --check .
	$(RUN)/ruff check .
	$(RUN)/mypy

parity: $(VENV)/.test $(VENV)/.peers  ## comparison with torch, optax and flax
	$(PYTEST) parity
	$(PYTEST) -m torch $(TORCH)

bench: $(VENV)/.plot $(VENV)/.bench  ## benchmarks next to peers, into benchmarks/RESULTS.md
	$(RUN)/python benchmarks/run_all.py

golden: $(VENV)/.test $(VENV)/.peers  ## make the golden files of the tests again, from torch
	$(RUN)/python tests/golden/make.py

clean:
	rm -rf $(VENV) $(OLDEST) out

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# One marker file for each extra of pyproject.toml, remade when that file changes.
$(VENV)/.%: pyproject.toml | $(VENV)/bin/python
	$(RUN)/$(INSTALL) --editable '.[$*]'
	@touch $@

$(OLDEST)/.test: pyproject.toml tests/oldest.txt
	$(PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/$(INSTALL) --constraint tests/oldest.txt --editable '.[test]'
	@touch $@
