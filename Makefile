# make serve   run s3lite on 127.0.0.1:8000 with the embedded storage in ./data
# make test    the whole test suite
# make lint    ruff and mypy
# make bench   the quick benchmark; make bench-full: everything, beside peers, with plots
# make torture SEED=7 MINUTES=30   crashes, faults, races and hostile peers, for long (docs/reliability.md)

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: serve test lint bench bench-full torture clean

$(VENV)/.server: requirements.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

$(VENV)/.tests: $(VENV)/.server tests/requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r tests/requirements.txt
	touch $@

serve: $(VENV)/.server
	$(BIN)/gunicorn -c conf/gunicorn.conf.py wsgi

test: $(VENV)/.tests
	$(BIN)/python -m pytest $(ARGS)

lint: $(VENV)/.tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.tests
	$(BIN)/python bench/quick.py

$(VENV)/.bench: $(VENV)/.tests bench/requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r bench/requirements.txt
	touch $@

bench-full: $(VENV)/.bench
	$(BIN)/python bench/full.py

$(VENV)/.torture: $(VENV)/.tests tests/torture/requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r tests/torture/requirements.txt
	touch $@

torture: $(VENV)/.torture
	PYTHONPATH=.:tests $(BIN)/python -m torture --minutes $(or $(MINUTES),10) $(if $(SEED),--seed $(SEED)) $(ARGS)

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
