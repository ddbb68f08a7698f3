# Every target sets up its own .venv when there is none.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test mutants check-all clean

.venv/ready: setup.cfg pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet "torch==2.13.0"
	$(BIN)/python -m pip install --quiet -e ".[demo,dev]"
	touch .venv/ready

demo: .venv/ready
	$(BIN)/python -m monai_tta demo --out demo

test: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q -n 2

mutants: .venv/ready
	$(BIN)/python -m tests.mutants

check-all: test mutants demo

clean:
	rm -rf .venv demo
