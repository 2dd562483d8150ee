# make serve   run s3lite on 127.0.0.1:8000 with the embedded storage in ./data
# make test    the whole test suite
# make lint    ruff and mypy
# make docs    the documentation as a site, in build/site
# make bench   the quick benchmark; make bench-full: everything, beside peers, with plots
# make lock    renew requirements.txt from requirements.in; make audit: known advisories; make sbom
# make torture SEED=7 MINUTES=30   crashes, faults, races and hostile peers, for long (docs/reliability.md)

PYTHON ?= python3
VENV := .venv
DOCS := $(VENV)/docs
BIN := $(VENV)/bin
TOOLS := build/tools

.PHONY: serve test lint docs bench bench-full torture lock audit sbom clean

$(VENV)/.server: requirements.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
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

# What the site needs, in an environment of its own. npm, where there is one, brings the script that draws diagrams.
$(DOCS)/.installed: docs/requirements.txt docs/package.json
	test -x $(DOCS)/bin/python || $(PYTHON) -m venv $(DOCS)
	$(DOCS)/bin/python -m pip install --quiet --disable-pip-version-check -r docs/requirements.txt
	cp docs/package.json $(DOCS)/
	! command -v npm >/dev/null || npm install --silent --no-audit --no-fund --omit=optional --prefix $(DOCS)
	touch $@

docs: $(DOCS)/.installed
	$(DOCS)/bin/python docs/site/build.py build/site

bench: $(VENV)/.tests
	$(BIN)/python bench/quick.py

# Apart from what they look at, so that they are no part of it.
$(TOOLS)/.ready: supply/tools.txt
	test -x $(TOOLS)/bin/python || $(PYTHON) -m venv $(TOOLS)
	$(TOOLS)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r supply/tools.txt
	touch $@

lock: $(TOOLS)/.ready
	supply/lock.sh $(TOOLS)/bin/uv

audit: $(TOOLS)/.ready
	$(TOOLS)/bin/python supply/audit.py $(TOOLS)/bin/pip-audit

sbom: $(TOOLS)/.ready
	rm -rf build/shipped
	$(PYTHON) -m venv --without-pip build/shipped
	$(TOOLS)/bin/python -m pip --python build/shipped/bin/python install --quiet --disable-pip-version-check \
		--require-hashes -r requirements.txt
	$(TOOLS)/bin/python supply/sbom.py $(TOOLS)/bin/cyclonedx-py build/shipped/bin/python build/s3lite.cdx.json

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
	rm -rf $(VENV) build .mypy_cache .ruff_cache .pytest_cache .hypothesis
