# Two commands for everyone: `make demo` and `make test`. For developers: `make check`, `make test-all` and `make fuzz`.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
# Two processes, to each a file of tests at a time, in the order that tests/conftest.py gives.
SPREAD = --numprocesses 2 --dist loadfile --no-loadscope-reorder
# Modules are compiled when they are first imported, since most never are; and then once, not in each of the tests' processes.
unexport PYTHONDONTWRITEBYTECODE
PIP_FLAGS = --quiet --disable-pip-version-check --no-compile
PINNED = --constraint constraints.txt
RECORD = results/test_all
DEV = .venv/bin
DEMO = .venv-demo/bin

.PHONY: demo test test-all check types test-mobile test-litert fuzz model clean

demo: .venv-demo/installed  ## base install, then name the sounds in samples/
	$(DEMO)/audiorep predict samples
	$(DEMO)/audiorep predict samples --model esc50

TESTS = -m "not full" --durations=20

test:  ## everything pinned: lint, types, tests
	$(MAKE) --jobs 3 .venv/networks/installed .venv/sed_eval/installed .venv-mobile/installed .venv-litert/installed
	$(DEV)/ruff format --check .
	$(DEV)/ruff check .
	$(DEV)/python -m pytest $(SPREAD) $(TESTS)
	$(MAKE) --jobs 2 --output-sync types test-mobile test-litert TESTS='$(TESTS)'

test-all:  ## before a release: also what is marked full; the result is kept in results/test_all
	rm -rf $(RECORD)
	$(MAKE) test TESTS='--record $(RECORD) --durations=20'

types: .venv/installed
	$(DEV)/mypy

test-mobile: .venv-mobile/installed
	PYTHONPATH=$(CURDIR) .venv-mobile/bin/python -m pytest $(TESTS) tests/export/test_executorch.py tests/export/test_coreml.py tests/compress/test_qat.py

test-litert: .venv-litert/installed
	PYTHONPATH=$(CURDIR) .venv-litert/bin/python -m pytest $(TESTS) -p no:anyio tests/export/test_litert.py tests/hub/test_yamnet.py

ESC50_MODEL = audiorep/assets/esc50
model: .venv/installed  ## train the model of 50 sounds again: make model DATA=folder with esc50/ and free_audio/ (resumes)
	$(DEV)/python experiments/unknown.py $(DATA) -o runs/unknown --link
	$(DEV)/audiorep train $(DATA)/esc50 -o runs/bundled --recipe recipes/bundled.toml
	$(DEV)/python experiments/tagger.py ship runs/bundled esc50 --data $(DATA)
	cp runs/bundled/README.md $(ESC50_MODEL)/README.md
	$(DEV)/python experiments/background.py $(DATA)
	mkdir -p results/bundled
	cp runs/bundled/metrics.json runs/bundled/confusion.png runs/bundled/reliability.png results/bundled/

check: .venv/networks/installed .venv/sed_eval/installed  ## the developer's loop: format, lint, types, fast tests
	$(DEV)/ruff format --quiet .
	$(DEV)/ruff check --fix .
	$(DEV)/mypy
	$(DEV)/python -m pytest $(SPREAD) -m "not slow and not full"

MINUTES = 5
SEED = 0
fuzz: .venv/installed  ## damaged files of every kind: make fuzz MINUTES=60 SEED=1; what is found lies in runs/fuzz
	OMP_NUM_THREADS=1 PYTHONPATH=tests:. $(DEV)/python -m fuzz --minutes $(MINUTES) --seed $(SEED) --output results/fuzz.json

clean:
	rm -rf .venv .venv-demo .venv-mobile .venv-litert build dist *.egg-info .mypy_cache .ruff_cache .hypothesis

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "audiorep needs Python 3.11 or newer: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(DEV)/python -m pip install $(PIP_FLAGS) $(PINNED) --editable '.[dev]'
	touch $@

# Apart and without their dependencies: torchvision from the index does not fit a CPU build of torch, and would break every import of it.
.venv/networks/installed: .venv/installed
	$(DEV)/python -m pip install $(PIP_FLAGS) $(PINNED) --no-deps --upgrade --target .venv/networks torchvision timm
	touch $@

# Apart too: sed_eval imports pkg_resources, which newer versions of setuptools have no more.
SED_EVAL = sed_eval dcase_util future pydot-ng python-magic validators six setuptools==80.9.0
.venv/sed_eval/installed: .venv/installed
	$(DEV)/python -m pip install $(PIP_FLAGS) $(PINNED) --no-deps --upgrade --target .venv/sed_eval $(SED_EVAL)
	touch $@

# Runtimes whose packages are large, or fit no pins but their own, each in an environment of its own, without audiorep itself:
# environments that are made at the same time would write the same files of its.
.venv-mobile/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-mobile
	$(PYTHON) .ci/requirements.py train executorch coreml qat > .venv-mobile/requirements.txt
	.venv-mobile/bin/python -m pip install $(PIP_FLAGS) $(PINNED) --requirement .venv-mobile/requirements.txt pytest pytest-timeout
	touch $@

# litert-torch wants an older typing_extensions, and with it older others.
.venv-litert/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-litert
	grep -vE '^(typing_extensions|pydantic|pydantic_core|typing-inspection|anyio)==' constraints.txt > .venv-litert/constraints.txt
	$(PYTHON) .ci/requirements.py litert-export > .venv-litert/requirements.txt
	.venv-litert/bin/python -m pip install $(PIP_FLAGS) --constraint .venv-litert/constraints.txt \
		--requirement .venv-litert/requirements.txt pytest pytest-timeout
	touch $@

.venv-demo/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "audiorep needs Python 3.11 or newer: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv-demo
	$(DEMO)/python -m pip install $(PIP_FLAGS) $(PINNED) --editable .
	touch $@
