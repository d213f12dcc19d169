# Every target sets up .venv by itself: the first call takes minutes, the next ones start at once.
#   PYTHON=/path/to/python3   which Python makes .venv (default: the first of those below that is 3.11 or newer)
#   ARGS="..."                added to the command of app, test, bench, campaign and notebooks

PYTHON ?=
ARGS ?=
BIN := .venv/bin
CANDIDATES := $(or $(PYTHON),python3.11 python3 python3.12 python3.13 python3.14)

# pyright would look for newer versions of itself.
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DELETE_ON_ERROR:
.PHONY: help app test check bench campaign notebooks docs

help:
	@echo "make app        open the playground in the browser"
	@echo "make test       run the tests"
	@echo "make check      lint, format, types, import layers"
	@echo "make bench      run the benchmarks"
	@echo "make campaign   kills, damage and hostile input at full size (an hour)"
	@echo "make notebooks  execute the notebooks"
	@echo "make docs       build the documentation as a site, in the folder site"

app: .venv/.runtime
	$(BIN)/python -m streamlit run app.py $(ARGS)

test: .venv/.dev
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder $(ARGS)

check: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports --no-cache

bench: .venv/.runtime
	$(BIN)/python -m benchmarks $(ARGS)

campaign: .venv/.dev
	PLAYGROUND_NO_TYPECHECK=1 OMP_NUM_THREADS=1 $(BIN)/python -m tests.campaign $(ARGS)

NOTEBOOKS := $(wildcard notebooks/*.ipynb)
notebooks: .venv/.dev
ifeq ($(NOTEBOOKS),)
	@echo "notebooks/ holds no notebook."
else
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --nbmake --nbmake-timeout=900 -n auto --maxprocesses 2 $(NOTEBOOKS) $(ARGS)
endif

# Strict: a link that leads nowhere or a name that does not exist ends the build. Nothing is fetched.
docs: .venv/.docs .venv/.runtime
	$(BIN)/python -m docs.scripts.command_line
	$(BIN)/zensical build --strict --clean
	@echo "The documentation is site/index.html."

# The stamps are written last, so that an interrupted set-up is taken up again. editable_mode=compat adds this folder to the
# path and no code to Python's own start-up, in which Ctrl-C would end in a traceback.
.venv/.runtime: requirements.txt | .venv/.python
	$(BIN)/python -m pip install -r requirements.txt
	$(BIN)/python -m pip install --no-deps --config-settings editable_mode=compat --editable .
	@touch $@

.venv/.dev: requirements-dev.txt .venv/.runtime
	$(BIN)/python -m pip install -r requirements-dev.txt
	@touch $@

.venv/.docs: requirements-docs.txt | .venv/.python
	$(BIN)/python -m pip install -r requirements-docs.txt
	@touch $@

USABLE := import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))
.venv/.python:
	@if $(BIN)/python -c '$(USABLE)' && $(BIN)/python -m pip --version; then touch $@; exit 0; fi >/dev/null 2>&1; \
	for python in $(CANDIDATES); do \
		if "$$python" -c '$(USABLE)' 2>/dev/null; then \
			echo "Setting up .venv with $$("$$python" --version); this takes a few minutes, once."; \
			"$$python" -m venv .venv && $(BIN)/python -c '$(USABLE)' && touch $@ && exit 0; \
			echo "The environment in .venv cannot be used; delete it and try again." >&2; exit 1; \
		fi; \
	done; \
	echo "Python 3.11 or newer with its venv module is needed (on Debian: apt-get install python3 python3-venv);" \
		"none was found among: $(CANDIDATES)." >&2; \
	exit 1
