# From nothing but Python 3.11+ and a C++ compiler: `make demo`, `make test`.
PYTHON ?= python3
# Any torch from 2.10 on will do: make install TORCH=torch==2.15.0
TORCH ?= torch==2.13.0
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: install demo test check format parity emulate sanitize bench clean

install: $(READY)

# torch comes first: the build of our operators needs it, and pip's isolated builds would fetch a second one.
$(READY): setup.py pyproject.toml $(shell find csrc -type f)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check "setuptools>=77" wheel ninja numpy "$(TORCH)"
	$(BIN)/pip install --quiet --disable-pip-version-check --no-build-isolation --editable ".[dev]"
	touch $(READY)

demo: install
	$(BIN)/python -m examples.demo $(if $(WEIGHTS),--weights "$(WEIGHTS)") --out demo

# A process for each core, with one thread each: the files are shared out, each to one process.
test: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto --maxprocesses 4 --dist loadfile $(ARGS)

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	@mkdir -p build/types && ln -sfn ../../extractors build/types/featx_extractors  # the name it is installed under
	MYPYPATH=build/types $(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_layers.py
	@if command -v nvcc >/dev/null; then $(BIN)/python setup.py -q check_cuda; else echo 'no nvcc: .cu files not compiled'; fi

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

parity: install
	@test -n "$(FIXTURES)" || { echo "usage: make parity FIXTURES=DIR [ONLY=hf,ops]" >&2; exit 2; }
	$(BIN)/python -m tests.parity "$(FIXTURES)" $(if $(ONLY),--only "$(ONLY)")

# The sources of our CUDA kernels, compiled for the CPU and compared with plain torch: needs no GPU.
emulate: install
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.emulate

# Our CUDA kernels under compute-sanitizer: needs a GPU, and `pip install nvidia-cuda-sanitizer-api` or the toolkit.
sanitize: install
	$(BIN)/python -m tests.sanitize

bench: install
	@test -n "$(NAME)" || { $(BIN)/python -m benchmarks; exit 2; }
	SEED="$(SEED)" RETRAIN="$(RETRAIN)" $(BIN)/python -m benchmarks "$(NAME)"

clean:
	rm -rf build dist *.egg-info featx/*.so demo $(READY)
