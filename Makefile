# Each line can be pasted into a shell. `make demo` and `make test` set up .venv from uv.lock when it is missing or stale.

SPCONV ?= cu126            # cu120: the older spconv-cu120 (Python 3.11, numpy < 2)
SPCONV := $(strip $(SPCONV))
UV_VERSION := 0.13.8
UV := .tools/uv-$(UV_VERSION)/bin/uv
SET_UP := .venv/set-up-$(SPCONV)

.PHONY: demo sample test test-all lint format bench envs docs
.DELETE_ON_ERROR:

demo: $(SET_UP)  ## simulate, tune, cache, train, measure; then print both numbers and where the figures lie
	@.venv/bin/python -m elite_pipeline demo

sample: $(SET_UP)  ## the same on a few real frames: ln -s <folder with sequences/> data/sample
	@.venv/bin/python -m elite_pipeline run results/sample_summary.md

# test-all: also the tests that take a minute or more each.
test: CHOICE := -m "not slow"
test test-all: $(SET_UP)
	@$(MAKE) --no-print-directory .venv-judge/set-up || echo "nuscenes-devkit cannot be installed: its tests are skipped."
	.venv/bin/python -m pytest -n 2 --dist worksteal $(CHOICE)
	@if nvidia-smi > /dev/null 2>&1; then \
	    set -x; .venv/bin/python -m pytest -m gpu; \
	fi

lint: $(SET_UP)
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/snakefmt --check Snakefile workflow
	.venv/bin/pyright
	.venv/bin/snakemake --lint

format: $(SET_UP)
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .
	.venv/bin/snakefmt Snakefile workflow

bench: $(SET_UP)  ## ratios, printed and written to benchmarks/results/
	for script in benchmarks/*.py; do .venv/bin/python $$script || exit 1; done

envs: $(SET_UP)  ## envs/*.yaml from uv.lock
	$(UV) export --quiet --frozen --no-hashes --no-annotate --no-header --no-emit-project --no-default-groups --group cu126 | .venv/bin/python envs/export.py > envs/pipeline.yaml

# The pages need nothing of .venv, so that they are built in seconds in a fresh clone.
docs: .venv-docs/set-up  ## docs/ as a site that works from the disk
	@.venv-docs/bin/sphinx-build --quiet --fail-on-warning --keep-going --nitpicky docs site -d .venv-docs/doctrees
	@echo "open $(CURDIR)/site/index.html"

# nuscenes-devkit judges our predictions (tests/judge). It needs numpy < 2, so it has an environment of its own (450 MB).
.venv-judge/set-up: tests/judge/requirements.txt | $(UV)
	$(UV) venv --quiet --clear --python ">=3.11,<3.13" .venv-judge
	$(UV) pip install --quiet --compile-bytecode --python .venv-judge --requirement $<
	@touch $@

# An activated virtual environment may have no pip; the system's Python then has.
$(UV):
	@python3 -m elite_pipeline.system --pip
	@for python in python3 /usr/bin/python3; do \
	    if $$python -m pip --version > /dev/null 2>&1; then \
	        exec $$python -m pip install --quiet --disable-pip-version-check --root-user-action ignore \
	            --target .tools/uv-$(UV_VERSION) uv==$(UV_VERSION); \
	    fi; \
	done

# Compiled here once. Otherwise each stage would compile torch, where Python may not write its bytecode.
$(SET_UP): uv.lock pyproject.toml | $(UV)
	$(UV) sync --compile-bytecode --locked --no-default-groups --group dev --group $(SPCONV) $(if $(filter cu120,$(SPCONV)),--python 3.11)
	@python3 -m elite_pipeline.system
	@rm -f .venv/set-up-*
	@touch $@

.venv-docs/set-up: uv.lock pyproject.toml | $(UV)
	UV_PROJECT_ENVIRONMENT=.venv-docs $(UV) sync --quiet --locked --only-group docs --no-install-project
	@touch $@
