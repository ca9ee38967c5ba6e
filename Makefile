# mailout: `make help` lists the targets.
GO          ?= go
STATICCHECK ?= honnef.co/go/tools/cmd/staticcheck@v0.8.1
GOVULNCHECK ?= golang.org/x/vuln/cmd/govulncheck@v1.8.0
VERSION     ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
FUZZTIME    ?= 30s
PLATFORMS   ?= linux/amd64 linux/arm64 linux/s390x linux/ppc64le freebsd/amd64 darwin/arm64 windows/amd64

export CGO_ENABLED = 0
.DEFAULT_GOAL := help
.PHONY: help build demo test lint fuzz crash soak bench release

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' Makefile

build: ## build ./mailout
	$(GO) build -trimpath -ldflags '-X main.version=$(VERSION)' -o mailout ./cmd/mailout

demo: build ## the whole road against a small world on loopback
	./mailout demo

test: ## every test, with the race detector where there is a C compiler, and the real peers where root and apt allow; COVER=1: with coverage in cover.out
	@GO='$(GO)' COVER='$(COVER)' test/all.sh

lint: ## gofmt, go vet, staticcheck, and govulncheck where its database can be had
	@GO='$(GO)' STATICCHECK='$(STATICCHECK)' GOVULNCHECK='$(GOVULNCHECK)' test/lint.sh

fuzz: ## each fuzz target for FUZZTIME (30s)
	@GO='$(GO)' FUZZTIME='$(FUZZTIME)' test/fuzz.sh

crash: ## kill -9 under load, KILLS times (100), and a full disk: what was accepted arrives
	@GO='$(GO)' KILLS='$(KILLS)' SEED='$(SEED)' test/crash.sh

soak: ## a mixed load with faults for MINUTES (30): nothing is lost, and nothing grows
	@GO='$(GO)' MINUTES='$(MINUTES)' SEED='$(SEED)' test/soak.sh

bench: ## mailout against Postfix, Exim, OpenSMTPD, chasquid and Haraka, written to bench/RESULTS.md; MICRO=1: the Go benchmarks
	@GO='$(GO)' bench/run.sh $(if $(MICRO),micro)

release: ## static binaries of every platform in dist/
	@for p in $(PLATFORMS); do \
	  echo "$$p"; os=$${p%/*}; arch=$${p#*/}; ext=; [ $$os = windows ] && ext=.exe; \
	  GOOS=$$os GOARCH=$$arch $(GO) build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' \
	    -o dist/mailout-$$os-$$arch$$ext ./cmd/mailout || exit 1; done
