# Few verbs. Everything that a verb needs it installs or says how to.
GO      ?= go
PKGS    ?= ./...
VERSION ?= 0.1.0-dev
LINT    := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

.PHONY: build test lint bench demo crash services services-down

build:
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-s -w -X main.version=$(VERSION)" -o bin/forebay ./cmd/forebay

# The real servers that tests and the demo talk to: PostgreSQL, HDFS, Apache Kafka, client tools.
services:
	$(GO) run ./internal/testenv/services up

services-down:
	$(GO) run ./internal/testenv/services down

test: services
	$(GO) vet $(PKGS)
	CGO_ENABLED=1 $(GO) test -race -timeout 20m $(PKGS)

lint:
	$(GO) vet $(PKGS)
	$(GO) run $(LINT) run

bench:
	$(GO) test -run '^$$' -bench . -benchtime 1s ./core/... ./runtime/... ./sources/... ./sinks/...

# The main job on real servers: PostgreSQL and log files into HDFS, then the audit's verdict.
demo: build
	$(GO) run ./internal/testenv/services up postgres hdfs
	$(GO) run ./tests/demo -forebay bin/forebay

# The long crash test: what CI runs small.
crash: build services
	$(GO) run ./tests/crash -forebay bin/forebay -rows 200000 -lines 200000 -kills 20
