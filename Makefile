# SPDX-License-Identifier: GPL-2.0
#
# Verbs; the work is done in scripts/. `make -C KDIR M=$PWD` reads Kbuild, not this.

# What is asked for is looked at first, before anything is done: scripts/asked.sh, which also says what each variable is.
S := scripts
said := $(foreach v,$(.VARIABLES),$(if $(filter command,$(firstword $(origin $v))),$v))
quoted = '$(subst ','\'',$1)'
refused := $(shell $(S)/asked.sh $(foreach v,$(said),$(call quoted,$v=$(value $v))) -- $(foreach g,$(MAKECMDGOALS),$(call quoted,$g)))
$(if $(refused),$(error $(refused)))
$(if $(filter-out 0,$(.SHELLSTATUS)),$(error $(S)/asked.sh failed))

# Which kernel: as it is said, or else the one that the verb is about.
KERNEL ?= broken
FIXED := $(if $(filter file,$(origin KERNEL)),fixed,$(KERNEL))
SHIPPED := $(if $(filter file,$(origin KERNEL)),stock,$(KERNEL))
BOOTS ?= 20
CYCLES ?= 2000
# Scripts know what these are without being said.
export DURATION DELAY CONFIG_VARIANT ONLY PART FRESH SERIES ALSO TOOLCHAIN CONFIG LINUX CPUS BUSY BESIDE
export XFSTESTS TESTS FORM WAKEWATCH LIMIT MINUTES MEMORY EXCLUDE A B
export SHARD RUNS PROG SCRIPT CMD DISK KNOBS ROUNDS FINDS BISECT

.DEFAULT_GOAL := help
# Verbs are steps of one thing and share a cache: never two at once.
.NOTPARALLEL:
.PHONY: help doctor setup packages repro test check bench soak stress lifecycle matrix run bisect live findings kernels test-all victims xfstests xfstests-compare xfstests-merge xfstests-image kernel module dkms shell certainty browser cache clean clean-cache

##@ See the bug
repro: setup ## the bug of 2020 and its absence, and the race that is alive: four kernels, a table [KERNEL=(debian)]
	@$(if $(filter debian,$(KERNEL)),KERNELS=debian $(S)/lab.sh repro --kernel debian,KERNELS='stock broken fixed read-ref-if-waiters' $(S)/lab.sh repro); status=$$?; $(S)/cache.sh; exit $$status

certainty: setup ## that the bug comes in each boot, and how soon [BOOTS=20]
	@$(S)/lab.sh certainty --boots $(BOOTS)

shell: setup ## a guest to live in: ext4 on a loop device, wakewatch loaded [KERNEL=broken]
	@KERNELS=$(KERNEL) $(S)/lab.sh shell --kernel $(KERNEL)

##@ Test wakewatch
test: setup ## everything: static checks, tests on the host, guests; KTAP [JOBS= ALSO=]
	@KERNELS="stock broken fixed read-ref-if-waiters get-around warn-zero-count-plain $$($(S)/kernel.sh --mutants) $(addsuffix :stock,$(ALSO))" $(S)/lab.sh test $(if $(JOBS),--jobs '$(JOBS)')

test-all: ## the same on every version, one after the other [JOBS=]
	@status=0; for series in $(notdir $(wildcard patches/*.*)); do $(MAKE) --no-print-directory test SERIES=$$series || status=$$?; done; exit $$status

check: setup ## only what boots nothing: style, lints, patches, documents, tests on the host
	@$(S)/check.sh

browser: setup ## the page of a run, in a browser: installs one if there is none
	@$(S)/setup.sh --browser && $(S)/check.sh 'in a browser'

lifecycle: setup ## the module comes and goes under load [KERNEL=fixed CYCLES=2000]
	@KERNELS='$(FIXED)' $(S)/lab.sh lifecycle --kernel '$(FIXED)' --cycles '$(CYCLES)'

soak: setup ## everything at once on a healthy kernel, where wakewatch has to be silent [DURATION=30]
	@KERNELS=fixed $(S)/lab.sh soak --minutes '$(or $(DURATION),30)'

##@ Hunt
stress: setup ## other people's programs at work, data verified [KERNEL=fixed DURATION=10 FORM=4k DELAY= MEMORY=1G XFSTESTS=]
	@KERNEL='$(FIXED)' $(S)/stress.sh

xfstests: setup ## xfstests, with wakewatch's word beside each result [XFSTESTS= KERNEL=fixed TESTS='quick wakewatch' FORM=4k WAKEWATCH=1 LIMIT=600 MINUTES=90 MEMORY=3G EXCLUDE=tests/xfstests/exclude SHARD=]
	@KERNEL='$(FIXED)' $(S)/xfstests.sh

xfstests-compare: setup ## what differs between two runs of it [A= B=]
	@$(S)/xfstests.sh --compare

xfstests-merge: setup ## the parts of one, made with SHARD=, put together [RUNS=]
	@$(S)/xfstests.sh --merge

run: setup ## a program of yours in a guest, again and again, with wakewatch watching [PROG= SCRIPT= CMD= KERNEL=stock FORM=4k DISK=loop KNOBS= DELAY= DURATION=1 ROUNDS= LIMIT=30 CPUS=2 MEMORY=2G FINDS= BISECT=]
	@KERNEL='$(SHIPPED)' $(S)/run.sh

bisect: setup ## that `make run` bisects: it finds the commit that brings the bug back (four kernels)
	@$(S)/bisect.sh

live: setup ## how often the live read race is lost with nothing delayed [KERNEL=stock DURATION=5 CPUS=2 BUSY=0 BESIDE=nothing]
	@KERNEL='$(SHIPPED)' $(S)/live.sh

victims: setup ## whom the live read race hurts, and how, one table; several kernels, with commas, side by side [KERNEL=stock ONLY=]
	@KERNEL='$(SHIPPED)' $(S)/victims.sh

kernels: setup ## what has run on which kernel, and what has not, over all runs of this machine, and of others [WITH=]
	@KERNELS=' ' $(S)/lab.sh kernels $(WITH)

findings: setup ## what healthy kernels have said by themselves, in all runs of this machine [STORIES=1]
	@KERNELS=' ' $(S)/lab.sh findings --stories '$(or $(STORIES),1)'

##@ Measure
matrix: setup ## every proposal for a fix: raced, stressed, modelled, priced, one table [ONLY= PART= FRESH=]
	@$(S)/matrix.sh

bench: setup ## what wakewatch costs, beside a C module and bpftrace
	@$(S)/bench.sh

##@ Build
module: ## wakewatch.ko for a kernel of your own, into build/ [KDIR=]
	@test -n '$(KDIR)' || { echo 'usage: make module KDIR=/path/to/prepared/tree (e.g. /lib/modules/$$(uname -r)/build)' >&2; exit 1; }
	@$(S)/module.sh '$(KDIR)'

dkms: ## root's: wakewatch.ko by DKMS, now and whenever a kernel is installed [RELEASE=]
	@$(S)/dkms.sh $(RELEASE)

kernel: setup ## one kernel of the lab's, and where it is [KERNEL=broken]
	@$(S)/kernel.sh $(KERNEL)

xfstests-image: ## the root image for xfstests, the part of it that needs root
	@$(S)/xfstests.sh --image

##@ This machine
doctor: ## what is there, what is missing, whether KVM works, and what the verbs will need; changes nothing
	@$(S)/doctor.sh

setup: ## installs what is missing (packages as root; bindgen, virtme-ng and others in the cache) [KERNEL=(debian)]
	@$(S)/setup.sh

packages: ## only the part of setup that needs root [KERNEL=(debian)]
	@$(S)/setup.sh --packages

cache: ## where the cache is, and its size
	@$(S)/cache.sh

clean: ## removes build/ and the link to the last run
	@rm -rf build results

clean-cache: ## removes the cache: kernels, tools, runs
	@$(S)/cache.sh --remove

help: ## this list
	@$(S)/asked.sh --help
