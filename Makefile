# Every target sets up what it needs: a virtual environment in .venv, made once and renewed when pyproject.toml changes.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
# Most of what is installed is never imported; what is, Python compiles then, once, wherever this is run.
INSTALL := $(PIP) install --no-compile
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help demo test test-all test-lowest check format lint types bench bench-quick bench-compare soak soak-objects fuzz fuzz-quick readers clean

help:  ## this list
	@echo "harvester: every message and bounce of a Mailkit account, as Parquet. Targets:"
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

demo: $(VENV)/.run  ## harvest a simulated account into ./demo-lake (needs nothing but Python)
	@$(BIN)/harvester demo --lake demo-lake

test: $(VENV)/.test  ## run the tests
	@$(BIN)/python -m pytest --numprocesses auto $(PYTEST_ARGS)

test-all: $(VENV)/.test  ## run them on more examples, and with a stop at every durable step, which takes much longer
	@TEST_STRIDE=1 $(BIN)/python -m pytest --numprocesses auto --timeout 3600 $(PYTEST_ARGS)

test-lowest: $(BIN)/python  ## run the tests with the oldest versions of the dependencies that are allowed
	@$(INSTALL) uv
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(VENV)-lowest
	@$(BIN)/uv pip install --quiet --python $(VENV)-lowest/bin/python --resolution lowest-direct --editable . --group test
	@$(VENV)-lowest/bin/python -m pytest --numprocesses auto $(PYTEST_ARGS)

check: lint types test  ## everything that CI checks: format, lint, types, layers, tests

format: $(VENV)/.check  ## rewrite the code in its standard format
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

lint: $(VENV)/.check  ## format and lint, without changing anything
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .

types: $(VENV)/.check  ## mypy (strict) and pyright, side by side
	@$(BIN)/mypy & mypy=$$!; $(BIN)/pyright --pythonpath $(BIN)/python; pyright=$$?; wait $$mypy && exit $$pyright

bench: $(VENV)/.bench  ## measure speed and memory, as ratios to named references
	@$(BIN)/python -m benchmarks $(BENCH_ARGS)

bench-quick: $(VENV)/.bench  ## the same in about a minute
	@$(BIN)/python -m benchmarks --quick $(BENCH_ARGS)

bench-compare: $(VENV)/.run  ## what got faster or slower between two files: OLD=old.json NEW=new.json
	@$(BIN)/python -m benchmarks.compare $(OLD) $(NEW)

soak: $(VENV)/.test  ## kill runs at random instants, over a million rows, and hold the lake against the truth
	@TEST_STRIDE=1 $(BIN)/python -m pytest -k "durable_step or any_kill" --timeout 1800 \
		tests/test_crashes.py tests/test_refresh.py tests/test_table_crashes.py
	@TEST_STRIDE=1 $(BIN)/python -m pytest --timeout 1800 tests/test_partitions.py
	@$(BIN)/python -m tests.soak $(SOAK_ARGS)

soak-objects: $(VENV)/.test  ## the same with 20 kills and a lake in S3, of which moto's server stands in
	@TEST_STRIDE=1 $(BIN)/python -m pytest -k wherever --timeout 1800 tests/test_objects_partitioned.py
	@$(BIN)/python -m tests.soak --store s3 --kills 20 --rows 200000 --sends 16 $(SOAK_ARGS)

fuzz: $(VENV)/.fuzz  ## read a million mutated answers, and hold what comes of each against a reference
	@$(BIN)/python -m tests.fuzz --guided $(FUZZ_ARGS)

fuzz-quick: $(VENV)/.test  ## some thousand of them, in less than a minute
	@$(BIN)/python -m tests.fuzz --quick $(FUZZ_ARGS)

readers: $(VENV)/.readers  ## read a lake by pyarrow, pandas, DuckDB, Polars and Spark (installs Spark; needs a Java)
	@command -v java >/dev/null || \
		{ echo "Spark needs a Java, 17 or later; on Debian and Ubuntu: apt-get install default-jre-headless" >&2; exit 1; }
	@READERS=all $(BIN)/python -m pytest tests/test_readers.py $(PYTEST_ARGS)

clean:  ## remove the virtual environment, caches and the demo's lake
	rm -rf $(VENV) $(VENV)-lowest .mypy_cache .pytest_cache .ruff_cache .hypothesis demo-lake

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "harvester needs Python 3.11 or later; $(PYTHON) is $$($(PYTHON) --version). Try: make PYTHON=python3.12 …" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
		{ echo "$(PYTHON) cannot make a virtual environment; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@$(INSTALL) --upgrade 'pip>=25.1'

$(VENV)/.run: pyproject.toml | $(BIN)/python
	@echo "Setting up (once) …"
	@$(INSTALL) --editable .
	@touch $@

$(VENV)/.test: $(VENV)/.run
	@$(INSTALL) --group test
	@$(BIN)/python -m tests.get_azurite
	@touch $@

$(VENV)/.check: $(VENV)/.test
	@$(INSTALL) --group check
	@touch $@

$(VENV)/.fuzz: $(VENV)/.test
	@$(INSTALL) --group fuzz 2>/dev/null || echo "atheris does not install here, so coverage guides nothing"
	@touch $@

$(VENV)/.readers: $(VENV)/.test
	@$(INSTALL) --group readers
	@touch $@

$(VENV)/.bench: $(VENV)/.run
	@$(INSTALL) --group bench
	@touch $@
