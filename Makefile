# make demo and make test need only python3 (3.10 to 3.13) with venv; everything lands in .venv.
# A stamp per extra remembers what is installed, so that installs repeat only when what they depend on changes.

PYTHON ?= python3
BIN := .venv/bin
# Processes that share the tests of `make test`; each computes on one thread.
WORKERS ?= 2
# Mutants of each file that `make mutation` tries; 0 for all of them.
MUTANTS ?= 25

SITE = $(BIN)/sphinx-build --quiet --fail-on-warning --keep-going -c docs/site -d out/site-cache . out/site

.PHONY: demo test fuzz mutation bench-records test-slow test-runtimes test-web web-demo check check-lean docs format bench bench-quick bench-micro bench-regularisation pretrained clean
.DEFAULT_GOAL := test

demo: .venv/installed-demo
	$(BIN)/sws-compress demo

# Neighbouring tests stay in one process, because they share fixtures, until one of the processes has nothing to do.
test: .venv/installed-test
	$(BIN)/pytest -n $(WORKERS) --dist worksteal

test-slow: .venv/installed-test
	$(BIN)/pytest -m slow

# Every encoding in the installed ONNX Runtime, in the oldest one supported, and in the reference evaluator.
test-runtimes: .venv/installed-test
	$(BIN)/pytest -m "slow or not slow" tests/runtimes/test_installed.py tests/runtimes/test_oldest.py

# The same in onnxruntime-web in headless Chromium; what is missing is installed by apt-get and npm.
test-web: .venv/installed-test .venv/web/installed
	$(BIN)/pytest -m slow tests/runtimes/test_web.py tests/runtimes/test_demo_page.py

# The page of docs/demo in out/web-demo; MAGIKA names the plain model.onnx of magika, to stand beside the small one.
web-demo: .venv/installed-demo .venv/web/installed
	$(BIN)/python docs/demo/build.py out/web-demo --runtime .venv/web/node_modules/onnxruntime-web/dist \
		$(if $(MAGIKA),--file-types $(MAGIKA))
	@echo "serve it: python3 -m http.server --directory out/web-demo"

# What no test notices: MUTANTS random mutants of every file of quantize, mixture and codec, in mutants/ (an hour or so).
mutation: .venv/installed-mutation
	$(BIN)/python tests/checks/mutation.py --mutants $(MUTANTS)

# SWS_FUZZ_CASES models with damaged bytes (20,000, three minutes), and as many with damaged structure (half an hour).
fuzz: .venv/installed-test
	$(BIN)/pytest -m slow tests/onnx_io/test_fuzz.py tests/fuzz

check: .venv/installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/python tests/checks/links.py
	$(BIN)/python tests/checks/words.py
	$(BIN)/python tests/checks/wheel.py
	$(SITE)

# The wheel in a new environment without torch and other extras: installed sizes, and the commands for ONNX files. It
# downloads some 200 MB.
check-lean: .venv/installed-dev
	$(BIN)/python tests/checks/lean.py

# The documentation as a site, in out/site; every warning is an error.
docs: .venv/installed-docs
	$(SITE)
	@echo "open out/site/index.html"

format: .venv/installed-dev
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench-micro: .venv/installed-test
	$(BIN)/python -m benchmarks.micro

# The mixture prior against other regularisers on small training sets (a quarter of an hour of one core).
bench-regularisation: .venv/installed-benchmarks
	$(BIN)/python -m benchmarks.regularisation

# The benchmarks of docs/benchmarks.md that are out of date, and the page; the quick ones take under ten minutes.
bench: .venv/installed-test
	$(BIN)/python -m benchmarks

bench-quick: .venv/installed-test
	$(BIN)/python -m benchmarks --quick

# Sizes and errors of the record files, in ONNX Runtime.
bench-records: .venv/installed-test
	$(BIN)/python -m benchmarks.records.evaluate

# Trains the network in sws_compress/demo/data anew (two minutes).
pretrained: .venv/installed-demo
	$(BIN)/python benchmarks/lenet/train.py

clean:
	rm -rf .venv build dist out mutants *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find sws_compress tests benchmarks -name __pycache__ -prune -exec rm -rf {} +

.venv/bin/python:
	$(PYTHON) -m venv .venv || { rm -rf .venv; exit 1; }

.venv/web/installed: tests/runtimes/web/package.json tests/runtimes/web/package-lock.json | .venv/bin/python
	tests/runtimes/web/install.sh .venv/web

.venv/installed-%: setup.cfg pyproject.toml constraints.txt | .venv/bin/python
	@echo "Installing sws-compress[$*] into .venv; torch is large, the first time takes a few minutes."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$*]'
	@touch $@
