# `make test` and `make demo` do all their own set-up: a virtual environment in .venv, and this project in it.
# Give another interpreter with `make PYTHON=python3.12 venv`.

PYTHON ?= python3
VENV   := .venv
PY     := $(VENV)/bin/python
PIP    := $(PY) -m pip install -qq --disable-pip-version-check --no-compile

# $(call lacking,PROGRAMS,PACKAGES): the packages of Debian, unless one of the programs is there
lacking = $(if $(shell for one in $(1); do command -v $$one && break; done 2>/dev/null),,$(2))

# What only the tests need. Each has a target of its own, and `tools` gets all at once; `make demo` does without.
browser  = $(call lacking,chromium chromium-browser google-chrome,chromium fonts-dejavu-core)
systemd  = $(call lacking,systemd-analyze,systemd)
redis    = $(call lacking,redis-server,redis-server)
rabbitmq = $(call lacking,/usr/lib/rabbitmq/bin/rabbitmq-server,rabbitmq-server)

# $(call install,PACKAGES): nothing when there are none. The servers are for the tests to start (RUNLEVEL).
define install
set -- $(1); [ $$# != 0 ] || exit 0; \
if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
    apt-get update -qq && RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$$@"; \
else \
    echo "Missing from the system: $$*"; \
    echo "On Debian or Ubuntu install it by: sudo apt-get install $$*"; exit 1; \
fi
endef

.DEFAULT_GOAL := help
.PHONY: help deps tools browser systemd redis rabbitmq venv demo test lint compiled format bench torture clean

help:  ## this list
	@sed -n 's/^\([a-z]*\):.*## /\1|/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "make %-8s %s\n", $$1, $$2}'

deps:  ## what comes from the system: checked, and installed when root on Debian
	@{ [ -x $(PY) ] || $(PYTHON) -c 'import ensurepip' 2>/dev/null; } || { $(call install,python3-venv); }

browser: TOOLS = $(browser)
browser:  ## Chromium, for the tests of the notebook; without it they are passed over
systemd: TOOLS = $(systemd)
systemd:  ## systemd-analyze, for the tests of units; without it they are passed over
redis: TOOLS = $(redis)
redis:  ## redis-server, for the tests of engines; without it they are passed over
rabbitmq: TOOLS = $(rabbitmq)
rabbitmq:  ## rabbitmq-server, for `make torture`; without it its tests are passed over
tools: TOOLS = $(browser) $(systemd) $(redis)
tools:  ## all of these that `make test` needs

browser systemd redis rabbitmq tools: | deps
	@( $(call install,$(TOOLS)) ) || [ "$$CI" != true ]

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
	@$(PY) -m compileall -q -j 0 $(VENV)/lib >/dev/null || true  # pip would use one core; some packages hold what is no Python
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

# What comes from Debian and what comes from PyPI, side by side.
# Three processes on two cores: tests wait now and then, for processes that they start and end.
test:  ## lint, types and all tests of the first tier
	@$(MAKE) --no-print-directory -j2 tools lint compiled
	@$(PY) -m pytest -q -n 3 --dist loadfile --no-loadscope-reorder

# Processes that may not write what they compiled (PYTHONDONTWRITEBYTECODE) would compile it anew, each of them. With its
# assertions rewritten pytest alone compiles a test, so it collects them once. What is wrong with them, the tests will say.
compiled: venv
	@$(PY) -m compileall -q nbtasks tests
	@PYTHONDONTWRITEBYTECODE= $(PY) -m pytest -qq --collect-only -m '' >/dev/null 2>&1 || true

bench: venv  ## speed, side by side with others, in one run
	@$(PY) -m tests.benchmarks

torture: venv rabbitmq redis browser  ## the nightly tier: long random kills, and second front ends
	@$(PY) -m pytest -q -m torture --timeout=3600

clean:  ## remove .venv and what the tools left
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
