# SPDX-License-Identifier: Apache-2.0
# `make` lists the targets. Python environments are made under .venvs/ by tests/run the first time they are needed.

# Options of `make demo`, `make sim`, `make bench` and the packages' targets: make sim ARGS=--help
ARGS ?=

# Seconds for each target of `make fuzz`.
TIME ?= 60

# The module of `make mutate`.
MODULE ?=

# The interpreter of the host that `make install` installs for; without DESTDIR that is this machine.
PYTHON ?= /usr/bin/python3

# -E: ignore the caller's PYTHONPATH and the like.
RUN = @python3 -E -B -m tests.run

# The makers of packages; all files are dated SOURCE_DATE_EPOCH, by default the last commit's date.
BUILD = @python3 -E -B packaging

.PHONY: help demo test compat check lint sim bench fuzz mutate docs install tarball rpm suppack check-suppack clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## watch a disk image travel into a storage repository, and back (no root, under 90 s)
	$(RUN) harness tests.demo $(ARGS)

test: ## every test on every dom0 Python (as root it installs the Debian packages it needs)
	$(RUN) test

compat: ## unmodified nova and os-xenapi's client use these plug-ins; os-xenapi's own beside them (Python 2.7)
	$(RUN) compat

check: ## lint and the fast tests on one Python, under a minute
	$(RUN) check

lint: ## lint alone
	$(RUN) lint

sim: ## run a simulated host to try plug-ins on; prints its URL and a sample call
	$(RUN) harness tests.harness $(ARGS)

bench: ## time, memory and call overhead, beside os-xenapi and curl | tar
	$(RUN) bench $(ARGS)

docs: ## write anew the replies in docs/WIRE.md, from the simulated host, and the tables of rooms
	$(RUN) docs

fuzz: ## fuzz every reader of foreign data, TIME= seconds (60) for each target; ARGS=--help
	$(RUN) fuzz --time $(TIME) $(ARGS)

mutate: ## do the tests bite? mutants of MODULE=dom0_lib/....py against the tests that see it; ARGS=--help
	$(RUN) mutate $(MODULE) $(ARGS)

install: ## put the plug-ins into DESTDIR/etc/xapi.d/plugins for PYTHON (DESTDIR=/ PYTHON=/usr/bin/python3)
	@python3 -E -B packaging/install_tree.py --destdir "$(DESTDIR)/" --python "$(PYTHON)"

tarball: ## dist/*.tar.gz: the plug-ins and their installer, for each family of hosts
	$(BUILD)/make_tarball.py $(ARGS)

rpm: ## dist/*.rpm: the same as RPMs
	$(BUILD)/make_rpm.py $(ARGS)

suppack: ## dist/*.iso: signed supplemental packs; KEY= names the signing key
	$(BUILD)/make_suppack.py $(if $(KEY),--key "$(KEY)") $(ARGS)

check-suppack: ## would a host take this pack? ISO= names it, KEYFILE= the public key that hosts have imported
	$(BUILD)/check_suppack.py $(if $(KEYFILE),--key-file "$(KEYFILE)") "$(ISO)"

clean: ## remove everything that the other targets made here
	rm -rf .venvs build dist *.egg-info .hypothesis .pytest_cache .ruff_cache
	find . -name __pycache__ -prune -exec rm -rf {} + -o -name '*.pyc' -exec rm -f {} +
