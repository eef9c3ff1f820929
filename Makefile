# `make` alone lists what there is. Nothing has to be installed first but Python 3.11 or newer.

BIN := .venv/bin
export PYTHON

.DEFAULT_GOAL := help
.PHONY: help up test check bench fmt schemas lock clean

help: ## list the targets
	@echo "make up      start Certwire here: Postgres, NATS and all services; Ctrl-C stops it"
	@echo "make test    run all tests (ARGS='-k renew' picks some)"
	@echo "make check   format, lint, types, layers, dependencies, spelling, our own guards"
	@echo "make bench   measure all beside OpenBao on this machine (ARGS='--work ocsp --quick')"
	@echo "make fmt     format the code and mend what ruff can mend"
	@echo "make schemas write the snapshots of events and audit records anew, if only additions changed"
	@echo "make lock    write the lock files anew (ARGS='--upgrade' for newer versions)"
	@echo "make clean   remove the environment and caches; data in .certwire stays"

up:
	@tools/bootstrap.sh runtime
	@exec env CERTWIRE_STOP_WITH_PARENT=1 $(BIN)/certwire up $(ARGS) # a killed make stops it too

test:
	@tools/bootstrap.sh dev
	@tools/system-packages.sh
	@$(BIN)/python tools/acme2certifier.py
	@$(BIN)/pytest -n auto --maxprocesses=4 $(ARGS)

check:
	@tools/bootstrap.sh dev
	@$(BIN)/python tools/check.py

bench:
	@tools/bootstrap.sh dev
	@$(BIN)/python -m tests.bench $(ARGS)

fmt:
	@tools/bootstrap.sh dev
	@$(BIN)/ruff format
	@$(BIN)/ruff check --fix

schemas:
	@tools/bootstrap.sh dev
	@$(BIN)/python tools/schemas.py

COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-annotate --custom-compile-command "make lock" $(ARGS)
OURS = pyproject.toml --extra embedded --extra pkcs11 --group build
lock:
	@tools/bootstrap.sh dev
	$(COMPILE) $(OURS) --output-file requirements.lock
	$(COMPILE) $(OURS) --group dev --constraint requirements.lock --output-file requirements-dev.lock
	echo acme2certifier==0.46.3 | $(COMPILE) - --output-file tools/acme2certifier.lock

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis build dist
	find contracts shared services tests tools -name __pycache__ -type d -prune -exec rm -rf {} +
