# The quick start and the checks; every target builds what it needs and nothing twice.
#
#     make demo     style a sample image
#     make test     the whole test suite
#     make test-frameworks   the tests that need PyTorch (downloads it)
#     make lint     ruff, mypy --strict, import-linter
#     make bench    time evaluations and the optimisation against PyTorch (downloads it)
#     make docs     the pages under docs/ as a site, in build/site
#     make clean    remove everything that was built

PYTHON ?= python3
BIN := .venv/bin
PACKAGE := $(shell find engine -name '*.py')
MODEL := models/vgg19.onnx

.PHONY: demo test test-frameworks lint bench docs clean
.DELETE_ON_ERROR:

demo: demo/chelsea.png
	@echo "The image is demo/chelsea.png"

test: .venv/.test $(MODEL)
	$(BIN)/python -m pytest

test-frameworks: .venv/.test .venv/.frameworks
	$(BIN)/python -m pytest -m frameworks

lint: .venv/.lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/.bench $(MODEL)
	$(BIN)/python -m tools.benchmark

docs: .venv/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "The site is build/site/index.html"

clean:
	rm -rf .venv demo build dist $(MODEL)

demo/chelsea.png: docs/samples/chelsea.jpg docs/samples/meadow.jpg $(MODEL) $(PACKAGE)
	@mkdir -p demo
	$(BIN)/gramstyle transfer docs/samples/chelsea.jpg docs/samples/meadow.jpg -o $@

# The weights do not change when the code does, so only a missing model is built.
$(MODEL): | .venv/.runtime
	$(BIN)/gramstyle model export --to $@

.venv/.created:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("gramstyle needs Python 3.11 or newer; name one: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv
	@touch $@

.venv/.runtime: pyproject.toml | .venv/.created
	$(BIN)/python -m pip install --quiet --editable '.[cpu,fast]'
	@touch $@

.venv/.%: pyproject.toml .venv/.runtime
	$(BIN)/python -m pip install --quiet --editable '.[cpu,fast,$*]'
	@touch $@
