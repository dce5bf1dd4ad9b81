# Two commands: `make book` builds the book, `make test` proves it. `make help` lists the rest.
#
# PYTHON=python3.12 make env    chooses the interpreter (3.11 to 3.13) that .venv is made with.

VENV := .venv
BIN := $(VENV)/bin
# what building the book needs, at the versions of requirements.txt; neither torch nor ddpm_lite
BOOK_PACKAGES := jupyter-book sphinx-book-theme sphinx-design sphinx-exercise sphinx-proof \
  sphinxcontrib-bibtex sphinx-autoapi math-core
SUITABLE := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
  $$p -c '$(SUITABLE)' 2>/dev/null && { echo $$p; break; }; done)
PIP := $(BIN)/python -m pip --disable-pip-version-check
PORT ?= 8000

.PHONY: help book test test-firefox env serve lab execute lint clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

book: $(VENV)/.book  ## build the book into _build/html (installs what that needs, at first)
	@$(BIN)/python tools/check.py book

test: $(VENV)/.env  ## everything that must pass: lint, tests, stored outputs, build, pages
	@$(BIN)/python tools/check.py test

test-firefox: $(VENV)/.env book  ## the networks of the pages in Firefox (FIREFOX=... names it)
	@$(BIN)/python -m pytest -q tests/in_firefox

env: $(VENV)/.env  ## the whole environment in .venv: the book, ddpm_lite, PyTorch, the tests

serve: book  ## build, then serve the book at http://localhost:8000 (PORT=...)
	@echo "http://localhost:$(PORT) (Ctrl-C stops)"
	@$(BIN)/python -m http.server $(PORT) --bind 127.0.0.1 --directory _build/html

lab: $(VENV)/.env  ## open the chapters in JupyterLab
	@$(BIN)/jupyter lab $(if $(filter 0,$(shell id -u)),--allow-root) book

execute: $(VENV)/.env  ## run all chapters, or NB=book/..., and store their outputs
	@$(BIN)/python tools/notebooks.py execute $(NB)

lint: $(VENV)/.env  ## ruff (notebooks too), codespell, mypy
	@$(BIN)/python tools/check.py lint

clean:  ## remove what was built; .venv stays
	@rm -rf _build .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage *.egg-info
	@find . -name .venv -prune -o \( -name __pycache__ -o -name .ipynb_checkpoints \) -print | xargs rm -rf

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "No Python 3.11 to 3.13 found: name one, PYTHON=/path/to/python3.12 make $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -c '$(SUITABLE)' || { echo "$(PYTHON) is not Python 3.11 to 3.13"; exit 1; }
	@echo "Making $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }  # half of one would pass for it

# The stamps make a second run quick: they say what was installed from which requirements.txt.
$(VENV)/.book: requirements.txt | $(BIN)/python
	@echo "Installing what the book needs (once; about a minute)"
	@$(PIP) install -qq --constraint requirements.txt $(BOOK_PACKAGES)
	@touch $@

$(VENV)/.env: requirements.txt pyproject.toml | $(BIN)/python
	@echo "Installing the whole environment (once; some minutes, 2 GB and more)"
	@$(PIP) install -qq --requirement requirements.txt
	@$(PIP) install -qq --no-deps --no-build-isolation --editable .
	@touch $(VENV)/.book $@
