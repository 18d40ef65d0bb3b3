# The two commands of the README are `make lab` and `make test`; each does its own set-up.

CARGO ?= cargo

.PHONY: lab build test lint bench conformance fuzz book picture setup setup-test clean help

help:           ## this list
	@grep -E '^[a-z-]+: .*##|^[a-z-]+:  *##' $(MAKEFILE_LIST) | sed -E 's/:.*##/ -/' 

lab: setup      ## set up, build, and open the terminal interface
	@$(CARGO) build --release --locked
	@sh scripts/userns.sh target/release/ztlab
	@target/release/ztlab

build: setup    ## set up and build the release binary
	@$(CARGO) build --release --locked

test: setup-test ## set up and run every test
	PATH="$(CURDIR)/target/peers:$$PATH" $(CARGO) test --workspace --locked --no-fail-fast

lint: setup     ## formatting and clippy
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --locked --all-targets -- -D warnings

bench: build    ## what the project claims about speed, measured here and now
	@$(CARGO) bench --locked --bench lab --bench cluster --bench packets --bench capture --bench identity --bench spire

conformance: build ## the community's tests of NetworkPolicy against a cluster of ours (needs Go); TAGS=all for every case
	@sh scripts/conformance.sh target/release/ztlab $(TAGS)

fuzz: setup     ## feed the parsers what makes them reach new code (needs nightly Rust); SECONDS=60 a target, TARGETS="dns http"
	@sh scripts/fuzz.sh $(or $(SECONDS),60) $(TARGETS)

book: setup     ## build the book (needs mdbook)
	mdbook build book

picture: build  ## draw the README's picture from the real program (needs tmux and python3)
	@sh scripts/picture.sh target/release/ztlab

setup:
	@sh scripts/setup.sh build

setup-test:
	@sh scripts/setup.sh test

clean:          ## remove what was built
	$(CARGO) clean
