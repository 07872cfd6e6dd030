# `make test` and `make demo` do all their own set-up: a virtual environment in .venv, and this project in it.
# Give another interpreter with `make PYTHON=python3.12 venv`.

PYTHON ?= python3
VENV   := .venv
PY     := $(VENV)/bin/python
PIP    := $(PY) -m pip install -qq --disable-pip-version-check

# Packages of Debian that the targets need, each with a command that succeeds when it is there.
# What only the tests need has a target like `browser`, so that `make demo` does without.
VENV_THERE    := [ -x $(PY) ] || $(PYTHON) -c 'import ensurepip' 2>/dev/null
BROWSER       := chromium fonts-dejavu-core
BROWSER_THERE := command -v chromium || command -v chromium-browser || command -v google-chrome

# $(call system,COMMAND THAT SUCCEEDS WHEN THEY ARE THERE,PACKAGES)
define system
if { $(1); } >/dev/null; then exit 0; fi; \
if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $(2); \
else \
    echo "Missing from the system:" $(firstword $(2)); \
    echo "On Debian or Ubuntu install it by: sudo apt-get install $(2)"; exit 1; \
fi
endef

.DEFAULT_GOAL := help
.PHONY: help deps browser venv demo test lint format bench torture clean

help:  ## this list
	@sed -n 's/^\([a-z]*\):.*## /\1|/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "make %-8s %s\n", $$1, $$2}'

deps:  ## what comes from the system: checked, and installed when root on Debian
	@$(call system,$(VENV_THERE),python3-venv)

browser:  ## Chromium, for the tests of the notebook; without it they are passed over
	@( $(call system,$(BROWSER_THERE),$(BROWSER)) ) || [ "$$CI" != true ]

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

# Others: make demo NOTEBOOKS=notebooks/03-pipelines.ipynb, or all: make demo NOTEBOOKS='notebooks/0*.ipynb'
NOTEBOOKS ?= notebooks/01-background-cells.ipynb

demo: $(VENV)/.has-lab $(VENV)/.has-demo  ## execute the first worked example (or NOTEBOOKS=…) and print what came back
	@$(PY) notebooks/run.py $(NOTEBOOKS)

lint: venv  ## format, lint and types, nothing is changed
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/mypy

format: venv  ## format, and mend what the linter can mend
	@$(VENV)/bin/ruff format .
	@$(VENV)/bin/ruff check --fix .

# Three processes on two cores: tests mostly wait, for processes that they start and end.
test: lint browser  ## lint, types and all tests of the first tier
	@$(PY) -m compileall -q -j 2 nbtasks  # else processes that may not write it compile it anew, each of them
	@$(PY) -m pytest -q -n 3 --dist loadfile --no-loadscope-reorder

bench: venv  ## speed, side by side with others, in one run
	@$(PY) -m tests.benchmarks

torture: venv  ## long random kills
	@$(PY) -m pytest -q -m torture --timeout=3600

clean:  ## remove .venv and what the tools left
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
