# Two commands on a fresh clone: `make demo` shows it, `make test` proves it. Works with GNU make 3.81 (macOS) and later.
#
#   PYTHON=python3.12        the interpreter that the virtual environment is made with
#   PIP_OPTIONS="..."        passed to `pip install`; a CPU build of torch on Linux, for example:
#                            PIP_OPTIONS="--extra-index-url https://download.pytorch.org/whl/cpu"
#   VENV=.venv               where the virtual environment lies
#   PYTEST_OPTIONS="..."     passed to pytest, "-k lease -x" for example
#   TEST_PROCESSES=3         that share the tests, most of which wait most of their time; 0: all in one, as a debugger needs it

SHELL := /bin/sh
VENV ?= .venv
PIP_OPTIONS ?=
PYTEST_OPTIONS ?=
TEST_PROCESSES ?= 3
PYTHON ?= $(shell for python in python3 python3.11 python3.12 python3.13; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$python; break; }; done)

BIN := $(VENV)/bin
RUNTIME := $(VENV)/.installed-runtime
DEVELOPMENT := $(VENV)/.installed-development
NOT_TESTED := build/not-tested.txt

# Demo and tests show the same on every machine, so they never touch an accelerator.
export EASELD_DEVICE := cpu

.PHONY: help install demo shim-bench test chaos browser-test model-check bench peers check lint format types rooms wheel paths systemd-check image-check fix clean

help:
	@echo "make demo    install, then make one image and one video with the small built-in models"
	@echo "make test    the whole suite, with a real Firestore emulator and Cloud Storage server, and coverage"
	@echo "make model-check  200 prompts of pictures and 28 of clips through the built-in models, and what came of them"
	@echo "make bench   what the queue costs, against bare loops and bare writes (BENCH=quick: a glimpse)"
	@echo "make peers   install what row d of the bench compares with; downloads, never needed otherwise"
	@echo "make shim-bench  calls a second that the shim takes, beside runpod's own local server and bare writes"
	@echo "make browser-test  the operator page in a real browser; installs Debian's Chromium where it is missing"
	@echo "make chaos   5,000 jobs while workers are killed and networks cut: nothing lost, nothing twice (CHAOS=short: minutes)"
	@echo "make check   lint, format, types, import rules, the wheel"
	@echo "make systemd-check, make image-check    the services on a real systemd, the images in use; root on Debian, minutes"
	@echo "make fix     let ruff mend what it can"
	@echo "make clean   remove the virtual environment and everything built"

install: $(RUNTIME)

$(RUNTIME): setup.cfg constraints.txt
	@make/preflight.sh "$(PYTHON)"
	@echo "Installing easeld into $(VENV). To download:"
	@if [ "$$(uname -s)" = Darwin ]; then echo "  about 250 MB, PyTorch for Apple silicon among it."; else \
		echo "  about 350 MB with a CPU build of PyTorch, about 3 GB where pip takes the CUDA build, as it does on Linux"; \
		echo "  unless told otherwise: make PIP_OPTIONS=\"--extra-index-url https://download.pytorch.org/whl/cpu\""; fi
	@[ -x $(BIN)/python ] || "$(PYTHON)" -m venv $(VENV)
	$(BIN)/python -m pip install $(PIP_OPTIONS) --constraint constraints.txt --editable '.[worker]'
	@touch $@

$(DEVELOPMENT): $(RUNTIME)
	$(BIN)/python -m pip install $(PIP_OPTIONS) --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(RUNTIME)
	@$(BIN)/python -m daemon.entrypoints.demo

# Coverage is demanded only where everything was tested: a laptop without Java still gets an honest pass, and a last
# line that says what was left out. The pure core needs no server, so its 100 % holds everywhere.
test: $(DEVELOPMENT)
	@mkdir -p build && rm -f $(NOT_TESTED) .coverage .coverage.*
	@status=0; export OMP_NUM_THREADS=1; \
	EASELD_NOT_TESTED_FILE=$(NOT_TESTED) $(BIN)/coverage run -m pytest \
		--numprocesses $(TEST_PROCESSES) --dist worksteal $(PYTEST_OPTIONS) || status=$$?; \
	$(BIN)/coverage combine --quiet || status=1; \
	echo "Coverage of the pure core, 100 % required:"; \
	$(BIN)/coverage report --include='daemon/core/*' --fail-under=100 || status=1; \
	if [ -s $(NOT_TESTED) ]; then \
		echo "Coverage of the whole, not judged because something was not tested:"; \
		$(BIN)/coverage report --fail-under=0 || status=1; \
		cat $(NOT_TESTED); \
	else \
		echo "Coverage of the whole, 90 % required:"; \
		$(BIN)/coverage report --fail-under=90 || status=1; \
	fi; \
	exit $$status

# A row alone: .venv/bin/python -m benchmarks b
CHAOS ?= full
chaos: $(DEVELOPMENT)
	@$(BIN)/python -m tests.chaos --form $(CHAOS) $(CHAOS_OPTIONS)

# Whether the built-in models draw what the prompts say: docs/builtin-model.md.
model-check: $(DEVELOPMENT)
	@$(BIN)/python -m models.builtin.check

bench: $(DEVELOPMENT)
	@$(BIN)/python -m benchmarks

# Row d compares with them where they are installed, each in an environment of its own under build/peers.
peers: $(DEVELOPMENT)
	@$(BIN)/python -m benchmarks.peer

browser-test: $(DEVELOPMENT)
	@make/chromium.sh
	@CI=true $(BIN)/python -m pytest tests/browser $(PYTEST_OPTIONS)

# The peer comes with the extra `bench`, at the version of constraints.txt.
shim-bench: $(DEVELOPMENT)
	@$(BIN)/python -c 'import runpod' 2>/dev/null || \
		$(BIN)/python -m pip install $(PIP_OPTIONS) --constraint constraints.txt --editable '.[bench]'
	@$(BIN)/python -m benchmarks.shim

check: lint format types rooms paths wheel

lint: $(DEVELOPMENT)
	$(BIN)/ruff check .

format: $(DEVELOPMENT)
	$(BIN)/ruff format --check .

types: $(DEVELOPMENT)
	$(BIN)/mypy

rooms: $(DEVELOPMENT)
	$(BIN)/lint-imports --no-logo

wheel: $(DEVELOPMENT)
	$(BIN)/python -m make.wheel

paths: $(DEVELOPMENT)
	$(BIN)/python -m make.paths

# Both need root and tools that they name where they are missing, and take minutes: they are for whoever changes
# systemd/, Dockerfile or runpod/.
systemd-check: $(DEVELOPMENT)
	@PIP_OPTIONS="$(PIP_OPTIONS)" $(BIN)/python -m make.systemd_check

image-check: $(DEVELOPMENT)
	@PIP_OPTIONS="$(PIP_OPTIONS)" $(BIN)/python -m make.image_check

fix: $(DEVELOPMENT)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build dist demo-output *.egg-info .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache .hypothesis
