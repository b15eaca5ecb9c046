SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

KERNEL ?= 6.12
T ?= tests/kernel
IG ?=
BASE ?=
VM ?=
RUNS ?= 3
FUZZ_SECONDS ?= 60
TAG ?= ig-py:latest

.PHONY: protos help setup dev run test lint vm parity bench bench-instructions bench-micro fuzz image docs clean

help: ## say what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | column -t -s $$'\t'

setup: ## install what is missing; leaves .venv/bin/ig-py working
	@scripts/setup

dev: ## like setup, with an editable install: Python edits are live
	@scripts/dev

run: ## the whole story on this machine: build, push, pull, trace one container
	@scripts/setup demo
	@scripts/demo

test: ## every layer of tests that this machine can run, then honest counts
	@scripts/setup demo test compilers vm
	@scripts/test

lint: ## ruff, import layers, mypy, stubtest and clippy
	@scripts/setup
	@scripts/test lint

vm: ## tests in a VM: make vm KERNEL=6.12 T=tests/kernel
	@scripts/setup demo vm
	@scripts/vm $(KERNEL) $(T)

parity: ## compare with a real ig: make parity IG=/path/to/ig [VM=6.12]
	@scripts/setup demo $(if $(VM),vm)
	@IG='$(IG)' VM='$(VM)' scripts/parity

bench: ## cost, loss and start-up (others: docs/performance.md): make bench [BASE=/path/to/old.whl] [IG=/path/to/ig] [RUNS=3]
	@scripts/setup
	@.venv/bin/python bench/run.py --runs $(RUNS) $(if $(BASE),--base '$(BASE)') $(if $(IG),--ig '$(IG)')

fuzz: ## hostile samples, judged by what they break and what they cost, a minute a target: make fuzz [FUZZ_SECONDS=60] [FUZZ_JOBS=N]
	@FUZZ_SECONDS='$(FUZZ_SECONDS)' FUZZ_JOBS='$(FUZZ_JOBS)' scripts/fuzz

bench-instructions: ## instructions that an event costs, by callgrind: make bench-instructions [RENEW=1]
	@.venv/bin/python bench/instructions.py $(if $(RENEW),--renew)

bench-micro: ## cost of an event by stage (criterion)
	@scripts/setup
	@cd core && cargo bench --no-default-features --bench stages

image: ## ig-py in an image of its own (docs/in-a-container.md): make image [TAG=ig-py:latest]
	@scripts/setup
	@scripts/image $(TAG)

protos: ## regenerate the protobuf modules from their .proto files
	@scripts/setup
	@scripts/protos

docs: ## regenerate the diagrams of DEVELOPER.md from the built object
	@scripts/setup
	@scripts/docs

clean: ## remove what set-up and the tests made in this checkout
	rm -rf .venv .cache dist core/target core/fuzz/target core/fuzz/corpus parity/out .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
