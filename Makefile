# Everything runs from .venv, which is made when missing. Needs Python 3.11+, make and a package registry.
# The system's Python before another one: it is built with optimisations that pyenv's lacks, and runs a third faster.
PYTHON ?= $(or $(shell for python in /usr/bin/python3 python3; do \
    "$$python" -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$python" && break; \
    done),python3)
SIZE ?= 256x160
FRAMES ?= 750
FPS ?= 30
CLIP ?=
OUT ?= out/demo-$(SIZE).mp4
JOBS ?= 200
SEED ?= 1
DATABASE ?= postgresql

# Where `make install` puts the farm, and the links by which it is called.
PREFIX ?= .venv
BINDIR ?= $(HOME)/.local/bin

BIN := .venv/bin
STAMP := .venv/installed
# The same without what only tests need.
FARM_STAMP := .venv/farm-installed
PIP_INSTALL := -m pip install --quiet --disable-pip-version-check -c constraints.txt

# An ltx-farm from before there was ltx-farm-client owns the client's files, and takes them along when it is replaced.
FREE_FILES = "$(1)" -m pip show --quiet ltx-farm-client 2>/dev/null || "$(1)" -m pip uninstall -qq --yes ltx-farm
PROJECTS := pyproject.toml packaging/client/pyproject.toml

.PHONY: install install-client wheels demo check test test-long test-all soak proto example clean help

help:
	@echo "make install [PREFIX=/opt/ltx-farm] [BINDIR=/usr/local/bin]   farmctl, farmd and farm-node to call by name"
	@echo "make install-client [PREFIX=…] [BINDIR=…]   farmctl and the Python client alone, without torch and Ray"
	@echo "make wheels                                 both distributions as files in dist/"
	@echo "make demo [SIZE=1024x576] [CLIP=clip.mp4]   a farm of two nodes extends a clip to $(FRAMES) frames"
	@echo "make check                                  lint, format, types and the house's own rules, in under a minute"
	@echo "make test                                   every kind of thing once"
	@echo "make test-all                               all tests: every strategy, both databases for everything, histories"
	@echo "make soak [JOBS=200] [DATABASE=sqlite]      jobs on a farm to which everything happens (benchmarks/faults.py)"
	@echo "make proto                                  regenerate farm/v1 from proto/"

# Tests compare with Lightricks' own pipeline, which asks for libraries of 2025 and runs with ours.
$(STAMP): $(PROJECTS) constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(call FREE_FILES,$(BIN)/python)
	$(BIN)/python $(PIP_INSTALL) -e packaging/client -e '.[dev]'
	$(BIN)/python $(PIP_INSTALL) --no-deps ltx-video==0.1.2
	touch $(STAMP) $(FARM_STAMP)

$(FARM_STAMP): $(PROJECTS) constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(call FREE_FILES,$(BIN)/python)
	$(BIN)/python $(PIP_INSTALL) -e packaging/client -e .
	touch $(FARM_STAMP)

# Elsewhere the farm is copied: a service's user may not read this folder.
install: $(if $(filter .venv,$(PREFIX)),$(FARM_STAMP))
ifneq ($(PREFIX),.venv)
	test -x "$(PREFIX)/bin/python" || $(PYTHON) -m venv "$(PREFIX)"
	$(call FREE_FILES,$(PREFIX)/bin/python)
	"$(PREFIX)/bin/python" $(PIP_INSTALL) ./packaging/client .
endif
	@PREFIX="$(PREFIX)" BINDIR="$(BINDIR)" sh packaging/link.sh farmctl farmd farm-node

# A folder of its own: what is installed in .venv for development stays.
install-client: PREFIX = .venv-client
install-client:
	test -x "$(PREFIX)/bin/python" || $(PYTHON) -m venv "$(PREFIX)"
	$(call FREE_FILES,$(PREFIX)/bin/python)
	"$(PREFIX)/bin/python" $(PIP_INSTALL) ./packaging/client
	@PREFIX="$(PREFIX)" BINDIR="$(BINDIR)" sh packaging/link.sh farmctl

wheels:
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist ./packaging/client .

demo: $(STAMP)
	$(BIN)/farmctl demo --size $(SIZE) --frames $(FRAMES) --fps $(FPS) $(if $(CLIP),--clip '$(CLIP)') -o '$(OUT)' --overwrite

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_house.py

PYTEST := $(BIN)/python -m pytest -n 3 --dist loadgroup --no-loadscope-reorder

test: $(STAMP)
	$(PYTEST) -m "not long"

# What test-all adds to test.
test-long: $(STAMP)
	$(PYTEST) -m long

test-all: $(STAMP)
	$(PYTEST)

soak: $(STAMP)
	$(BIN)/python benchmarks/faults.py --soak $(JOBS) --seed $(SEED) --database $(DATABASE)

proto: $(STAMP)
	$(BIN)/python proto/generate.py

clean:
	rm -rf .venv .venv-client out dist
