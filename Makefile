# Each target installs or builds what it needs, into target/; `make` alone lists them.
# The work is done by the scripts in tests/tools and by tests/harness.

PYTHON := target/venv/bin/python
export PYTHONPATH := tests
export PYTHONDONTWRITEBYTECODE := 1

.DEFAULT_GOAL := help
.PHONY: help wasm run token test e2e fleet soak limits golden budget bench fuzz lint fmt clean venv

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## / { printf "  make %-6s  %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

wasm: ## build dist/envoy_log_ingest.wasm
	@tests/tools/build-wasm

run: venv ## start the local stack and send it a batch; ONCE=1 ends after the batch
	@$(PYTHON) -m harness.run

token: venv ## print a fresh session token for the running stack (make -s token)
	@$(PYTHON) -m harness.mint

test: ## run all tests: native ones, fuzz targets for some seconds, then the module in a real Envoy
	@tests/tools/test

e2e: wasm venv ## run only the tests in a real Envoy; ARGS='-k name' goes to pytest
	@$(PYTHON) -m pytest tests/e2e $(ARGS)

fleet: wasm venv ## is a 200 a promise? RECORDS=100000 SEED=1 through a failing backend and a dying Envoy; ARGS='--help'
	@$(PYTHON) -m harness.fleet --records $(or $(RECORDS),100000) --seed $(or $(SEED),1) $(ARGS)

soak: wasm venv ## good and bad traffic for MINUTES=30; memory, files and latency as CSV and PNG in target/soak
	@$(PYTHON) -m harness.soak --minutes $(or $(MINUTES),30) $(ARGS)

limits: wasm venv ## do the limits hold, at length? ARGS='exact --seconds 60 --runs 10', 'memory', 'others'
	@$(PYTHON) -m harness.limits $(ARGS)

golden: venv ## write tests/golden anew with what the encoder makes of it now, and show what changed
	@$(PYTHON) -m harness.golden

budget: venv ## count the instructions of the filter's work anew, and write them into docs/benchmarks.md
	@$(PYTHON) -m harness.budget

bench: wasm venv ## measure the filter beside its rivals; QUICK=1 takes minutes, the whole a long evening
	@tests/tools/bench-tools
	@$(PYTHON) -m bench $(if $(QUICK),--quick) $(ARGS)

fuzz: ## fuzz each target for SECONDS=600; TARGET=name takes one, INPUT=file runs it with that once
	@tests/tools/fuzz --seconds $(or $(SECONDS),600)

lint: venv ## check the formatting, and lint natively and for wasm32
	@tests/tools/lint

fmt: ## format the Rust code
	@tests/tools/lint --fix-format

clean: ## remove everything that was built, downloaded or recorded
	rm -rf target dist
	find tests -name __pycache__ -type d -prune -exec rm -rf {} +

venv:
	@tests/tools/venv
