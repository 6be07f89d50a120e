# One command each: `make venv`, `make test`, `make demo`. Needs only Python 3.11 or newer and a package index.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

# Without these, two torch processes that meet on few cores slow each other down by an order of magnitude.
export OMP_WAIT_POLICY := PASSIVE
export KMP_BLOCKTIME := 0

# pytest compiles the tests and the plugins once, not in each process of each run.
unexport PYTHONDONTWRITEBYTECODE

PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadgroup
FAST := -m "not model and not slow"

# The kernel (pyproject.toml lists its files) is what every method stands on: its own tests must run nearly all of it.
KERNEL_TESTS := tests/core tests/plug tests/training tests/metrics tests/pipeline tests/encoders/test_embeddings.py

.PHONY: venv lint types fast coverage test test-times demo clean
.NOTPARALLEL:
.DEFAULT_GOAL := test

venv: $(VENV)/.installed

# torch goes first and alone: at this version, whichever build the machine's index prefers (a CPU one, say) will do.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet -c constraints.txt torch
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[all]' --group dev
	touch $@

lint: venv
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: venv
	$(BIN)/mypy

# The tests to run while working: a minute on two cores, no network.
fast: venv
	$(PYTEST) $(FAST)

coverage: venv
	$(PYTEST) $(FAST) $(KERNEL_TESTS) --cov --cov-report=
	$(BIN)/coverage report

test: lint types fast coverage
	$(BIN)/personaplug models pull smollm2-135m minilm
	$(BIN)/personaplug data pull chitchat
	$(PYTEST) -m "model or slow"

# How long the fast and all tests take from a fresh clone.
test-times: venv
	$(BIN)/python benchmarks/test_times.py

demo: venv
	$(BIN)/personaplug demo

# Leaves demo/, runs/ and the cache of pulled models alone: they took time to make.
clean:
	rm -rf $(VENV) dist .coverage .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
