# Few verbs. Everything that a verb needs it installs or says how to.
GO      ?= go
VERSION ?= 0.1.0-dev
LINT    := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

.PHONY: build test lint bench demo crash soak chaos interop services services-down notices

build:
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-s -w -X main.version=$(VERSION)" -o bin/forebay ./cmd/forebay

# The real servers that tests and the demo talk to: PostgreSQL, HDFS, Apache Kafka, client tools.
services:
	$(GO) run ./internal/testenv/services up

services-down:
	$(GO) run ./internal/testenv/services down

# What measures whole nodes or bounds their times, and what fills the machine by itself, runs alone.
ALONE := /tests/(chaos|cluster|faults|hub|interop|kill|load|operations|rates|scale|startup|uses|workers)$$

# First the packages, two at a time; then whole nodes and clients, two at a time; then what runs alone, one by one.
test: services
	$(GO) vet ./...
	$(GO) vet -tags long ./tests/interop
	$(GO) vet -tags synctests ./tests/exactly
	CGO_ENABLED=1 $(GO) test -race -timeout 20m $$($(GO) list ./... | grep -v /tests/)
	CGO_ENABLED=1 $(GO) test -race -timeout 20m -p 2 $$($(GO) list ./tests/... | grep -vE '/tests/sim$$|$(ALONE)')
	CGO_ENABLED=1 $(GO) test -race -timeout 20m -p 1 $$($(GO) list ./tests/... | grep -E '$(ALONE)')
	$(GO) test -tags synctests -timeout 20m ./tests/sim ./tests/exactly # time is theirs: -race would only slow them down

lint:
	$(GO) vet ./...
	$(GO) run $(LINT) run

bench:
	$(GO) test -run '^$$' -bench . -benchtime 1s ./core/... ./runtime/... ./sources/... ./sinks/...

# The main job on real servers: PostgreSQL and log files into HDFS, then the audit's verdict.
demo: build
	$(GO) run ./internal/testenv/services up postgres hdfs
	$(GO) run ./tests/demo -forebay bin/forebay

# The long crash test: what CI runs small.
crash: services
	$(GO) test ./tests/crash -run Embedded -v -count=1 -timeout 90m -args -rows=200000 -lines=200000 -kills=20 -servers

# What is too long for CI, part by part; reports go to docs/soak. What has passed is not run again. More: go run ./tests/soak -h
soak:
	$(GO) run ./tests/soak

# Half an hour of storms over three and five nodes, with seeds of their own; each call adds to docs/soak/chaos.md. CI runs it small.
chaos:
	$(GO) run ./tests/soak -parts chaos

# Every client in the long form, some two hours: more of them on three nodes, nodes that restart, more kills, Flink and Spark. CI runs it small.
interop: services
	$(GO) test ./tests/interop -tags long -v -count=1 -timeout 3h

notices:
	$(GO) run ./internal/notices > THIRD_PARTY_NOTICES.md
