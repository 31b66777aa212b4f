# `make demo` and `make test` set up $(VENV) first, where it is missing or out of date.
PYTHON ?= python3
VENV ?= .venv

BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# How long `make fuzz` feeds each reader, in seconds.
FUZZ_SECONDS ?= 60

# Two tests at a time, of one thread each; those of a file share what they prepare.
PARALLEL := --numprocesses=2 --dist=loadfile --no-loadscope-reorder

# What `make test-stacks` runs a part of the tests on: make test-stacks STACKS=forks
STACKS ?= pinned forks oldest newest

# What `make bench-gpu` measures; cpu: tiny sizes, to see that it runs.
DEVICE ?= cuda

.PHONY: demo test test-slow test-stacks bench-gpu fuzz install clean

demo: $(STAMP)
	$(BIN)/python tools/demo.py

test: $(STAMP)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(PARALLEL)

# TensorFlow has a folder of its own, which nothing but the test of frlr_mm.keras on it looks into.
test-slow: $(STAMP) build/tensorflow
	$(BIN)/python -m pytest -m slow

build/tensorflow: $(STAMP)
	rm -rf $@ $@.part
	$(BIN)/python -m pip install --quiet --target $@.part tensorflow-cpu --constraint constraints.txt
	mv $@.part $@
	@touch $@

# The interpreters python3.10, python3.11 and python3.13 have to be there.
test-stacks:
	@for stack in $(STACKS); do $(PYTHON) tests/stacks/run.py $$stack || exit 1; done

bench-gpu: $(STAMP)
	$(BIN)/python tools/benchmarks/bench_gpu.py --device $(DEVICE)

fuzz: $(STAMP)
	$(BIN)/python -m pip install --quiet --editable '.[fuzz]' --constraint constraints.txt
	mkdir -p build/fuzz
	@for reader in $$($(BIN)/python tests/fuzz/fuzz_readers.py --list); do \
	    echo "$$reader: $(FUZZ_SECONDS) s"; \
	    $(BIN)/python tests/fuzz/fuzz_readers.py "$$reader" -max_total_time=$(FUZZ_SECONDS) \
	        -timeout=10 -rss_limit_mb=2048 -verbosity=0 -print_final_stats=1 \
	        -artifact_prefix=build/fuzz/ || exit 1; \
	done

install: $(STAMP)

$(STAMP): setup.py pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 14))' || { \
	    echo 'frlr_mm needs Python 3.10 to 3.13, but $(PYTHON) is' \
	        "$$($(PYTHON) -V 2>&1); name another: make PYTHON=python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --editable '.[mmpretrain,keras,export,tests]' --constraint constraints.txt
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
