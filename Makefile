# What a person types. The work is in deploy/dev/; every target can be run again at any time.

# A shell opened before rustup was installed does not know its folder yet; what is there goes before a distribution's cargo.
export PATH := $(or $(CARGO_HOME),$(HOME)/.cargo)/bin:$(PATH)

.DEFAULT_GOAL := help
.PHONY: help run test check bench up down clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-7s %s\n", $$1, $$2 }' Makefile

run: ## build and start the demo; pass options on with ARGS="--keep ./demo"
	@deploy/dev/run $(ARGS)

test: ## run every test, with real servers; narrow it with ARGS="-p crossdock-core"
	@deploy/dev/test $(ARGS)

check: ## formatting, lints, dependency policy and unit tests
	@deploy/dev/check $(ARGS)

bench: ## run the benchmarks; ARGS="--help" lists rows and flags
	@deploy/dev/bench $(ARGS)

up: ## start Postgres, Kafka and RabbitMQ for development; they stay up
	@deploy/dev/prepare up
	@deploy/dev/servers up

down: ## stop the development servers; their data is kept
	@deploy/dev/servers down

clean: ## remove everything that was built, the development servers too
	@deploy/dev/servers remove
	@cargo clean
