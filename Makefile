# What CI calls and people type. Only relative paths, so that the checkout may stand anywhere.
SHELL := /bin/sh
.DEFAULT_GOAL := help
# `make -j refresh repro` is still one after the other.
.NOTPARALLEL:
.PHONY: help setup repro refresh night show history status analyses causalpy queries summary remote tag bundle check docs test test-long lint bench bench-scale simulate simulate-causalpy faults faults-dask test-airflow test-mlflow test-causalpy clean

PYTHON ?= python3
BIN := .venv/bin
# The stages are started as `python`; this is the one they mean.
RUN := PATH="$(CURDIR)/$(BIN):$$PATH"
ROWS ?= 1000000
DAYS ?= 90
SKEW ?= 0
RUNS ?= 5
PART ?= all
KILLS ?= 100
TIMES ?= 3
SCALE = python -m benchmarks.scale $(PART) --rows $(ROWS) --days $(DAYS) --runs $(RUNS)

help: ## print the targets
	@grep -E '^[a-z-]+:.*## ' Makefile | awk -F ':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}' | \
		fold -s -w "$${COLUMNS:-$$(tput cols 2> /dev/null || echo 80)}"

setup: $(BIN)/.ready ## make .venv, install requirements.txt and the project

$(BIN)/.ready: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: $(PYTHON) is $$($(PYTHON) --version 2>&1), expected 3.11 or newer; next: make $(MAKECMDGOALS) PYTHON=python3.11"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

$(BIN)/.ready-dev: $(BIN)/.ready requirements-dev.txt requirements-analyses.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@

$(BIN)/.ready-analyses: $(BIN)/.ready requirements-analyses.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-analyses.txt
	@touch $@

$(BIN)/.ready-readers: $(BIN)/.ready requirements-readers.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade --target .venv/readers -r requirements-readers.txt
	@touch $@

$(BIN)/.ready-dask: $(BIN)/.ready requirements-dask.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade --target .venv/dask -r requirements-dask.txt
	@touch $@

repro: $(BIN)/.ready ## run the pipeline (dvc repro) and say what came out
	@$(RUN) python -m commands.repro

refresh: $(BIN)/.ready ## pin what the source holds in watermark.yaml (UNTIL=DATE)
	@$(RUN) python -m commands.refresh $(if $(UNTIL),--until "$(UNTIL)")

night: $(BIN)/.ready ## refresh, repro, commit, push, tell: for cron (UNTIL=DATE)
	@$(RUN) python -m commands.night $(if $(UNTIL),--until "$(UNTIL)")

show: $(BIN)/.ready ## open the quality page
	@$(RUN) python -m commands.show

history: $(BIN)/.ready ## the last runs on this machine
	@$(RUN) python -m commands.history

status: $(BIN)/.ready ## the last good night, and may this snapshot be used?
	@$(RUN) python -m commands.status || true

analyses: $(BIN)/.ready-analyses ## ITS, ABAB and Granger on the snapshot (analyses/dvc.yaml)
	@$(RUN) dvc repro analyses/dvc.yaml

causalpy: .venv/causalpy/.ready ## ITS by CausalPy, too, as a DVC experiment (690 MB)
	@PATH="$(CURDIR)/.venv/causalpy/bin:$$PATH" dvc exp run analyses/dvc.yaml:its -S analyses/params.yaml:its.method=causalpy

.venv/causalpy/.ready: requirements-causalpy.txt requirements-analyses.txt requirements.txt pyproject.toml
	$(PYTHON) -m venv .venv/causalpy
	.venv/causalpy/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-causalpy.txt
	@touch $@

queries: $(BIN)/.ready ## run the example queries of queries/
	@$(RUN) python -m commands.query

summary: $(BIN)/.ready ## say again what the last run gave
	@$(RUN) python -m commands.summary

remote: $(BIN)/.ready ## where versions are kept (URL=s3://B/FOLDER or a folder)
	@$(RUN) python -m commands.remote "$$URL" "$$ENDPOINT" # as make exports them: with blanks and quotes

tag: $(BIN)/.ready ## name this snapshot so that it can be cited (NAME, REV)
	@$(RUN) python -m commands.tag $(if $(REV),--rev "$(REV)") $(if $(NAME),"$(NAME)")

bundle: $(BIN)/.ready ## an archive to hand over (REV, PSEUDONYMS=1)
	@$(RUN) python -m commands.bundle $(if $(REV),--rev "$(REV)") $(if $(PSEUDONYMS),--pseudonyms)

check: $(BIN)/.ready ## is the commit whole: dvc.lock and the remote? Needs no data
	@$(RUN) python -m commands.check

docs: $(BIN)/.ready-dev ## write the generated parts of docs/ anew
	@$(RUN) python -m tests.docs

test: $(BIN)/.ready-dev $(BIN)/.ready-readers $(BIN)/.ready-dask ## run the tests
	@$(RUN) python -m pytest -q -rs -n 3 --dist loadgroup tests

test-long: $(BIN)/.ready-dev $(BIN)/.ready-readers $(BIN)/.ready-dask ## the longest tests, as broken nights
	@$(RUN) python -m pytest -q -rs -n 2 --dist loadgroup -m long tests

lint: $(BIN)/.ready-dev ## check style, types and the packages
	@$(RUN) ruff check .
	@$(RUN) ruff format --check .
	@$(RUN) mypy
	@$(RUN) python -m pip --disable-pip-version-check check
	@$(RUN) python -m tests.audit

bench: $(BIN)/.ready-dev $(BIN)/.ready-dask ## measure against a bare COPY (ROWS, DAYS, SKEW, RUNS)
	@$(RUN) python -m benchmarks.bench --rows $(ROWS) --days $(DAYS) --skew $(SKEW) --runs $(RUNS)
	@echo; $(RUN) python -m benchmarks.research --rows $(ROWS) --runs $(RUNS)
	@echo; $(RUN) $(SCALE)

bench-scale: $(BIN)/.ready-dev $(BIN)/.ready-dask ## its last part: engines, a skewed day, years (PART)
	@$(RUN) $(SCALE)

simulate: $(BIN)/.ready-analyses ## do the intervals of analyses/ hold? (four minutes)
	@$(RUN) python -m benchmarks.simulate

simulate-causalpy: .venv/causalpy/.ready ## and those of CausalPy? (an hour)
	@PATH="$(CURDIR)/.venv/causalpy/bin:$$PATH" python -m benchmarks.simulate --causalpy

faults: $(BIN)/.ready-dev ## break things on purpose, and count (KILLS, TIMES)
	@$(RUN) python -m benchmarks.faults --kills $(KILLS) --times $(TIMES)

faults-dask: $(BIN)/.ready-dev $(BIN)/.ready-dask ## and a Dask cluster (TIMES)
	@$(RUN) python -m benchmarks.faults_dask --times $(TIMES)

test-airflow: ## deploy/airflow in a real Airflow (five minutes)
	$(PYTHON) -m venv .venv/airflow
	.venv/airflow/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-airflow.txt
	@sh tests/airflow.sh .venv/airflow/bin

test-mlflow: $(BIN)/.ready ## a run told to a real MLflow (some minutes)
	$(PYTHON) -m venv .venv/mlflow
	.venv/mlflow/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-mlflow-server.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-mlflow.txt
	@$(RUN) python tests/mlflow_server.py .venv/mlflow/bin

test-causalpy: .venv/causalpy/.ready ## its.method: causalpy with the real CausalPy (two minutes)
	@PATH="$(CURDIR)/.venv/causalpy/bin:$$PATH" python -m tests.causalpy_here

clean: ## remove what the pipeline made, but not its versions
	rm -rf data/raw data/quarantine data/export data/report data/failed data/analytics.duckdb data/.notes data/.verified data/reports/validation_failures.csv
