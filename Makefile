# `make demo` and `make test` do all the set-up they need; nothing else has to be run first.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check install

# More test processes than cores: they wait for servers a third of their time.
SPREAD ?= -n 3 --dist worksteal

# A test whose process hangs where no signal reaches it ends with the stacks of all its threads.
FROZEN ?= -o faulthandler_timeout=420 -o faulthandler_exit_on_timeout=true

# The tests start hundreds of processes: none may compile the program anew (nothing is "nothing set").
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help demo demo-live demo-churn test check soak format lock kafka browser clean

help:
	@echo "make demo        a taxi company: batch, service, stream, dashboard, driven and checked"
	@echo "make demo-live   the same, and it stays up until Ctrl-C"
	@echo "make demo-churn  ninety days of a campaign against churn, and its dashboard"
	@echo "make test        everything, real servers included"
	@echo "make check       lint, format and types"
	@echo "make soak        the long kill and load runs (more than an hour)"

# What only the system has: root on Debian installs it, elsewhere the tests that need it are skipped
# with the command that brings it (in CI a skip is a failure).
INSTALL = [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && \
	apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Trivet needs Python 3.11 or newer, such as: make PYTHON=python3.12 demo" or 0)'
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.demo: $(VENV)/.made pyproject.toml requirements.lock examples/taxi/requirements.txt
	$(PIP) --constraint requirements.lock --requirement examples/taxi/requirements.txt \
	    --editable '.[lightgbm,service,dashboard,actions]'
	@touch $@

$(VENV)/.dev: $(VENV)/.made pyproject.toml requirements.lock
	$(PIP) --requirement requirements.lock
	$(PIP) --no-deps --editable .
	@touch $@ $(VENV)/.demo

demo: $(VENV)/.demo
	$(BIN)/python examples/taxi/demo.py

demo-live: $(VENV)/.demo
	$(BIN)/python examples/taxi/demo.py --live

demo-churn: $(VENV)/.demo
	$(BIN)/python examples/churn/campaign.py

# Clients that are not ours pin what Trivet does not: they get an environment of their own.
.clients/.done: tests/requirements-clients.txt
	$(PYTHON) -m venv .clients
	.clients/bin/python -m pip --quiet --disable-pip-version-check install --requirement $<
	@touch $@

browser:
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || \
	    { $(INSTALL) chromium >/dev/null; } || echo "no Chromium: apt-get install chromium"

.cache/kafka/.done: tests/support/kafka.xml
	@{ command -v java && command -v mvn; } >/dev/null || \
	    { $(INSTALL) default-jre-headless maven >/dev/null; } || \
	    { echo "Apache Kafka needs Java 17 and Maven: apt-get install default-jre-headless maven"; exit 1; }
	mvn -q -B -f $< dependency:copy-dependencies -DoutputDirectory=$(CURDIR)/.cache/kafka
	@touch $@

kafka: .cache/kafka/.done

.PHONY: maybe-kafka
maybe-kafka:
	-@$(MAKE) --no-print-directory kafka

test: $(VENV)/.dev .clients/.done maybe-kafka browser
	TRIVET_CLIENTS_PYTHON=$(CURDIR)/.clients/bin/python $(BIN)/python -m pytest $(SPREAD) $(FROZEN) -m 'not soak' --cov

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

soak: $(VENV)/.dev maybe-kafka browser
	$(BIN)/python -m pytest -m soak --timeout 3600 -s

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# No address of an index may get into the lock.
lock: $(VENV)/.made
	$(PIP) uv
	$(BIN)/uv pip compile --quiet --no-emit-index-url --universal --python-version 3.11 --upgrade \
	    --all-extras --group dev pyproject.toml --output-file requirements.lock

clean:
	rm -rf $(VENV) .coverage* .mypy_cache .ruff_cache .pytest_cache dist
