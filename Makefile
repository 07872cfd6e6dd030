# `make test` and `make demo` do all their own set-up: a virtual environment in .venv, and this project in it.
# Give another interpreter with `make PYTHON=python3.12 venv`.

PYTHON ?= python3
VENV   := .venv
PY     := $(VENV)/bin/python
PIP    := $(PY) -m pip install -qq --disable-pip-version-check

# Packages of Debian that the targets need. When a test needs more (a browser, a broker), add its
# package here, and to MISSING a word that is printed while it is not there.
DEBIAN  := python3-venv chromium fonts-dejavu-core
MISSING := { [ -x $(PY) ] || $(PYTHON) -c 'import ensurepip' 2>/dev/null || echo python3-venv; \
             command -v chromium >/dev/null || command -v google-chrome >/dev/null || echo chromium; }

# The tests of the notebook use that browser; nothing else is downloaded.
export PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD := 1

.DEFAULT_GOAL := help
.PHONY: help deps venv demo test lint format bench torture clean

help:  ## this list
	@sed -n 's/^\([a-z]*\):.*## /\1|/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "make %-8s %s\n", $$1, $$2}'

deps:  ## what comes from the system: checked, and installed when root on Debian
	@missing=$$($(MISSING)); \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $(DEBIAN); \
	else \
	    echo "Missing from the system:" $$missing; \
	    echo "On Debian or Ubuntu install it by: sudo apt-get install $(DEBIAN)"; exit 1; \
	fi

$(VENV)/.made: | deps
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "nbtasks needs Python 3.11 or newer, and $(PYTHON) is not. Say which: make PYTHON=python3.11 test"; exit 1; }
	@echo "Making $(VENV) ..."
	@$(PYTHON) -m venv $(VENV)
	@touch $@

# One stamp for each set of extras: while pyproject.toml stays as it is, nothing is installed again.
$(VENV)/.has-%: pyproject.toml $(VENV)/.made | deps
	@echo "Installing nbtasks[$*] into $(VENV) (once; the first time takes some minutes) ..."
	@$(PIP) -e '.[$*]'
	@touch $@

venv: $(VENV)/.has-test  ## .venv with the project and what the tests need

demo: $(VENV)/.has-lab $(VENV)/.has-demo  ## execute the worked examples and print what came back
	@$(PY) notebooks/run.py notebooks/[0-9]*.ipynb

lint: venv  ## format, lint and types, nothing is changed
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/mypy

format: venv  ## format, and mend what the linter can mend
	@$(VENV)/bin/ruff format .
	@$(VENV)/bin/ruff check --fix .

# One process: many tests start, time and kill processes, and two cores are soon full of them.
test: lint  ## lint, types and all tests of the first tier
	@$(PY) -m pytest -q

bench: venv  ## speed, side by side with others, in one run
	@$(PY) -m tests.benchmarks

torture: venv  ## long random kills
	@$(PY) -m pytest -q -m torture --timeout=3600

clean:  ## remove .venv and what the tools left
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
