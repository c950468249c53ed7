# Two commands for everyone: `make demo` and `make test`. Two for developers: `make check` and `make fuzz`.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
SPREAD = --numprocesses 2 --dist loadfile  # two processes, a file of tests to each at a time
PIP_FLAGS = --quiet --disable-pip-version-check --constraint constraints.txt
DEV = .venv/bin
DEMO = .venv-demo/bin

.PHONY: demo test check fuzz model clean

demo: .venv-demo/installed  ## base install, then name the sounds in samples/
	$(DEMO)/audiorep predict samples

test: .venv/installed .venv/networks/installed .venv-mobile/installed .venv-litert/installed  ## everything pinned: lint, types, all tests
	$(DEV)/ruff format --check .
	$(DEV)/ruff check .
	$(DEV)/mypy
	$(DEV)/python -m pytest $(SPREAD)
	.venv-mobile/bin/python -m pytest tests/export/test_executorch.py tests/export/test_coreml.py tests/compress/test_qat.py
	.venv-litert/bin/python -m pytest -p no:anyio tests/export/test_litert.py

model: .venv/installed  ## train the bundled model again: make model ESC50=folder (an hour on two cores; resumes)
	$(DEV)/audiorep train $(ESC50) -o runs/bundled --recipe recipes/bundled.toml
	$(DEV)/audiorep export runs/bundled -o audiorep/assets/esc50_nano.onnx
	awk -F, 'NR == 1 {print "clip,freesound,license,split"} NR > 1 {n = split($$1, p, "/"); print p[n] "," $$7 "," $$8 "," $$5}' \
		runs/bundled/clips.csv > audiorep/assets/ATTRIBUTION.csv
	cp runs/bundled/README.md audiorep/assets/README.md
	mkdir -p results/bundled
	cp runs/bundled/metrics.json runs/bundled/curves.png runs/bundled/confusion.png results/bundled/

check: .venv/installed .venv/networks/installed  ## the developer's loop: format, lint, types, fast tests
	$(DEV)/ruff format --quiet .
	$(DEV)/ruff check --fix .
	$(DEV)/mypy
	$(DEV)/python -m pytest $(SPREAD) -m "not slow"

MINUTES = 5
SEED = 0
fuzz: .venv/installed  ## damaged files of every kind: make fuzz MINUTES=60 SEED=1; what is found lies in runs/fuzz
	OMP_NUM_THREADS=1 PYTHONPATH=tests:. $(DEV)/python -m fuzz --minutes $(MINUTES) --seed $(SEED) --output results/fuzz.json

clean:
	rm -rf .venv .venv-demo .venv-mobile .venv-litert build dist *.egg-info .mypy_cache .ruff_cache .hypothesis

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "audiorep needs Python 3.11 or newer: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(DEV)/python -m pip install $(PIP_FLAGS) --editable '.[dev]'
	touch $@

# Apart and without their dependencies: torchvision from the index does not fit a CPU build of torch, and would break every import of it.
.venv/networks/installed: .venv/installed
	$(DEV)/python -m pip install $(PIP_FLAGS) --no-deps --upgrade --target .venv/networks torchvision timm
	touch $@

# Runtimes whose packages are large, or fit no pins but their own, each in an environment of its own.
.venv-mobile/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-mobile
	.venv-mobile/bin/python -m pip install $(PIP_FLAGS) --editable '.[train,executorch,coreml,qat]' pytest pytest-timeout
	touch $@

# litert-torch wants an older typing_extensions, and with it older others.
.venv-litert/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-litert
	grep -vE '^(typing_extensions|pydantic|pydantic_core|typing-inspection|anyio)==' constraints.txt > .venv-litert/constraints.txt
	.venv-litert/bin/python -m pip install --quiet --disable-pip-version-check --constraint .venv-litert/constraints.txt \
		--editable '.[litert-export]' pytest pytest-timeout
	touch $@

.venv-demo/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "audiorep needs Python 3.11 or newer: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv-demo
	$(DEMO)/python -m pip install $(PIP_FLAGS) --editable .
	touch $@
