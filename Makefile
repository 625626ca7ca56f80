# One environment, in .venv; every target makes it first where it is missing.
PYTHON ?= python3
SERVE ?= 1
# Processes of the tests; a file's tests stay together, in their order. A browser has the machine to itself.
WORKERS ?= 2
define TESTS
$(BIN)/python -m pytest tests/browser
$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --ignore tests/browser
endef
PORT ?= 8080
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: quickstart test check format install

install: $(READY)

# torch first: a plain `torch` from a later line would bring gigabytes of CUDA.
$(READY): constraints.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check "$$(grep '^torch==' constraints.txt)"
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[data,remote,speech,vision,tune,serve,ray,dev]"
	touch $(READY)

quickstart: $(READY)
	$(BIN)/caravan run recipes/quickstart.yaml
	@if [ "$(SERVE)" != "0" ]; then $(BIN)/caravan serve runs/quickstart --port $(PORT); fi

test: $(READY)
	$(TESTS)

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(TESTS)

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
