# Everything runs in .venv, which any of the targets makes.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-gpu check format bench bench-peer bench-gpu proto proto-check clean

.venv/.done: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@

demo: .venv/.done      ## build an atlas of real cells, serve it, search it, draw the plot
	$(BIN)/python benchmarks/demo.py

test-gpu: .venv/.done  ## the GPU engine's tests on the GPU; fails without one
	$(BIN)/python -m pytest tests/gpu --device cuda

test: .venv/.done      ## all tests that need no accelerator
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

check: .venv/.done proto-check  ## format, lint, types, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/.done     ## measure, beside the targets; ARGS="--only search --quick"
	$(BIN)/python benchmarks/run.py $(ARGS)

bench-peer:            ## the environment of the compared packages
	test -x .venv-peer/bin/python || $(PYTHON) -m venv .venv-peer
	.venv-peer/bin/pip install --quiet --disable-pip-version-check --no-deps -r benchmarks/peer/requirements.txt
	.venv-peer/bin/pip install --quiet --disable-pip-version-check -r benchmarks/peer/models.txt

bench-gpu: .venv/.done ## measure a GPU on an atlas of 22,000,000 cells; ARGS="--cells 1000000"
	$(BIN)/python benchmarks/gpu_bench.py $(ARGS)

format: .venv/.done
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

PROTO := proto/insignia_proto/v1/insignia.proto

proto: .venv/.done     ## regenerate the Python modules of proto/
	PATH=$(BIN):$$PATH $(BIN)/python -m grpc_tools.protoc -I proto --python_out=proto --mypy_out=proto --grpc_python_out=proto --mypy_grpc_out=proto $(PROTO)

proto-check: .venv/.done  ## lint proto/ and see that the generated modules are current
	cd proto && ../$(BIN)/buf lint
	rm -rf .proto-check && mkdir .proto-check
	PATH=$(BIN):$$PATH $(BIN)/python -m grpc_tools.protoc -I proto --python_out=.proto-check --grpc_python_out=.proto-check $(PROTO)
	diff -r -x '*.proto' -x '*.pyi' -x '__init__.py' -x py.typed -x __pycache__ .proto-check/insignia_proto proto/insignia_proto
	rm -rf .proto-check

clean:
	find indexer -name '*.nb[ic]' -delete
	rm -rf .venv .venv-peer demo .proto-check
