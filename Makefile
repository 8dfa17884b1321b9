# `make` lists the commands.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help demo test test-services test-faults check simulate test-crash services-up services-down build clips dataset transformers

# Fetches libtorch for the CPU once, outside the repository; LIBTORCH in the environment wins.
cargo = export LIBTORCH; LIBTORCH=$$(deploy/setup/libtorch.sh) && cargo

help: ## List the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo: ## Run the main job on the clips in demo/clips, and show what became of them
	@$(cargo) build --bin tidemark
	@demo/run.sh

test: ## Run all tests
	@$(cargo) test --workspace --no-fail-fast

services-tests = --test postgres --test pubsub --test kafka --test buckets --test readers --test bigquery --test services
test-services: ## Run the tests that need real services; fetches or installs (Postgres as root, by apt) what is missing
	@$(cargo) test --workspace --no-fail-fast $(services-tests)

check: ## Format, lints, and the crates that each crate may use
	@cargo fmt --all --check
	@$(cargo) clippy --workspace --all-targets -- --deny warnings
	@$(cargo) clippy --workspace $(services-tests) --test faults -- --deny warnings

UPLOADS ?= 2000
SEED ?= 1
test-faults: ## Three workers on one Postgres and 2,000 uploads under each fault, a row a fault: UPLOADS=300 SEED=7 for others
	@$(cargo) test --no-run --workspace --test faults
	@echo '| fault | uploads | outcomes | twice | dead letters | times | slowest recovery | took |'
	@echo '|---|---|---|---|---|---|---|---|'
	@export UPLOADS=$(UPLOADS) SEED=$(SEED); $(cargo) test --quiet --workspace --test faults -- --nocapture --test-threads=1

SEEDS ?= 20000
simulate: ## Run the process graph in the simulator: SEEDS=20000, or SEED=17 to replay one
	@export SEEDS=$(SEEDS); $(cargo) test --test simulate -- --nocapture every_promise

test-crash: ## Kill a serving process 20 times and more among 300 uploads, and count what is left
	@export CRASHES=20 UPLOADS=300; $(cargo) test --test system -- --nocapture crash

services = $${TMPDIR:-/tmp}/tidemark-services-$$(id -u)
services-up: ## Start services of your own (Postgres, Pub/Sub, Kafka, BigQuery, Cloud Storage, S3), and show their addresses
	@said=$$(deploy/setup/postgres.sh up $(services)/postgres) && echo "store.url: $$(head -1 <<< "$$said")"
	@said=$$(deploy/setup/pubsub-emulator.sh up $(services)/pubsub) && echo "PUBSUB_EMULATOR_HOST: $$(head -1 <<< "$$said")"
	@said=$$(deploy/setup/kafka.sh up $(services)/kafka) && echo "kafka.brokers: $$(head -1 <<< "$$said")"
	@said=$$(deploy/setup/gcs-emulator.sh up $(services)/gcs) && echo "STORAGE_EMULATOR_HOST: $$(head -1 <<< "$$said")"
	@said=$$(deploy/setup/s3-emulator.sh up $(services)/s3) && echo "AWS_ENDPOINT_URL: $$(head -1 <<< "$$said")"
	@said=$$(deploy/setup/bigquery-emulator.sh up $(services)/bigquery) && echo "bigquery.project: proj" && paste -d' ' <(printf 'bigquery.%s:\n' endpoint storage_endpoint) <(head -2 <<< "$$said")

services-down: ## Stop them, and delete what they hold
	@deploy/setup/postgres.sh down $(services)/postgres
	@deploy/setup/pubsub-emulator.sh down $(services)/pubsub
	@deploy/setup/kafka.sh down $(services)/kafka
	@deploy/setup/gcs-emulator.sh down $(services)/gcs
	@deploy/setup/s3-emulator.sh down $(services)/s3
	@deploy/setup/bigquery-emulator.sh down $(services)/bigquery

build: ## Build the release binary, target/release/tidemark
	@$(cargo) build --release --bin tidemark

clips: ## Render demo/clips again from demo/scores (needs Debian's mma, fluidsynth, timgm6mb-soundfont, ffmpeg)
	@demo/render.sh

PYTHON ?= python3
dataset: ## Make the labelled music in data/dataset; a run that was ended goes on (training/dataset/README.md)
	@$(PYTHON) training/dataset/make.py --out data/dataset

transformers: ## Load CHECKPOINT=DIR in transformers, and compare what it computes there with what Tidemark does
	@$(cargo) build --bin tidemark
	@training/transformers/check.sh $(CHECKPOINT)
