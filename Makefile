# From a fresh clone to a result: `make demo`, `make test`. `make help` lists the rest.

# Interpreter that makes the environment; empty: the first of python3.11, python3.12,
# python3 whose version is tested.
PYTHON ?=
# Where the environment is.
VENV ?= .venv
# Optional parts of setup.py that go into it.
EXTRAS ?= demo,plot,device,export,test
# More options for pip, e.g. --index-url for a mirror.
PIP_ARGS ?=
# More options for the demo's run.sh and for pytest.
DEMO_OPTS ?=
PYTEST_ARGS ?=
# More options of the long form of the fault tests.
FAULTS_OPTS ?= --seed 1 --minutes 35
# Files of tests side by side, in the order they have: `TEST_JOBS=` for one process.
TEST_JOBS ?= --numprocesses logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

SHELL := /bin/bash
DEMO := egs2/mini_speech/asr_kd
# A report's name for each environment, so that two can stand side by side.
TEST_REPORT := build/test-report$(patsubst .venv%,%,$(notdir $(VENV))).xml
# Commands run with the environment's programs first on PATH, as after `activate`.
IN_VENV = VIRTUAL_ENV="$$(cd "$(VENV)" && pwd)" && export VIRTUAL_ENV \
	&& export PATH="$${VIRTUAL_ENV}/bin:$${PATH}" && unset PYTHONHOME

.DEFAULT_GOAL := help
.PHONY: help install check demo test test-faults lint freeze clean-venv

help:
	@echo 'make demo        synthetic corpus, teacher, three compression stages, report'
	@echo '                 (a quarter of an hour on two free cores, installing apart)'
	@echo 'make test        all tests'
	@echo 'make test-faults kills, full disks, damaged files, ... (docs/reliability.md);'
	@echo '                 FAULTS_OPTS="--minutes 10 --only kills", also --help'
	@echo 'make check       what is installed, what is missing, what to do about it'
	@echo 'make lint        ruff, mypy and shellcheck'
	@echo 'make install     only the environment; the others make it when needed'
	@echo 'make freeze      rewrite constraints/ from the environment'
	@echo 'make clean-venv  remove the environment'
	@echo
	@echo 'PYTHON=python3.12  interpreter of a new environment (tested: 3.11, 3.12)'
	@echo 'VENV=.venv312      folder of the environment (now: $(VENV))'
	@echo 'DEMO_OPTS="..."    options for $(DEMO)/run.sh, e.g. "--stage 12"'
	@echo 'PYTEST_ARGS="..."  options for pytest, e.g. "-k plan -x"'
	@echo 'TEST_JOBS=         tests one after another, e.g. for PYTEST_ARGS=--pdb'
	@echo 'PIP_ARGS="..."     options for pip, e.g. "--index-url <mirror>"'

install:
	@tools/make_venv.sh "$(VENV)" "$(PYTHON)" "$(EXTRAS)" $(PIP_ARGS)

check: install
	@$(IN_VENV) && python -m espnet_kd.bin.check_install

demo: install
	@echo 'make: demo: $(DEMO)/run.sh $(DEMO_OPTS)'
	@$(IN_VENV) && start=$$SECONDS && cd $(DEMO) && ./run.sh $(DEMO_OPTS) \
		&& echo "make: demo took $$(((SECONDS - start) / 60)) min $$(((SECONDS - start) % 60)) s;" \
			"read $(DEMO)/exp/RESULTS.md"

test: install
	@mkdir -p build
	@$(IN_VENV) && python -m pytest --junitxml="$(TEST_REPORT)" $(TEST_JOBS) $(PYTEST_ARGS); \
		status=$$?; echo "make: test: details are in $(TEST_REPORT)"; exit $$status

test-faults: install
	@$(IN_VENV) && python -m tests.faults.run $(FAULTS_OPTS) \
		&& python -m tests.faults.fault_table build/faults/results.jsonl

lint: install
	@$(IN_VENV) && python -m ruff check . && python -m mypy \
		&& python -m pytest -q tests/test_style.py

# To move on to newer versions: put only the wanted pins into the constraints file, make
# the environment, run all tests, then freeze: the file holds the exact set again.
freeze: install
	@mkdir -p build
	@$(IN_VENV) && file=constraints/$$(python -c 'import sys, importlib.metadata as m; \
			print("py%d%d-espnet%s.txt" % (*sys.version_info[:2], m.version("espnet")))') \
		&& { echo "# Exact set that was tested; used by make only. Rewritten by: make freeze" \
			&& python -m pip freeze --all --exclude-editable --exclude pip; } > build/freeze.txt \
		&& mv build/freeze.txt "$$file" && echo "make: freeze: wrote $$file"

clean-venv:
	@test ! -e "$(VENV)" || test -f "$(VENV)/espnet_kd.stamp" \
		|| { echo 'make: error: $(VENV) was not made by this Makefile' >&2; exit 1; }
	rm -rf "$(VENV)" "$(VENV).lock"
