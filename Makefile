# python3 >= 3.11 and make are all this needs: the first target builds .venv from the hashed lock, later ones reuse it.
#
#   make demo [ONCE=1] [SEED=n]   the main job on varied traffic; ONCE=1 ends with the verdict
#   make test [WORKERS=n]         every test, the loss test's five seeds included; WORKERS=0 one after the other
#   make lint                     format, lint, types, import layers
#   make bench [EVENTS=n]         the hot paths beside their targets
#   make mutation [SECONDS=n]     plant faults in the mapping and in one plugin, one by one: would the tests notice? [SAMPLE=n SEED=n FRESH=1]
#   make coverage                 each plugin's tests, counted and measured
#   make chaos [SEED=n]           the loss test: five minutes of faults (DURATION=seconds), then the count
#   make docs                     docs/cli.md from the commands' own help
#   make lock                     resolve the dependencies anew
#   make clean                    remove what these made, .venv too

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# One for each of two cores: more would end sooner, and starve the loss test of the moments in which it strikes. Each has a Kafka.
WORKERS ?= 2

.PHONY: demo test lint bench mutation coverage chaos lock docs clean

demo: $(READY)
	$(BIN)/ai-agents demo $(if $(ONCE),--once) $(if $(SEED),--seed $(SEED))

test: $(READY)
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(READY)
	$(BIN)/ai-agents bench all $(if $(EVENTS),--events $(EVENTS))

# An hour at most; what is left is done by the next run.
mutation: $(READY)
	$(BIN)/python -m tests.mutation --workers 2 $(if $(SECONDS),--seconds $(SECONDS)) $(if $(SAMPLE),--sample $(SAMPLE)) \
		$(if $(SEED),--seed $(SEED)) $(if $(FRESH),--fresh)

coverage: $(READY)
	$(BIN)/python -m tests.plugin_figures

chaos: $(READY)
	$(BIN)/python -m tests.chaos --seed $(or $(SEED),1) --seconds $(or $(DURATION),300)

lock: $(READY)
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 --generate-hashes \
		--no-header --no-annotate --no-emit-index-url --no-emit-find-links --quiet --output-file requirements.lock

docs: $(READY)
	$(BIN)/python -m tests.test_documented > docs/cli.md.new && mv docs/cli.md.new docs/cli.md

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Written last, so that an interrupted build is taken up again. An environment that works is kept and brought up to date.
USABLE := import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

$(READY): requirements.lock pyproject.toml
	@set -e; \
	if ! { $(BIN)/python -c '$(USABLE)' && $(BIN)/python -m pip --version; } >/dev/null 2>&1; then \
		for python in python3 python3.14 python3.13 python3.12 python3.11; do \
			$$python -c '$(USABLE)' 2>/dev/null && break; \
			python=; \
		done; \
		if [ -z "$$python" ]; then \
			echo "error: no Python 3.11 to 3.14 with venv found (python3 is $$(python3 --version 2>&1 || echo absent));" >&2; \
			echo "install one, on Debian with its -venv package, and run make again" >&2; exit 1; \
		fi; \
		echo "building $(VENV) with $$($$python --version); once, about a minute" >&2; \
		$$python -m venv --clear $(VENV); \
	fi
	@$(PIP) --require-hashes -r requirements.lock
	@$(PIP) --no-deps --no-build-isolation -e .
	@touch $@
