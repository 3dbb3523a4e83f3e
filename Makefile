# SPDX-License-Identifier: GPL-2.0
#
# Verbs; the work is done in scripts/. `make -C KDIR M=$PWD` reads Kbuild, not this.

# Which kernel: stock, broken, fixed, debian (as it was installed), or another series of patches/6.12.
KERNEL ?= broken
# The same where the fixed one is meant if none is named.
FIXED := $(if $(filter file,$(origin KERNEL)),fixed,$(KERNEL))
# And where it is the one that ships.
SHIPPED := $(if $(filter file,$(origin KERNEL)),stock,$(KERNEL))
# How often `make certainty` boots each scenario.
BOOTS ?= 20
# Minutes of guest time: of `make soak` 30, of `make stress` 10.
export DURATION
# A delay for `make stress`, in the words of `amplify`.
export DELAY
# How often `make lifecycle` loads and unloads the module under load.
CYCLES ?= 2000
# With checks compiled in, for `make soak` and `make lifecycle`: debug, faults, kcsan.
export CONFIG_VARIANT
# Which proposals `make matrix` measures, or which victims `make victims` has; FRESH=1: also those that were measured before.
export ONLY PART
export FRESH
# A 6.12 tree to use instead of the distribution's source; it is only read.
export LINUX
# Of `make live`, `make xfstests` and `make stress`; their scripts have what these are without being said.
export CPUS BUSY BESIDE
export XFSTESTS TESTS FORM WAKEWATCH LIMIT MINUTES MEMORY EXCLUDE A B
S := scripts

.DEFAULT_GOAL := help
# Verbs are steps of one thing and share a cache: never two at once.
.NOTPARALLEL:
.PHONY: help setup packages repro test check bench soak stress lifecycle matrix live findings victims xfstests xfstests-compare xfstests-image kernel module dkms shell certainty cache clean clean-cache

help: ## this list
	@echo 'usage: make VERB [NAME=value]...'
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | awk -F'\t' '{ printf "  %-16s %s\n", $$1, $$2 }'

repro: setup ## the 2020 bug and its absence, and the race that is alive: four kernels, a table [LINUX=TREE, or KERNEL=debian: what needs no patch]
	@$(if $(filter debian,$(KERNEL)),KERNELS=debian $(S)/lab.sh repro --kernel debian,KERNELS='stock broken fixed read-ref-if-waiters' $(S)/lab.sh repro); status=$$?; $(S)/cache.sh; exit $$status

test: setup ## everything: static checks, host tests, guests; KTAP [LINUX=TREE JOBS=1]
	@KERNELS="stock broken fixed read-ref-if-waiters get-around warn-zero-count-plain $$($(S)/kernel.sh --mutants)" $(S)/lab.sh test $(if $(JOBS),--jobs '$(JOBS)')

bench: setup ## what wakewatch costs, beside a C module and bpftrace
	@$(S)/bench.sh

soak: setup ## everything at once on the fixed kernel [DURATION=30 CONFIG_VARIANT=]
	@KERNELS=fixed $(S)/lab.sh soak --minutes '$(or $(DURATION),30)'

stress: setup ## other people's programs at work, data verified [KERNEL=fixed DURATION=10 FORM=4k DELAY='where=... us=... every=...' MEMORY=1G XFSTESTS=TREE]
	@KERNEL='$(FIXED)' $(S)/stress.sh

lifecycle: setup ## the module comes and goes [CYCLES=2000 CONFIG_VARIANT=]
	@KERNELS=fixed $(S)/lab.sh lifecycle --cycles '$(CYCLES)'

matrix: setup ## every proposal built and raced, one table [ONLY=KEY,KEY PART=races|alarms|stress|price|reads FRESH=1 LINUX=TREE]
	@$(S)/matrix.sh

live: setup ## how often the live read race is lost without any delay [KERNEL=stock DURATION=5 CPUS=2 BUSY=0 BESIDE=nothing|realtime|interrupts]
	@KERNEL='$(SHIPPED)' $(S)/live.sh

findings: setup ## losses of the live read race that came by themselves, over all runs [STORIES=1]
	@KERNELS=' ' $(S)/lab.sh findings --stories '$(or $(STORIES),1)'

victims: setup ## who is hurt by the live read race, and how, one table [ONLY=NAME,NAME KERNEL=stock]
	@KERNEL='$(SHIPPED)' $(S)/victims.sh

xfstests: setup ## xfstests with wakewatch loaded [XFSTESTS=TREE KERNEL=fixed TESTS="quick wakewatch" FORM=4k WAKEWATCH=1]
	@KERNEL='$(FIXED)' $(S)/xfstests.sh

xfstests-compare: setup ## what differs between two runs of it [A=RUN B=RUN]
	@$(S)/xfstests.sh --compare

xfstests-image: ## only the root image of it, the part that needs root
	@$(S)/xfstests.sh --image

check: setup ## only what needs no guest: style, lints, patches, host tests
	@$(S)/check.sh

setup: ## installs what is missing (packages as root; bindgen, virtme-ng in the cache)
	@$(S)/setup.sh

packages: ## only the part of setup that needs root
	@$(S)/setup.sh --packages

kernel: setup ## builds a kernel and prints where it is [KERNEL=broken LINUX=TREE]
	@$(S)/kernel.sh $(KERNEL)

module: ## builds wakewatch.ko against a kernel of yours into build/ [KDIR=TREE]
	@test -n '$(KDIR)' || { echo 'usage: make module KDIR=/path/to/prepared/tree (e.g. /lib/modules/$$(uname -r)/build)' >&2; exit 1; }
	@$(S)/module.sh '$(KDIR)'

dkms: ## root's: builds and installs wakewatch.ko by DKMS, now and whenever a kernel is installed [RELEASE=$(uname -r)]
	@$(S)/dkms.sh $(RELEASE)

shell: setup ## a guest to live in: loop device set up, wakewatch loaded [KERNEL=broken]
	@KERNELS=$(KERNEL) $(S)/lab.sh shell --kernel $(KERNEL)

certainty: setup ## shows that reproduction is certain [BOOTS=20]
	@$(S)/lab.sh certainty --boots $(BOOTS)

cache: ## where the cache is, and its size
	@$(S)/cache.sh

clean: ## removes build/ and the link to the last run
	@rm -rf build results

clean-cache: ## removes the cache: kernels, tools, runs
	@$(S)/cache.sh --remove
