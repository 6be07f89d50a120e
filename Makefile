# One command each: `make venv`, `make test`, `make demo`. Needs only Python 3.11 or newer and a package index.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

# Without these, two torch processes that meet on few cores slow each other down by an order of magnitude.
export OMP_WAIT_POLICY := PASSIVE
export KMP_BLOCKTIME := 0

# The kernel: what every method stands on. At least this share of its lines is run by the tests.
KERNEL := core/types core/errors core/config core/registry plug/model plug/pooling training/trainer pipeline/artifacts metrics/scores metrics/bootstrap pipeline/personalizer encoders/cache/embeddings
COVERAGE := 90

empty :=
comma := ,
KERNEL_FILES := $(subst $(empty) $(empty),$(comma),$(KERNEL:%=src/personaplug/%.py))

.PHONY: venv test lint types demo clean
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

test: lint types
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not model and not slow" -n auto --dist loadfile --cov --cov-report=
	$(BIN)/personaplug models pull smollm2-135m minilm
	$(BIN)/personaplug data pull chitchat
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "model or slow" -n auto --dist loadfile --cov --cov-append --cov-report=
	$(BIN)/coverage report --include='$(KERNEL_FILES)' --fail-under=$(COVERAGE)

demo: venv
	$(BIN)/personaplug demo

# Leaves demo/, runs/ and the cache of pulled models alone: they took time to make.
clean:
	rm -rf $(VENV) dist .coverage .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
