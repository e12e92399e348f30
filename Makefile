# Everything a newcomer types. The first call makes .venv and installs; constraints.txt pins what was tested
# (the plain torch brings its CUDA libraries: about 8 GB on disk, and it runs on a CPU as well).

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RECIPE := pyproject.toml constraints.txt
CORE := $(VENV)/.installed-core
ALL := $(VENV)/.installed-all

.DEFAULT_GOAL := help
.PHONY: help demo demo-training test check bundle bench clean test-tools

help:
	@echo "make demo     install, then estimate a sample film; pictures and a report are left in demo/"
	@echo "make demo-training   the whole way of training in small, on the phantom; left in demo-training/"
	@echo "make test     install, then run all tests"
	@echo "make check    lint, format and types"
	@echo "make bundle   train the shipped bundle again (resumable; an estimated 3½ hours on 2 cores)"
	@echo "make bench    what an estimate and the feeding of a training cost, as ratios"
	@echo "make clean    remove what the others made"

demo: $(CORE)
	rm -rf demo
	$(BIN)/kneeboneage phantom demo/film --knees 1 --seed 57
	$(BIN)/kneeboneage estimate demo/film --json demo/result.jsonl --csv demo/result.csv --pictures demo

demo-training: $(ALL)
	$(BIN)/python -m KneeBoneAgeTrainingLib.demo_training

test: $(ALL) test-tools
	$(BIN)/python -m pytest

check: $(ALL)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bundle: $(ALL)
	$(BIN)/python -m KneeBoneAgeTrainingLib.default_bundle

bench: $(ALL)
	$(BIN)/python Testing/bench.py
	$(BIN)/python Testing/bench_module.py
	$(BIN)/python Testing/bench_training.py

clean:
	rm -rf $(VENV) demo demo-training build dist Testing/Output .pytest_cache .mypy_cache .ruff_cache *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(ALL): $(RECIPE) | $(VENV)/.made
	$(BIN)/python -m pip install --constraint constraints.txt --editable '.[training,test,dev]'
	@touch $(CORE) $@

$(CORE): $(RECIPE) | $(VENV)/.made
	$(BIN)/python -m pip install --constraint constraints.txt --editable .
	@touch $@

# $(call install,packages): with apt-get as root install them, otherwise print the line to type and fail.
define install
if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then \
  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(1); \
else \
  echo "Missing: $(1). Type:  sudo apt-get install -y $(1)" >&2; false; \
fi
endef

$(VENV)/.made:
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { $(call install,python3 python3-venv); }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python 3.11 or later is needed, $(PYTHON) is older. Type:  make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; \
	  false; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

# dciodvfy judges the DICOM files that the phantom writes, Qt needs system libraries to draw the Slicer module;
# without them those tests are skipped and say so.
test-tools: $(ALL)
	@$(BIN)/python -c 'import PySide6.QtWidgets' 2>/dev/null \
	  || { $(call install,libegl1 libgl1 libxkbcommon0 libfontconfig1 libdbus-1-3 libglib2.0-0 fonts-dejavu-core); } \
	  || echo "Going on: the tests of the Slicer module will be skipped." >&2
	@command -v dciodvfy >/dev/null 2>&1 || { $(call install,dicom3tools); } \
	  || echo "Going on: the tests that need dciodvfy will be skipped." >&2
