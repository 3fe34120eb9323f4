# `make demo` and `make test` set up everything they need in .venv, given Python >= 3.11 and make.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test clean

demo: .venv/.ready
	$(BIN)/qtrade run

test: .venv/.ready-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -n auto --dist loadfile --no-loadscope-reorder

.venv/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

.venv/.ready-test: .venv/.ready
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch $@

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache
