# Every target sets up its own .venv when there is none.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test slow attack mutants packages programs check-all docs clean

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
	$(BIN)/python -m pytest -q -n 2 -m "not slow"

slow: .venv/ready
	$(BIN)/python -m pytest -q -m slow

attack: .venv/ready
	$(BIN)/python -m tests.attack

mutants: .venv/ready
	$(BIN)/python -m tests.mutants

packages: .venv/ready
	$(BIN)/python -m tests.packages

# Other people's programs, in an environment of their own: some of them need older packages than ours.
.venv-programs/ready: setup.cfg pyproject.toml
	$(PYTHON) -m venv .venv-programs
	.venv-programs/bin/python -m pip install --quiet --upgrade pip
	.venv-programs/bin/python -m pip install --quiet "torch==2.13.0"
	.venv-programs/bin/python -m pip install --quiet -e ".[demo,dev,nnunet,label]" torchio lightning
	touch .venv-programs/ready

programs: .venv-programs/ready
	.venv-programs/bin/python -m pytest -q -n 2 tests/apps tests/pipeline/test_nnunet_files.py tests/pipeline/test_nnunet_folder.py \
	  tests/evaluation/test_nnunet_labelled.py

docs: .venv/ready
	$(BIN)/python -m pip install --quiet -e ".[docs]"
	$(BIN)/python -m docs.methods_page
	$(BIN)/python -m sphinx -W --keep-going -q docs docs/_build
	@echo "docs/_build/index.html"

check-all: test slow attack mutants packages programs docs demo

clean:
	rm -rf .venv .venv-programs demo docs/_build
