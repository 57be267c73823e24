# make demo and make test are all the set-up there is. `make help` lists the rest.

GO     ?= go
LINT   := $(GO) tool -modfile=tools/lint.mod
COUNT  ?= 20000
PEERS  ?= $(HOME)/.cache/smelt/peers
PYTHON  = $(PEERS)/bin/python

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

.PHONY: build
build: ## bin/smelt
	$(GO) build -o bin/smelt ./cmd/smelt

.PHONY: demo
demo: build ## fuse, merge and evaluate the bundled pool; smelt-demo/index.html
	rm -rf smelt-demo
	bin/smelt demo

.PHONY: test
test: ## all tests
	$(GO) test ./...

.PHONY: race
race: ## the tests of what runs in parallel, with the race detector, and of the kernels, with checked pointers
	$(GO) test -race ./internal/parallel ./internal/vfs ./safetensors ./checkpoint ./taskvector ./smile ./engine ./internal/cli ./nn ./model/... ./generate
	$(GO) test -gcflags=-d=checkptr ./internal/kernel

.PHONY: purego
purego: ## the tests without assembly
	$(GO) test -tags purego ./internal/kernel/... ./linalg/... ./smile ./engine ./model/...

.PHONY: fuzz
fuzz: ## every fuzz target, COUNT inputs each
	tools/fuzz.sh $(COUNT)

.PHONY: arm
arm: ## the kernels for arm64, under qemu (Debian: qemu-user-static)
	tools/arm.sh

.PHONY: lint
lint: ## gofumpt, vet, staticcheck, and other systems' builds
	tools/lint.sh

.PHONY: vuln
vuln: ## govulncheck: needs the vulnerability database on the internet
	$(LINT) govulncheck ./...

.PHONY: gen
gen: ## generate the assembly again; CI requires a clean diff
	$(GO) generate ./internal/kernel

.PHONY: peers
peers: ## the Python environment that smelt is held against (8 GB)
	tools/peers/setup.sh $(PEERS)

.PHONY: golden
golden: peers ## write the golden fixtures again
	tools/golden/run.sh $(PYTHON)

.PHONY: jinja
jinja: ## other Jinja engines against chat's fixture (fetches them and their Go)
	cd tools/peers/jinja && GOTOOLCHAIN=auto $(GO) run .

.PHONY: pages
pages: build ## the pages that smelt writes, looked at in headless Chromium
	tools/browser/pages.sh bin/smelt pages

.PHONY: parity
parity: build peers ## real outputs against numpy, FusionBench, peft and transformers
	tools/parity/run.sh bin/smelt $(PYTHON)

.PHONY: results
results: build peers ## docs/results.md: every pool fused, merged and evaluated
	tools/results.sh bin/smelt $(PYTHON)

.PHONY: bench
bench: peers ## docs/benchmarks.md, each figure beside its floor and its peer; PART=fuse or PART=fuse/clip: that alone
	$(PYTHON) bench/run.py $(PART) --within "$(WITHIN)"
