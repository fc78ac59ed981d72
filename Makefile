# What CI calls and people type. Only relative paths, so that the checkout may stand anywhere.
SHELL := /bin/sh
.DEFAULT_GOAL := help
# `make -j refresh repro` is still one after the other.
.NOTPARALLEL:
.PHONY: help setup repro refresh night queries summary remote check docs test lint bench faults clean

PYTHON ?= python3
BIN := .venv/bin
# The stages are started as `python`; this is the one they mean.
RUN := PATH="$(CURDIR)/$(BIN):$$PATH"
ROWS ?= 1000000
DAYS ?= 90
SKEW ?= 0
RUNS ?= 5
KILLS ?= 100
TIMES ?= 3
# What a night commits, and nothing else that somebody has staged.
SNAPSHOT := params.yaml watermark.yaml dvc.lock data/reports

help: ## print the targets
	@grep -E '^[a-z]+:.*## ' Makefile | awk -F ':.*## ' '{printf "  make %-9s %s\n", $$1, $$2}' | \
		fold -s -w "$${COLUMNS:-$$(tput cols 2> /dev/null || echo 80)}"

setup: $(BIN)/.ready ## make .venv, install requirements.txt and the project

$(BIN)/.ready: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: $(PYTHON) is $$($(PYTHON) --version 2>&1), expected 3.11 or newer; next: make $(MAKECMDGOALS) PYTHON=python3.11"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

$(BIN)/.ready-dev: $(BIN)/.ready requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@

$(BIN)/.ready-readers: $(BIN)/.ready requirements-readers.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade --target .venv/readers -r requirements-readers.txt
	@touch $@

repro: $(BIN)/.ready ## run the pipeline (dvc repro) and say what came out
	@$(RUN) python -m commands.preflight
	@$(RUN) dvc repro
	@$(RUN) python -m commands.summary

refresh: $(BIN)/.ready ## pin what the source holds in watermark.yaml (UNTIL=DATE)
	@$(RUN) python -m commands.refresh $(if $(UNTIL),--until "$(UNTIL)")

# After a night whose push failed there is more than one commit that the remote may not have.
night: $(BIN)/.ready ## refresh, repro, commit and push, for cron
	@$(MAKE) --no-print-directory refresh
	@$(MAKE) --no-print-directory repro
	@git add $(SNAPSHOT)
	@git diff --cached --quiet -- $(SNAPSHOT) || git commit --quiet -m "Snapshot" -- $(SNAPSHOT)
	@$(RUN) dvc push $$(test "$$(git rev-list --count @{push}.. 2> /dev/null || echo 2)" -le 1 || echo --all-commits)
	@git push --quiet

queries: $(BIN)/.ready ## run the example queries of queries/
	@$(RUN) python -m commands.query

summary: $(BIN)/.ready ## say again what the last run gave
	@$(RUN) python -m commands.summary

remote: $(BIN)/.ready ## keep versions in S3 (URL=s3://BUCKET/FOLDER, ENDPOINT=https://...)
	@case "$(URL)" in s3://?*) ;; *) echo "error: URL is '$(URL)', expected s3://BUCKET/FOLDER; next: make remote URL=s3://BUCKET/FOLDER"; exit 2;; esac
	@case "$(ENDPOINT)" in ""|http://?*|https://?*) ;; *) echo "error: ENDPOINT is '$(ENDPOINT)', expected http(s)://HOST; next: make remote URL=$(URL) ENDPOINT=https://$(ENDPOINT)"; exit 2;; esac
	@$(RUN) dvc remote add --default --force storage "$(URL)"
	@$(RUN) dvc remote modify storage verify true
	@test -z "$(ENDPOINT)" || $(RUN) dvc remote modify storage endpointurl "$(ENDPOINT)"

check: $(BIN)/.ready ## is the commit whole: dvc.lock and the remote? Needs no data
	@$(RUN) python -m commands.check

docs: $(BIN)/.ready-dev ## write the generated parts of docs/ anew
	@$(RUN) python -m tests.docs

test: $(BIN)/.ready-dev $(BIN)/.ready-readers ## run all tests
	@$(RUN) python -m pytest -q -n 2 --dist loadgroup tests

lint: $(BIN)/.ready-dev ## check style, types and the packages
	@$(RUN) ruff check .
	@$(RUN) ruff format --check .
	@$(RUN) mypy
	@$(RUN) python -m pip --disable-pip-version-check check
	@$(RUN) python -m tests.audit

bench: $(BIN)/.ready-dev ## measure against a bare COPY (ROWS, DAYS, SKEW, RUNS)
	@$(RUN) python -m benchmarks.bench --rows $(ROWS) --days $(DAYS) --skew $(SKEW) --runs $(RUNS)

faults: $(BIN)/.ready-dev ## break things on purpose, count what came of it (KILLS, TIMES)
	@$(RUN) python -m benchmarks.faults --kills $(KILLS) --times $(TIMES)

clean: ## remove what the pipeline made, but not its versions
	rm -rf data/raw data/quarantine data/export data/analytics.duckdb data/.times data/.verified data/reports/validation_failures.csv
