# Everything a developer runs. `make run` needs Python 3.11 or newer; the rest comes by itself.
PYTHON = .venv/bin/python
SOURCES = $(wildcard apps controlplane demo deploy sdk/src sdk/tests tests benchmarks manage.py conftest.py)
HOST ?= 127.0.0.1
PORT ?= 8000
export DEMO

run: .venv/base  ## Holdfast with its demo: http://127.0.0.1:8000/ ; DEMO=0: without
	@HOST=$(HOST) PORT=$(PORT) exec sh deploy/run.sh

test: .venv/dev  ## every test, with real servers and a browser
	@sh deploy/debian-packages.sh chromium nginx-light prometheus rabbitmq-server redis-server
	@$(PYTHON) -m tests.run

lint: .venv/dev  ## the static checks
	@$(MAKE) --jobs=2 --output-sync=target --no-print-directory lint-types lint-rest

lint-types:
	$(PYTHON) -m mypy $(SOURCES)

lint-rest:
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m ruff check .
	$(PYTHON) manage.py check --fail-level WARNING
	$(PYTHON) manage.py makemigrations --check --dry-run
	$(PYTHON) manage.py spectacular --validate --fail-on-warn --file /dev/null
	@sh .ci/clean-text

format: .venv/dev  ## put the code into its form
	$(PYTHON) -m ruff check --fix .
	$(PYTHON) -m ruff format .

bench: .venv/dev  ## the benchmarks
	@$(PYTHON) -m benchmarks

cluster: .venv/dev  ## distributed mode on this machine: two web processes, worker, beat
	@sh deploy/debian-packages.sh redis-server
	@exec $(PYTHON) -m deploy.cluster

lock: .venv/dev  ## choose package versions anew
	@sh deploy/lock.sh

clean:  ## remove what was built; var/, which holds data, stays
	rm -rf .venv .mypy_cache .ruff_cache build dist htmlcov
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

help:  ## this list
	@sed -n 's/^\([a-z]*\):.*##/\1\t/p' Makefile

.venv/base: requirements/base.txt sdk/pyproject.toml deploy/install.sh
	@sh deploy/install.sh base && touch $@

.venv/dev: requirements/base.txt requirements/dev.txt sdk/pyproject.toml deploy/install.sh
	@sh deploy/install.sh dev && touch .venv/base $@

.PHONY: run test lint lint-types lint-rest format bench cluster lock clean help
