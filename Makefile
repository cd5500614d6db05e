# make bench: install, measure and print Table 1.  make test: install and run the tests.  It needs Linux and Python >= 3.11.
PYTHON ?= python3
VENV   ?= .venv
PY     := $(VENV)/bin/python
STAMP  := $(VENV)/.installed

# Modules are compiled where they are first used, and not anew by each of the hundreds of processes that tests and runs start.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup bench test lint dist torture fuzz ranks selftest gpu gpu-check compiled screenshots clean
.DEFAULT_GOAL := setup

$(STAMP): pyproject.toml constraints.txt setup.py $(wildcard swbench/native/src/*)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "swbench needs Python 3.11 or newer; name one: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --no-compile --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $@

setup: $(STAMP)

bench: $(STAMP)
	$(PY) bench.py imagenet

test: $(STAMP)
	OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 --dist loadfile --no-loadscope-reorder  # longest first (tests/conftest.py)

lint: $(STAMP)
	! git grep -nE '^(<<<<<<<|>>>>>>>) '  # what a merge left behind
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff check --preview --select PLW1514 swbench benchmarks
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/basedpyright
	$(VENV)/bin/clang-format --dry-run --Werror swbench/native/src/*.[ch]

# sdist and wheel in dist/, their contents and metadata checked, and each tried in an environment of its own
dist: $(STAMP)
	$(PY) tools/dist.py
	$(PY) -m pytest -m "" tests/install

# Long checks, left out of `make test`.
torture: $(STAMP)
	$(PY) -m pytest -m slow tests/run/test_torture.py

ranks: $(STAMP)
	$(PY) -m pytest -m slow tests/ranks/test_ranks.py tests/cli/test_several_nodes.py tests/probes/test_step_collectives.py

compiled: $(STAMP)
	OMP_NUM_THREADS=1 $(PY) -m pytest -m "" tests/norms/test_compiled_autograd.py tests/norms/test_compiled_layers.py tests/norms/test_exported_layers.py

fuzz: $(STAMP)
	SWBENCH_FUZZ=$${SWBENCH_FUZZ:-10000} $(PY) -m pytest --timeout 3600 tests/suite/test_suite_fuzz.py tests/store/test_store_fuzz.py

selftest: $(STAMP)
	$(PY) -m pytest -m slow tests/selftest/test_simulation.py
	$(PY) bench.py selftest --long

# Everything a GPU is wanted for, in one command (docs/gpu.md); its options: make gpu ARGS="--allow-busy --steps table1"
gpu: $(STAMP)
	$(PY) benchmarks/gpu.py $(ARGS)

# What can be said of the GPU kernels without a GPU, in about an hour: all in the interpreter, as it is and more like hardware, registers,
# spills and the latency model, and the launch parameters of this Triton and of those in SWBENCH_TEST_TRITONS (folders of pip install --target)
gpu-check: $(STAMP)
	OMP_NUM_THREADS=1 $(PY) -m pytest -m slow --timeout 1800 tests/norms/test_triton_norms.py tests/norms/test_triton_registers.py tests/norms/test_triton_launch.py

# The pictures in docs/images, from a stored run: make screenshots RUN=results/reference/…
RUN ?= latest
screenshots: $(STAMP)
	$(PY) docs/screenshots.py $(RUN)

clean:
	rm -rf $(VENV) build dist *.egg-info
