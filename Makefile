# Two commands for a new user, three for a contributor. Each line works without make too: see the README.
PYTHON ?= python3
VENV ?= .venv
RUN = $(VENV)/bin

# Only what is imported is compiled, when it is first imported: compiling every package takes longer than all else of a set-up.
INSTALL = $(RUN)/pip install --quiet --disable-pip-version-check --no-compile --editable
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup quickstart test check format

$(VENV)/.runtime: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) .
	touch $@

$(VENV)/.dev: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) ".[dev]"
	touch $(VENV)/.runtime $@

setup: $(VENV)/.dev

quickstart: $(VENV)/.runtime  ## the main job on the embedded default: from nothing to a report
	$(RUN)/ecgscale run quickstart --lab lab

test: $(VENV)/.dev  ## the tests, a process per core
	$(RUN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

check: $(VENV)/.dev  ## format, lint, types, imports, fast tests
	$(RUN)/ruff format --check .
	$(RUN)/ruff check .
	$(RUN)/mypy
	$(RUN)/lint-imports
	$(RUN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder --ignore=tests/e2e

format: $(VENV)/.dev
	$(RUN)/ruff format .
	$(RUN)/ruff check --fix .
