# cnnvis: `make` or `make help` lists the targets.

VENV := .venv
PYTHON := $(VENV)/bin/python
PIP_INSTALL := $(PYTHON) -m pip install --quiet --disable-pip-version-check

PORT ?= 8501
ADDRESS ?= 0.0.0.0
ARGS ?=
# Test processes; the browser waits more than it works.
WORKERS ?= 2
# More threads than this make small networks slower, and containers report the cores of their host.
CORES := $(shell getconf _NPROCESSORS_ONLN 2>/dev/null || echo 4)
OMP_NUM_THREADS ?= $(shell [ $(CORES) -gt 8 ] && echo 8 || echo $(CORES))
export OMP_NUM_THREADS

# mypy and ruff are given what is there.
CODE := $(wildcard app.py cnnvis_core pages training benchmarks)
TESTS := $(wildcard tests)

.DEFAULT_GOAL := help
.PHONY: help run serve install install-dev test lint format clean purge

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' Makefile

run: install ## install on the first call, then serve on http://localhost:8501 (PORT=8600 for another)
	@$(MAKE) --no-print-directory serve ADDRESS=localhost

serve: ## serve what is installed, for every network address (ADDRESS=localhost for this machine only)
	@test -e $(VENV)/.installed || { echo "Nothing is installed yet; run make install first." >&2; exit 1; }
	@! env | grep -q '^CNNVIS_' || $(PYTHON) -m cnnvis_core check
	@exec $(PYTHON) -m streamlit run app.py --server.port=$(PORT) --server.address=$(ADDRESS)

install: $(VENV)/.installed ## build .venv with what the app needs

install-dev: $(VENV)/.installed-dev ## build .venv with what the tests and checks need, too

test: install-dev ## run every test (ARGS="-k fuzz -x" is passed on to pytest, WORKERS=0 for one process)
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest -n $(WORKERS) --no-loadscope-reorder --dist loadfile $(ARGS)

lint: install-dev ## check style, format and types
	$(PYTHON) -m ruff check $(CODE) $(TESTS)
	$(PYTHON) -m ruff format --check $(CODE) $(TESTS)
	$(PYTHON) -m mypy $(CODE)

format: install-dev ## format the code and mend what ruff can mend
	$(PYTHON) -m ruff check --fix $(CODE) $(TESTS)
	$(PYTHON) -m ruff format $(CODE) $(TESTS)

clean: ## delete caches
	rm -rf .mypy_cache .ruff_cache .pytest_cache
	find $(CODE) $(TESTS) -type d -name __pycache__ -prune -exec rm -rf {} +

purge: clean ## delete caches and .venv
	rm -rf $(VENV)

$(VENV)/.installed: requirements.txt | $(PYTHON)
	@echo "Installing what the app needs into $(VENV) (once; torch is large)."
	$(PIP_INSTALL) -r requirements.txt
	@touch $@

$(VENV)/.installed-dev: requirements-dev.txt $(VENV)/.installed
	@echo "Installing what the tests need into $(VENV) (once)."
	$(PIP_INSTALL) -r requirements-dev.txt
	@touch $@

# BASE_PYTHON=/path/to/python chooses the interpreter.
$(PYTHON):
	@for python in $(BASE_PYTHON) python3.11 python3.12 python3.13 python3 python; do \
	  if $$python -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
	    exec $$python -m venv $(VENV); \
	  fi; \
	done; \
	echo "cnnvis needs Python 3.11 or newer with its venv module (on Debian: apt install python3-venv); install it and run make again." >&2; \
	exit 1
