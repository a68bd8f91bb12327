# The quick start and the checks; every target builds what it needs and nothing twice.
#
#     make demo     style a sample image
#     make test     the whole test suite
#     make test-frameworks   the tests that need PyTorch (downloads it)
#     make test-release      build the wheel and the sdist, install both in clean environments
#     make test-lowest       the test suite on the lowest declared version of every dependency
#     make lint     ruff, mypy --strict, import-linter
#     make bench    time evaluations and the optimisation against PyTorch (downloads it)
#     make torture  kill runs, fill disks, mutate input files, attack the server; takes hours
#     make docs     the pages under docs/ as a site, in build/site, with the page for browsers
#     make gallery  the images of docs/gallery.md
#     make clean    remove everything that was built

PYTHON ?= python3
BIN := .venv/bin
PACKAGE := $(shell find engine -name '*.py')
MODEL := models/vgg19.onnx
# One more than two cores: some tests wait for other processes.
WORKERS := 3

# The tests start many processes, which read bytecode that was written once.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-frameworks test-release test-lowest lint bench torture docs gallery clean
.DELETE_ON_ERROR:

demo: demo/chelsea.png
	@echo "The image is demo/chelsea.png"

test: .venv/.test $(MODEL)
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

test-frameworks: .venv/.test .venv/.frameworks
	$(BIN)/python -m pytest -n 2 --dist worksteal -m frameworks

test-release: .venv/.test .venv/.release
	$(BIN)/python -m pytest -n 2 --dist loadfile -m release

test-lowest: build/lowest/.installed $(MODEL)
	build/lowest/bin/python -m pytest -W ignore::DeprecationWarning

lint: .venv/.lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/.bench $(MODEL)
	$(BIN)/python -m tools.benchmark

torture: .venv/.test .venv/.torture $(MODEL)
	$(BIN)/python -m tools.torture
	$(BIN)/python -m tools.torture.service --model $(MODEL)

docs: .venv/.docs $(MODEL)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	$(BIN)/gramstyle objective export --web build/site/demo
	@echo "The site is build/site/index.html"

gallery: .venv/.runtime $(MODEL)
	$(BIN)/gramstyle batch docs/gallery.toml
	$(BIN)/gramstyle texture docs/samples/night.jpg --size 256 --tileable -o docs/images/gallery/texture.jpg
	$(BIN)/python -m tools.mosaic docs/images/gallery/texture.jpg -o docs/images/gallery/texture-mosaic.jpg

clean:
	rm -rf .venv demo build dist $(MODEL)

demo/chelsea.png: docs/samples/chelsea.jpg docs/samples/meadow.jpg $(MODEL) $(PACKAGE)
	@mkdir -p demo
	$(BIN)/gramstyle transfer docs/samples/chelsea.jpg docs/samples/meadow.jpg -o demo/stopped.png
	@mv demo/stopped.png $@

# The weights do not change when the code does, so only a missing model is built.
$(MODEL): | .venv/.runtime
	$(BIN)/gramstyle model export --to $@

build/lowest/.installed: pyproject.toml tests/release/lowest.py
	$(PYTHON) -m venv build/lowest
	$(PYTHON) tests/release/lowest.py pyproject.toml > build/lowest/constraints.txt
	build/lowest/bin/python -m pip install --quiet --constraint build/lowest/constraints.txt --editable '.[cpu,test]'
	@touch $@

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
