# `make demo` and `make test` do all their set-up themselves: Python >= 3.11 and make are enough.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
DEPLOYED := $(firstword $(wildcard /usr/bin/python3.13 $(HOME)/.pyenv/versions/3.13*/bin/python3.13))
CHECKOV_VERSION := 3.3.30
UV_VERSION := 0.13.9
PROVIDER := out/tools/cdktf_cdktf_provider_google-16.12.1-py3-none-any.whl

JOBS   ?= auto

# Some container images set it: then each of the suite's thousand processes compiles all of logmend anew.
export PYTHONDONTWRITEBYTECODE =

.DEFAULT_GOAL := help
.PHONY: help demo test unit coverage deployed check lint lock lab tools pictures chaos bench dist fmt clean

help: ## Say what there is to make.
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(READY): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("logmend needs Python 3.11 or later, this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

demo: $(READY) ## The whole story on a pretend fleet: no cloud, no root, under a minute.
	$(BIN)/logmend demo

test: $(READY) ## Every test that this machine can run; what it cannot is skipped by name. T=PATH K=EXPRESSION select some.
	$(BIN)/python -m pytest --numprocesses=$(JOBS) $(if $(K),-k '$(K)') $(T)

unit: ## The unit tests: no network, no process, no root.
	$(MAKE) --no-print-directory test T=tests/unit

coverage: $(READY) ## Branch coverage of the function by unit and contract tests, with the branches that no test takes.
	$(BIN)/python -m coverage run -m pytest -q -p no:xdist $(or $(T),tests/unit tests/contract) $(if $(K),-k '$(K)')
	$(BIN)/python -m coverage report

lint: $(READY) ## Format, lint, strict types, import contracts, Terraform's format. Edits nothing.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy functions/main.py functions/logmend cli/logmend_cli tests bench
	$(BIN)/lint-imports
	@if command -v terraform >/dev/null; then terraform fmt -check -recursive deploy sink; else echo "terraform fmt: skipped, this machine lacks terraform"; fi

lock: out/tools/uv/bin/uv ## Write requirements.txt, here and in functions/, from the *.in files (cli/ too) and constraints.txt: every version and hash.
	for folder in . functions; do (cd $$folder && "$(CURDIR)/$<" pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --custom-compile-command "make lock" -c "$(CURDIR)/constraints.txt" requirements.in -o requirements.txt) || exit 1; done

out/tools/uv/bin/uv:
	$(PYTHON) -m venv out/tools/uv
	out/tools/uv/bin/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

deployed: $(READY) ## The unit tests on the Python that is deployed, where this machine has it beside its own.
	@if test -n "$(DEPLOYED)"; then \
	  $(MAKE) test PYTHON=$(DEPLOYED) VENV=.venv-deployed T=tests/unit; \
	else echo "unit tests on the deployed Python: skipped, this machine lacks python3.13"; fi

check: lint test ## lint and test.

lab: $(READY) ## The tests on real systemd machines (Linux, root, Debian packages of .ci/packages).
	LOGMEND_REQUIRE_ALL=1 $(BIN)/python -m pytest tests/lab

tools: out/tools/checkov/bin/checkov $(PROVIDER) ## The scanner for Terraform, in an environment of its own: it pins half the world. The provider's schema.

out/tools/checkov/bin/checkov:
	$(PYTHON) -m venv out/tools/checkov
	out/tools/checkov/bin/python -m pip install --quiet --disable-pip-version-check checkov==$(CHECKOV_VERSION)

# 49 MB, 400 unpacked and never imported: fetched, not installed.
$(PROVIDER): | $(READY)
	$(BIN)/python -m pip download --quiet --disable-pip-version-check --no-deps --dest out/tools cdktf-cdktf-provider-google==16.12.1

pictures: $(READY) ## The README's pictures of a report, anew (needs chromium).
	$(BIN)/python -m tests.pictures

chaos: $(READY) ## The fault suite, long: 1,000 tries and more.
	LOGMEND_CHAOS_TRIES=$${LOGMEND_CHAOS_TRIES:-1000} $(BIN)/python -m pytest tests/chaos -s

bench: $(READY) ## Measure against the named alternatives; writes out/bench.json.
	$(BIN)/python -m bench

VERSION = $(shell sed -n 's/^__version__ = "\(.*\)"$$/\1/p' functions/logmend/__init__.py)

dist: $(READY) out/tools/setuptools ## What a release has, from the commit that is checked out: sdist, wheel, function archive, notes, checksums. In out/dist.
	rm -rf out/dist && mkdir -p out/dist/source
	git archive HEAD | tar -x -C out/dist/source
	cd out/dist/source && PYTHONPATH=$(CURDIR)/out/tools/setuptools $(CURDIR)/$(BIN)/python -c 'from setuptools import build_meta; build_meta.build_sdist("..")' >/dev/null
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir out/dist out/dist/logmend-$(VERSION).tar.gz
	git -C functions archive --format=zip --output=$(CURDIR)/out/dist/logmend-function-$(VERSION).zip HEAD
	rm -rf out/dist/source
	awk -v version="$(VERSION)" '/^## /{on = $$2 == version; next} on' CHANGELOG.md > out/dist/notes.md && test -s out/dist/notes.md
	cd out/dist && sha256sum logmend-* > SHA256SUMS && cat SHA256SUMS

out/tools/setuptools:
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --target $@ 'setuptools>=80'

fmt: $(READY) ## Format in place.
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	@if command -v terraform >/dev/null; then terraform fmt -recursive deploy sink; fi

clean: ## Remove what was made.
	rm -rf $(VENV) out build
