# Everything a newcomer types. `make up` and `make test` need Python 3.11 to 3.13 and nothing else.
.DEFAULT_GOAL := help
.PHONY: help setup up test unit airflow bench chaos lint advisories docs lock clean

# Any Python that pyproject.toml allows; uv looks for one, and fetches it where there is none.
PYTHON ?= >=3.11,<3.14
BIN := .venv/bin
STAMP := .venv/.installed
# What detect-secrets only guesses at; keys and tokens whose form is known stay.
GUESSES := KeywordDetector HexHighEntropyString Base64HighEntropyString BasicAuthDetector IbmCosHmacDetector IPPublicDetector
# A uv on PATH is used; without one it is installed into a virtual environment of its own.
UV := $(shell command -v uv 2>/dev/null || echo .venv-uv/bin/uv)

help: ## Show this list.
	@awk -F':.*## ' '/^[a-z]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## Make .venv with everything in it, the workbench command included.

.venv-uv/bin/uv:
	python3 -m venv .venv-uv
	.venv-uv/bin/python -m pip install --quiet --disable-pip-version-check "uv>=0.8"

# The versions and hashes are those of the lock; the project itself is installed editable, without a
# network: its build backend is in the lock too.
$(STAMP): requirements.lock pyproject.toml | $(filter .venv-uv/bin/uv,$(UV))
	@test -x $(BIN)/python || $(UV) venv --quiet --python '$(PYTHON)' .venv
	$(UV) pip sync --quiet --python $(BIN)/python --require-hashes requirements.lock
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

up: setup ## Run everything: broker, warehouse, Spark, hub. Ctrl-C stops it.
	@$(BIN)/workbench up

# Two processes at once, each a file at a time with servers of its own (about 4 GB of memory); then, alone, schedules
# of faults: they are about time, and take all processors themselves.
# TEST_REPORTS names a folder for what CI keeps of both.
PROCESSES ?= 2
report = $(if $(TEST_REPORTS),--junitxml=$(TEST_REPORTS)/$(1).xml)
test: setup ## Run the whole test suite.
	@failed=0; \
	$(BIN)/python -m pytest --numprocesses $(PROCESSES) --dist loadfile --no-loadscope-reorder -m 'not alone' $(call report,beside) || failed=1; \
	$(BIN)/python -m pytest tests/failover -m alone $(call report,alone) || failed=1; \
	exit $$failed

unit: setup ## Run the tests that need no server.
	$(BIN)/python -m pytest tests/unit

.venv-airflow/.installed: | $(filter .venv-uv/bin/uv,$(UV))
	$(UV) venv --quiet --python '$(PYTHON)' .venv-airflow
	$(UV) pip install --quiet --python .venv-airflow/bin/python 'apache-airflow>=3.2,<4'
	@touch $@

airflow: setup .venv-airflow/.installed ## Run 25 pipelines with Airflow 3 and with our worker, and compare how they end.
	TEST_AIRFLOW=.venv-airflow/bin $(BIN)/python -m pytest -o addopts=--import-mode=importlib --timeout 1800 tests/conformance

bench: setup ## Measure what benchmarks/README.md lists.
	$(BIN)/python -m benchmarks.startup
	$(BIN)/python -m benchmarks.ingest
	$(BIN)/python -m benchmarks.conditions
	$(BIN)/python -m benchmarks.hub
	$(BIN)/python -m benchmarks.pipelines
	$(BIN)/python -m benchmarks.policies
	$(BIN)/python -m benchmarks.spark
	$(BIN)/python -m benchmarks.audit
	$(BIN)/python -m benchmarks.encryption
	$(BIN)/python -m benchmarks.backup
	$(BIN)/python -m benchmarks.monitoring
	$(BIN)/python -m benchmarks.panels
	$(BIN)/python -m benchmarks.load

chaos: setup ## Run a thousand seeded schedules of faults against ingestion, 300 against the Spark lane and a thousand against pipelines, the calendar through all zones, and a year as a backfill; takes more than four hours.
	$(BIN)/python -m tests.failover.chaos --schedules 1000
	$(BIN)/python -m tests.failover.spark_chaos --schedules 300
	$(BIN)/python -m tests.failover.calendar_sweep --expressions 200 --years 10
	$(BIN)/python -m tests.failover.pipeline_chaos --schedules 1000
	$(BIN)/python -m tests.failover.backfill_year --days 365

lint: setup ## Check style, types and the import rules.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	git ls-files -z -- ':!*.lock' | xargs -0 $(BIN)/detect-secrets-hook $(GUESSES:%=--disable-plugin %)

.venv-advisories/bin/pip-audit: | $(filter .venv-uv/bin/uv,$(UV))
	$(UV) venv --quiet --python '$(PYTHON)' .venv-advisories
	$(UV) pip install --quiet --python .venv-advisories/bin/python 'pip-audit>=2.10'

advisories: .venv-advisories/bin/pip-audit ## Look up the versions of the lock among the known weaknesses of packages; needs the internet.
	.venv-advisories/bin/pip-audit --requirement requirements.lock --disable-pip --require-hashes

docs: setup ## Build the documentation into docs/_build.
	$(BIN)/sphinx-build --quiet --fail-on-warning docs docs/_build

lock: | $(filter .venv-uv/bin/uv,$(UV)) ## Resolve pyproject.toml anew into requirements.lock.
	$(UV) pip compile pyproject.toml --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
		--all-extras --group dev --output-file requirements.lock

clean: ## Remove the environments; data under .workbench stays.
	rm -rf .venv .venv-uv .venv-airflow .venv-advisories
