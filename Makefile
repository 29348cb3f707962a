# Every command creates the environment that it needs on first use, in .venv.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin

.PHONY: demo test test-all test-faults check parity bench golden clean
.DELETE_ON_ERROR:

demo: $(VENV)/.demo  ## train on real digits, write a picture to out/, then an ensemble and a search
	$(RUN)/python examples/01_digits.py

test: $(VENV)/.test  ## the tests that take minutes; no torch needed
	$(RUN)/python -m pytest -n auto --dist worksteal

test-all: test  ## and then the longer ones
	$(RUN)/python -m pytest -n auto --dist worksteal -m "slow and not faults"

test-faults: $(VENV)/.test  ## more simulated crashes and broken files: some minutes
	$(RUN)/python -m pytest -n auto --dist worksteal -m faults

check: $(VENV)/.check  ## format, lint, types
	$(RUN)/ruff format --check .
	$(RUN)/ruff check .
	$(RUN)/mypy

parity: $(VENV)/.test $(VENV)/.peers  ## comparison with torch, optax and flax
	$(RUN)/python -m pytest -n auto --dist worksteal parity

bench: $(VENV)/.plot $(VENV)/.bench  ## benchmarks next to peers, into benchmarks/RESULTS.md
	$(RUN)/python benchmarks/run_all.py

golden: $(VENV)/.test $(VENV)/.peers  ## make the golden files of the tests again, from torch
	$(RUN)/python tests/golden/make.py

clean:
	rm -rf $(VENV) out

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# One marker file for each extra of pyproject.toml, remade when that file changes.
$(VENV)/.%: pyproject.toml | $(VENV)/bin/python
	$(RUN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$*]'
	@touch $@
