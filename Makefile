# Two commands are enough: `make app` opens the dashboard, `make test` runs the tests. Both do the set-up first.

PYTHON ?= $(shell scripts/find_python)
PORT ?= 8501
RUN = .venv/bin/python
# Two test processes on two cores: more threads in each would only get in each other's way.
TEST = OMP_NUM_THREADS=1 $(RUN) -m pytest -n 2 --dist loadgroup -rs

.PHONY: help setup setup-dev app samples test test-slow check format screenshots clean

help:
	@echo "make app          set up, import the samples, open the dashboard on http://127.0.0.1:$(PORT)"
	@echo "make setup        only the set-up: .venv with everything in requirements.txt, and the default model's package"
	@echo "make test         set up, run the tests (make test-slow: those that take minutes)"
	@echo "make check        ruff and mypy"
	@echo "make format       let ruff mend what it can"
	@echo "make samples      make the bundled datasets again (the same bytes)"
	@echo "make screenshots  shoot every page in a real browser into tests/browser/screenshots"

setup:
	@$(PYTHON) scripts/setup.py

setup-dev:
	@$(PYTHON) scripts/setup.py --dev

app: setup
	@$(RUN) -m core.models.default > /dev/null
	@$(RUN) -m core demo --load
	@$(RUN) -m streamlit run Home.py --server.address 127.0.0.1 --server.port $(PORT) --server.headless true

test: setup-dev
	$(TEST) -m "not slow"

test-slow: setup-dev
	$(TEST) -m slow

check: setup-dev
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

format: setup-dev
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

samples:
	@$(PYTHON) -m samples.make

screenshots: setup-dev
	$(RUN) -m tests.browser.shoot

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis tests/browser/screenshots
