# Every target sets up its own .venv when there is none.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test slow attack kills mutants packages programs oldest check-all docs clean

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

kills: .venv/ready
	$(BIN)/python -m tests.attack.many --life 2

mutants: .venv/ready
	$(BIN)/python -m tests.mutants

packages: .venv/ready
	$(BIN)/python -m tests.packages

# Other people's programs, in environments of their own, because MONAI Label needs older packages than the rest, and MONAI Deploy
# some gigabytes for GPUs. Which torch these get is for pip to say: the first two need a torchvision that fits it.
.venv-nnunet/ready: setup.cfg pyproject.toml
	$(PYTHON) -m venv .venv-nnunet
	.venv-nnunet/bin/python -m pip install --quiet --upgrade pip
	.venv-nnunet/bin/python -m pip install --quiet -e ".[demo,dev,nnunet]" torchio lightning \
	  segmentation-models-pytorch tensorboard mlflow
	touch .venv-nnunet/ready

.venv-label/ready: setup.cfg pyproject.toml
	$(PYTHON) -m venv .venv-label
	.venv-label/bin/python -m pip install --quiet --upgrade pip
	.venv-label/bin/python -m pip install --quiet -e ".[demo,label]" slicer-core pytest
	touch .venv-label/ready

.venv-deploy/ready: setup.cfg pyproject.toml
	$(PYTHON) -m venv .venv-deploy
	.venv-deploy/bin/python -m pip install --quiet --upgrade pip
	.venv-deploy/bin/python -m pip install --quiet -e ".[demo,dicom]" monai-deploy-app-sdk pytest
	touch .venv-deploy/ready

programs: .venv-nnunet/ready .venv-label/ready .venv-deploy/ready
	.venv-nnunet/bin/python -m pytest -q -n 2 tests/apps/test_programs.py tests/apps/test_handlers.py tests/apps/test_nnunet_bridge.py \
	  tests/pipeline/test_nnunet_files.py tests/pipeline/test_nnunet_folder.py tests/pipeline/test_nnunet_previews.py \
	  tests/pipeline/test_nnunet_commands.py \
	  tests/evaluation/test_nnunet_labelled.py tests/preparation/test_nnunet_calibration.py
	.venv-nnunet/bin/python -m pytest -q "tests/test_snippets.py::test_code_on_a_page_runs[docs/nnunet.md]"
	.venv-label/bin/python -m pytest -q tests/apps/test_monai_label.py tests/apps/test_programs.py
	ulimit -s 32768; .venv-deploy/bin/python -m pytest -q tests/apps/test_monai_deploy.py tests/apps/test_programs.py

# The oldest versions that setup.cfg declares, in an environment of its own, on Python 3.10 or 3.11. Without the extra [dev], whose
# tools need newer ones.
.venv-oldest/ready: setup.cfg pyproject.toml tests/oldest.txt
	$(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/python -m pip install --quiet --upgrade pip
	.venv-oldest/bin/python -m pip install --quiet --constraint tests/oldest.txt -e ".[demo,calibrate,dicom]" \
	  pytest pytest-xdist hypothesis jsonschema einops
	touch .venv-oldest/ready

oldest: .venv-oldest/ready
	.venv-oldest/bin/python -m pytest -q -n 2 -m "not slow" tests/core tests/compute tests/guards tests/quality tests/methods \
	  tests/inference tests/pipeline tests/evaluation tests/preparation tests/reporting tests/cli tests/transforms tests/bundles

docs: .venv/ready
	$(BIN)/python -m pip install --quiet -e ".[docs]"
	$(BIN)/python -m docs.methods_page
	MPLBACKEND=Agg $(BIN)/python -m docs.gallery_pictures
	$(BIN)/python -m sphinx -W --keep-going -q docs docs/_build
	@echo "docs/_build/index.html"

check-all: test slow attack kills mutants packages programs docs demo

clean:
	rm -rf .venv .venv-nnunet .venv-label .venv-deploy .venv-oldest demo docs/_build
