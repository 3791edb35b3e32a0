# Every recipe is one line; what needs more is a script in hack/. `make` alone lists the targets.
.DEFAULT_GOAL := help
.PHONY: help build demo test check test-kernel test-lab test-interop fuzz bench soak updates generate fmt lint clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## Build korat-node, korat and koratctl, static, into build/
	@hack/build

demo: ## Three hosts with two pods each: routes, sessions, pings, policy (KEEP=1 leaves it up; root)
	@hack/demo

test: ## Every tier, and the count at the end (root)
	@hack/test

check: ## gofmt, go vet, the architecture test and the unit tests; no root needed
	@hack/check

test-kernel: ## Only the tests against the running kernel (root)
	@hack/test kernel

test-lab: ## Only the tests with several hosts (root)
	@hack/test lab

test-interop: ## Only the tests against other people's programs: BIRD, gobgp, cnitool (root)
	@hack/test interop

fuzz: ## Every fuzz target for FUZZTIME [30s] each
	@hack/fuzz

bench: ## Measure against baselines: build/bench.json (BENCH=REGEX picks; root; some minutes)
	@hack/bench

soak: ## PODS [20000] pods come and go while things are killed: doubles, leaks, memory (SEED repeats a run; root)
	@hack/soak

updates: ## PACKETS [30000000] packets while policies change: none lost, none let through (SEED repeats a run; root)
	@hack/updates

generate: ## Regenerate the deep copies in api/
	@hack/generate

fmt: ## Format the Go files
	@hack/fmt

lint: ## golangci-lint with .golangci.yml; the first run builds the linter, which takes minutes
	@hack/lint

clean: ## Remove what was built
	@rm -rf build
