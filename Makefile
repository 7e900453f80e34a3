# SPDX-License-Identifier: Apache-2.0
# The front door: each target calls one script or one program of .venv/bin. Variables: ARGS goes to the program.
.DEFAULT_GOAL := help
BIN := .venv/bin
ARGS ?=
DIR ?= build/setup-demo
DATACENTERS ?= --dc-api-url dc-west=http://127.0.0.1:8080 --dc-api-url dc-east=http://127.0.0.1:8081

.PHONY: help
help: ## Show every target with what it does
	@awk -F ':.*## ' '/^[a-z][a-z0-9-]*:.*## / { printf "  %-20s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: deps
deps: ## Make .venv with everything the collection and the daemon need
	@scripts/deps

.PHONY: demo
demo: deps ## Two datacenter APIs, and as root machines that become Nodes, on a control plane of their own
	@$(BIN)/stargate-demo up $(ARGS)

.PHONY: demo-down
demo-down: deps ## Stop everything that make demo has started
	@$(BIN)/stargate-demo down

.PHONY: control-plane
control-plane: deps ## Start a local etcd and kube-apiserver; the last line is the path of their kubeconfig
	@$(BIN)/stargate-control-plane up $(ARGS)

.PHONY: control-plane-down
control-plane-down: deps ## Stop the local control plane
	@$(BIN)/stargate-control-plane down

.PHONY: machine-image
machine-image: deps ## Build the image of local machines (once, as root); the last line is its directory
	@$(BIN)/stargate-machine-image build $(ARGS)

.PHONY: install-crds
install-crds: ## Install the three CRDs into the cluster of KUBECONFIG
	@scripts/kubectl apply --validate=false -f crds/

.PHONY: uninstall-crds
uninstall-crds: ## Remove the CRDs, and with them every Server, ProvisioningProfile and Operation
	@scripts/kubectl delete --ignore-not-found -f crds/

.PHONY: create-samples
create-samples: ## Apply sample Servers, profiles and Operations
	@scripts/kubectl apply -f crds/examples/

.PHONY: delete-samples
delete-samples: ## Delete the samples
	@scripts/kubectl delete --ignore-not-found -f crds/examples/

.PHONY: run-mockapi-west
run-mockapi-west: deps ## Run the mock datacenter API dc-west on port 8080
	@$(BIN)/stargate-mock-dc --dc-name dc-west --port 8080 $(ARGS)

.PHONY: run-mockapi-east
run-mockapi-east: deps ## Run the mock datacenter API dc-east on port 8081
	@$(BIN)/stargate-mock-dc --dc-name dc-east --port 8081 $(ARGS)

.PHONY: run-controller
run-controller: deps ## Run the reconciler for all namespaces, with the two mock datacenters
	@$(BIN)/stargate-reconciler $(DATACENTERS) $(ARGS)

.PHONY: start-controllers
start-controllers: run-controller ## The same: one reconciler serves every provider

.PHONY: setup-demo
setup-demo: deps ## Make the simulator's router, and manifests in DIR; ARGS="-e provider=nspawn" for machines without QEMU
	@$(BIN)/ansible-playbook playbooks/setup-demo.yml -e demo_dir=$(abspath $(DIR)) $(ARGS)

.PHONY: prep
prep: deps ## Make a router, workers and their Servers; ARGS="-e provider=qemu -e vm=a,b", with -e state=absent the reverse
	@$(BIN)/ansible-playbook playbooks/prep-dc-inventory.yml $(ARGS)

.PHONY: test
test: ## Run unit and integration tests, with all they need; ARGS="unit -k queue" for some, ARGS=e2e for QEMU machines
	@scripts/test $(ARGS)

.PHONY: lint
lint: ## Run every static check; ARGS="ruff types" for some of them
	@scripts/lint $(ARGS)

.PHONY: e2e
e2e: ## Machines to Ready Nodes and through every operation; results also in build/e2e.json; ARGS="--provider nspawn"
	@scripts/e2e $(ARGS)

.PHONY: molecule
molecule: ## Try roles on real machines, by molecule; ARGS="node_runtime" for some scenarios
	@scripts/molecule $(ARGS)

.PHONY: bench
bench: deps ## Measure the rows of docs/benchmarks.md; results also in build/bench.json
	@scripts/bench $(ARGS)

.PHONY: soak
soak: deps ## Throw FAULTS faults at OPS Operations as SEED says, check what must hold; results also in build/soak.json
	@scripts/soak $(if $(SEED),--seed $(SEED)) $(if $(FAULTS),--faults $(FAULTS)) $(if $(OPS),--ops $(OPS)) $(ARGS)

.PHONY: clean-local
clean-local: ## Stop what runs locally and remove its files; confirm=true asks nothing
	@scripts/clean local confirm=$(confirm)

.PHONY: clean-all
clean-all: ## The same, and remove .venv and the downloaded programs too
	@scripts/clean all confirm=$(confirm)
