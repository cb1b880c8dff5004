# Two commands matter: `make run` and `make test`. Nothing but make and Python 3.11 is needed.
PYTHON ?= python3
PORT ?= 8402
HOME_DIR ?= .farebox
ONCE ?=
WORKERS ?= 4
ARGS ?=

PY := .venv/bin/python
MANAGE := $(PY) manage.py
PYTEST := $(PY) -m pytest
# Django's own checks look at code, not at data: any address that parses will do.
CHECKING := FAREBOX_DATABASE_URL=postgresql://nobody@/nothing?host=/nonexistent \
	FAREBOX_SECRET_KEY=signs-nothing-0123456789-abcdefghijklmnopqrstuvwxyz \
	FAREBOX_HTTPS=true FAREBOX_BASE_URL=https://farebox.invalid FAREBOX_ALLOWED_HOSTS=farebox.invalid
# With the tool that keeps each app's migrations in one line.
LINEAR := DJANGO_SETTINGS_MODULE=tests.check_settings

# Tests are compiled once, and not by each of the workers.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup dev run test proofs fast prove bench check format migrations docs openapi clean forget

help:  ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-11s %s\n", $$1, $$2}' Makefile

setup:  ## .venv with what Farebox needs to run (the others call it)
	@$(PYTHON) config/bootstrap.py

dev:  ## .venv with the tools of a developer too
	@$(PYTHON) config/bootstrap.py --dev

run: setup  ## everything, from nothing: serve and demonstrate (ONCE=1 PORT=8402 HOME_DIR=.farebox)
	@exec $(MANAGE) quickstart --port $(PORT) --home "$(HOME_DIR)" $(if $(ONCE),--once) $(ARGS)

test: dev  ## the whole suite on a PostgreSQL of its own (ARGS="-k holds" for a part)
ifeq ($(strip $(ARGS)),)
	@rm -f .coverage .coverage.*
	@$(PYTEST) -n $(WORKERS) --dist worksteal -m "not benchmark and not proof" --cov --cov-report=
	@echo "Coverage of the rules (domain/) and the writes (operations/), by branch:"
	@$(PY) -m coverage report --fail-under=100 --include='*/domain/*,*/operations/*,*/operations.py'
else
	@$(PYTEST) -n $(WORKERS) --dist worksteal $(ARGS)
endif

proofs: dev  ## the long machines, a day of traffic, processes that are killed
	@$(PYTEST) -n $(WORKERS) --dist worksteal -m proof $(ARGS)

fast: dev  ## the tests that take no more than a moment each
	@$(PYTEST) -n $(WORKERS) --dist worksteal -m "not slow and not proof and not benchmark" $(ARGS)

prove: dev  ## everything with many more examples, kills and callers (an hour and more)
	@FAREBOX_TEST_PROFILE=thorough $(PYTEST) -n $(WORKERS) --dist worksteal --timeout 1200 $(ARGS)

bench: dev  ## measure the hot paths on this machine
	@$(PYTEST) -m benchmark -p no:randomly -s $(ARGS)

check: dev  ## format, lint, import rules, types, migrations, settings, dependencies, generated documents
	@echo "== format" && $(PY) -m ruff format --check --quiet .
	@echo "== lint" && $(PY) -m ruff check --quiet --output-format concise .
	@echo "== import rules" && $(PY) -c "from importlinter.cli import lint_imports_command as main; main()"
	@echo "== types" && $(PY) -m mypy
	@echo "== migrations" && $(CHECKING) $(LINEAR) $(PY) -W ignore manage.py makemigrations --check --dry-run
	@echo "== settings" && $(CHECKING) $(LINEAR) $(MANAGE) check --deploy --fail-level WARNING
	@echo "== dependencies" && $(PY) -m deptry --no-ansi .
	@echo "== generated documents" && $(CHECKING) $(MANAGE) documents --check

format: dev  ## put the code in its form
	@$(PY) -m ruff format .
	@$(PY) -m ruff check --fix-only --quiet .

migrations: dev  ## write migrations for changed models, in one line per app
	@$(CHECKING) $(LINEAR) $(PY) -W ignore manage.py makemigrations

docs: dev  ## write the generated pages anew: docs/configuration.md, problems, openapi.json
	@$(CHECKING) $(MANAGE) documents

openapi: docs  ## docs/openapi.json

clean:  ## remove .venv and everything generated; the data in .farebox stays
	@rm -rf .venv .venv.lock .coverage .coverage.* htmlcov .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

forget: setup  ## remove .farebox with its database, wherever that is kept
	@$(PY) -m config.embedded.postgres --home "$(HOME_DIR)" --remove && rm -rf "$(HOME_DIR)"
