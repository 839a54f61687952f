# `make demo` does the main job on built-in data and writes files under demo/; `make test` runs the tests; `make docs`
# builds the documentation into build/docs. Each makes the virtual environment first if it is not there: Python 3.11 with
# pip and venv is all they need.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DOCS_STAMP := $(VENV)/.installed-docs

.PHONY: setup demo test lint docs release bench clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $@

demo: setup
	$(BIN)/polymodal train shapes --out demo

test: setup
	$(BIN)/ruff check src tests benchmarks docs
	$(BIN)/mypy
	$(BIN)/python -m pytest -n 2 --dist worksteal

lint: setup
	$(BIN)/ruff check src tests benchmarks docs
	$(BIN)/mypy

$(DOCS_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[docs]"
	touch $@

docs: $(DOCS_STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m sphinx -q -W --keep-going -b html docs build/docs

release: setup
	$(BIN)/python .ci/release.py dist

bench: setup
	$(BIN)/python benchmarks/run.py

clean:
	rm -rf $(VENV) demo build dist src/*.egg-info
