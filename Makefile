# Two commands for everyone: `make demo` and `make test`. One for developers: `make check`.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
PIP_FLAGS = --quiet --disable-pip-version-check --constraint constraints.txt
DEV = .venv/bin
DEMO = .venv-demo/bin

.PHONY: demo test check format clean

demo: .venv-demo/installed  ## base install, then name the sounds in samples/
	$(DEMO)/audiorep predict samples --top 3

test: .venv/installed  ## everything pinned: lint, types, all tests
	$(DEV)/ruff format --check .
	$(DEV)/ruff check .
	$(DEV)/mypy
	$(DEV)/python -m pytest

check: .venv/installed  ## the developer's loop: format, lint, types, fast tests
	$(DEV)/ruff format --quiet .
	$(DEV)/ruff check --fix .
	$(DEV)/mypy
	$(DEV)/python -m pytest -m "not slow"

clean:
	rm -rf .venv .venv-demo build dist *.egg-info .mypy_cache .ruff_cache .hypothesis

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "audiorep needs Python 3.11 or newer: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(DEV)/python -m pip install $(PIP_FLAGS) --editable '.[dev]'
	touch $@

.venv-demo/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "audiorep needs Python 3.11 or newer: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv-demo
	$(DEMO)/python -m pip install $(PIP_FLAGS) --editable .
	touch $@
