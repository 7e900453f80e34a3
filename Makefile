# SPDX-License-Identifier: Apache-2.0
.PHONY: deps
deps: ## Make .venv with everything the collection and the daemon need
	@scripts/deps
