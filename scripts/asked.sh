#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Usage: asked.sh [NAME=VALUE]... -- [VERB]...
#        asked.sh --help
#
# What make is asked for, looked at before anything is done: a verb or a variable that there is not, one
# that the verb does not take, or a value that it can't have, is one line on stdout and exit status 1. It
# needs nothing that `make setup` installs. The verbs, what they take and what that is by default are in the
# Makefile; --help prints them. What a variable may be is below; where a script has a list of its own, the
# list is read there. Values of the environment are looked at, too, if the verb takes them.

# shellcheck source=common.sh
. "$(dirname "$0")/common.sh"

MAKEFILE=$WW_ROOT/Makefile

# NAME KIND and what it is. Kinds:
#   kernel, proposals, variant  names of directories and files here
#   number LEAST..MOST           a whole number; without MOST, of at most six digits
#   memory                       3G, 512M
#   flag                         1 or nothing
#   listed                       what a script says there is: NAME=$NAME: there are ...
#   directory, file              which has to be there
#   text                         whoever takes it looks at it
VARIABLES='
KERNEL          kernel    which kernel: stock, broken, fixed, debian (as it was installed), or a directory of patches/SERIES; of victims several, with commas between
SERIES          text      of which version: 6.12, or 7.3, which the backports of Debian 13 have
CONFIG_VARIANT  variant   what more the configuration of the kernel has
CONFIG          file      a configuration of your own, to which only what the lab needs is added
ALSO            text      other series, with blanks between, of which a slice is tested besides
TOOLCHAIN       text      what compiles its C: clang, or gcc
LINUX           directory a tree of 6.12 or later in place of the source package; it is only read
WAKEWATCH_CACHE text      where kernels, tools and runs are kept
DURATION        number 1..  minutes of guest time
CYCLES          number 1..  loads and unloads
BOOTS           number 1..  boots of each scenario
JOBS            number 1..16  suites with guests at a time
WITH            text      the file kernels.jsonl of other machines, with blanks between
STORIES         number 0..  stories to print, the newest first
CPUS            number 1..  CPUs of the guest
BUSY            number 0..  threads that keep the CPUs of the host busy
BESIDE          listed    what else the guest does
FORM            listed    the file system
DELAY           text      a delay, in the words of the amplify file (docs/reference.md)
MEMORY          memory    of the guest
PROG            file      a program of yours: C source
SCRIPT          file      or a script
CMD             text      or words for bash
ROUNDS          number 1..  how often it runs, in place of DURATION
DISK            listed    what the file system is on
KNOBS           text      words of the config file (docs/reference.md)
FINDS           text      a regular expression: what it does not match is no finding
BISECT          flag      exit status as git bisect run wants it (of scripts/run.sh)
XFSTESTS        directory a built tree of xfstests
TESTS           text      sets of tests, or names: docs/xfstests.md
WAKEWATCH       switch    0: the same without it
LIMIT           number 1..  seconds for one test, or for one round
MINUTES         number 1..  minutes for all tests
EXCLUDE         file      tests that are left out, each with its reason
A               text      a run, by its folder or its name
B               text      the other one
SHARD           text      a part of all tests, 2/8: each eighth of them, from the second on
RUNS            text      the runs of all parts, by their folders or their names
ONLY            names     some of them, with commas between
PART            listed    only this part
FRESH           flag      measure again what was measured before
KDIR            directory a kernel to build against: its build directory, or its headers
RELEASE         text      a kernel that is installed, as uname -r says it
'
# What all verbs take.
EVERYWHERE='CONFIG_VARIANT SERIES TOOLCHAIN CONFIG LINUX WAKEWATCH_CACHE'

# Other words for what there is, for who has one of them in mind.
ALIASES='
KERNEL   regress=broken fix=fixed vanilla=stock mainline=stock distribution=debian
FORM     ext4=4k ext3=nojournal journal=data-journal
BESIDE   none=nothing rt=realtime irq=interrupts
'

# ---------------------------------------------------------------- the Makefile

# verbs: VERB, a tab, what the Makefile says of it; groups are lines that begin with a tab.
verbs() {
	sed -n -e 's/^##@ \(.*\)/\t\1/p' -e 's/^\([a-z][a-z-]*\):[^#]*## \(.*\)/\1\t\2/p' "$MAKEFILE"
}

# takes VERB: the words in brackets of what the Makefile says of it, one a line: NAME=DEFAULT, or
# NAME=(VALUE|VALUE) for what it is not unless somebody says so, and nothing else then.
takes() {
	verbs | awk -F'\t' -v verb="$1" '$1 == verb { print $2 }' | sed -n 's/.*\[\(.*\)\]$/\1/p' |
		grep -oE "[A-Z_]+=('[^']*'|[^ ]*)" | tr -d "'" || true
}

# default NAME VERB...
default() {
	local name=$1 verb
	shift
	for verb in "$@"; do takes "$verb" | sed -n "s/^$name=\([^(].*\)/\1/p"; done | head -n 1
}

kind() { # NAME
	awk -v name="$1" '$1 == name { print $2 == "number" ? "number " $3 : $2 }' <<<"$VARIABLES"
}

# ---------------------------------------------------------------- what there is

# listed NAME: out of what a script says when it is given something else.
listed() {
	# shellcheck disable=SC2016  # as it stands there
	sed -n "s/.*die \"$1=\$$1: there are \(.*\)\".*/\1/p" "$WW_ROOT"/scripts/*.sh | head -n 1 | sed 's/\$more//;s/,/ /g;s/ and / /g' | xargs
}

# more_forms VERB...: those that only its script takes.
more_forms() {
	local verb
	for verb in "$@"; do
		[[ ! -f $WW_ROOT/scripts/$verb.sh ]] || sed -n 's/^check_form //p' "$WW_ROOT/scripts/$verb.sh"
	done
}

victim_names() {
	sed -n '/^all="/,/"$/p' "$WW_ROOT/tests/guest/victims.sh" | sed 's/^all=//' | tr -d '"' | xargs
}

# values NAME VERB...: what it may be, if that is a list.
values() {
	local name=$1 verb own
	shift
	for verb in "$@"; do
		own=$(takes "$verb" | sed -n "s/^$name=(\(.*\))$/\1/p")
		[[ -z $own ]] || {
			tr '|' ' ' <<<"$own"
			return
		}
	done
	case $(kind "$name") in
	kernel) "$WW_ROOT/scripts/kernel.sh" --keys ;;
	variant)
		# Of `make victims` none is one, too: its own is another.
		(cd "$WW_ROOT/tests/config" && printf '%s ' *.fragment) | sed 's/\.fragment//g'
		[[ $# != 0 && " $* " != *' victims '* ]] || echo none
		;;
	listed)
		listed "$name"
		[[ $name != FORM ]] || more_forms "$@"
		;;
	names) case " $* " in *' victims '*) victim_names ;; *) "$WW_ROOT/scripts/kernel.sh" --keys ;; esac ;;
	flag) echo 1 ;;
	switch) echo 0 1 ;;
	esac
}

# nearest WORD CANDIDATE...: the one with the fewest letters that are wrong, missing, too many or changed
# over; of OTHER=CANDIDATE, CANDIDATE if OTHER is it. With WW_CLOSE=1 nothing, if more than half of WORD is wrong.
nearest() {
	local word=$1
	shift
	printf '%s\n' "$@" | awk -v word="${word,,}" -v limited="${WW_CLOSE:-}" '
	function distance(a, b,   i, j, cost, best, d) {
		for (i = 0; i <= length(a); i++) d[i, 0] = i
		for (j = 0; j <= length(b); j++) d[0, j] = j
		for (i = 1; i <= length(a); i++)
			for (j = 1; j <= length(b); j++) {
				cost = substr(a, i, 1) != substr(b, j, 1)
				best = d[i - 1, j - 1] + cost
				if (d[i - 1, j] + 1 < best) best = d[i - 1, j] + 1
				if (d[i, j - 1] + 1 < best) best = d[i, j - 1] + 1
				if (i > 1 && j > 1 && substr(a, i, 1) == substr(b, j - 1, 1) &&
				    substr(a, i - 1, 1) == substr(b, j, 1) && d[i - 2, j - 2] + 1 < best)
					best = d[i - 2, j - 2] + 1
				d[i, j] = best
			}
		return d[length(a), length(b)]
	}
	NF {
		n = split($0, said, "=")
		far = distance(word, tolower(said[1]))
		if (!found || far < least) { found = 1; least = far; answer = said[n] }
	}
	END { if (found && !(limited && 2 * least > length(word))) print answer }'
}

# ---------------------------------------------------------------- what is asked for

# aliases NAME LIST: those for what is in LIST.
aliases() {
	local pair pairs
	read -r -a pairs < <(sed -n "s/^$1  *//p" <<<"$ALIASES") || true
	for pair in "${pairs[@]}"; do
		[[ " $2 " != *" ${pair#*=} "* ]] || echo "$pair"
	done
}

refuse() {
	printf '%s\n' "$*"
	exit 1
}

join() { paste -sd , | sed 's/,/, /g'; }

check_verbs() { # VERB...
	local verb known near
	known=$(verbs | cut -f1 | sed '/^$/d')
	for verb in "$@"; do
		grep -qxF -- "$verb" <<<"$known" && continue
		# shellcheck disable=SC2086  # words
		near=$(nearest "$verb" $known)
		refuse "there is no verb $verb; the nearest is $near (make help)"
	done
}

# check_name NAME VERB...
check_name() {
	local name=$1 near known taken
	shift
	known=$(awk 'NF { print $1 }' <<<"$VARIABLES")
	taken=$({
		for verb in "$@"; do takes "$verb"; done
	} | cut -d= -f1 | sort -u)
	if ! grep -qxF -- "$name" <<<"$known"; then
		# shellcheck disable=SC2086
		near=$(WW_CLOSE=1 nearest "$name" $known)
		refuse "there is no variable $name${near:+; the nearest is $near} (make help)"
	fi
	# Without a verb it is the help that is asked for.
	if [[ $# == 0 || " $EVERYWHERE " == *" $name "* ]] || grep -qxF -- "$name" <<<"$taken"; then return; fi
	refuse "$* takes no $name; it takes $(printf '%s\n' "$taken" "$EVERYWHERE" | tr ' ' '\n' | sed '/^$/d' | join)"
}

check_value() { # NAME VALUE VERB...
	local name=$1 value=$2 list word least most near words
	shift 2
	[[ -n $value ]] || return 0
	list=$(values "$name" "$@" | xargs)
	case $(kind "$name") in
	number*)
		least=$(kind "$name" | cut -d' ' -f2)
		most=${least#*..}
		least=${least%..*}
		most=${most:-999999}
		if [[ ! $value =~ ^[0-9]{1,6}$ ]] || ((10#$value < least || 10#$value > most)); then
			near=${value%%[!0-9]*}
			[[ ${#near} -gt 0 && ${#near} -le 6 ]] || near=$(default "$name" "$@")
			near=$((10#${near:-0}))
			((near >= least)) || near=$least
			((near <= most)) || near=$most
			refuse "$name=$value: a whole number from $least to $most is wanted; the nearest is $name=$near"
		fi
		;;
	memory)
		[[ $value =~ ^[0-9]{1,6}[GM]?$ ]] && return
		near=$(sed -n 's/^\([0-9]\{1,6\}\) *\([GMgm]\).*/\1\2/p' <<<"$value")
		near=${near^^}
		refuse "$name=$value: no amount of memory; the nearest is $name=${near:-$(default "$name" "$@")}"
		;;
	directory) [[ -d $value ]] || refuse "$name=$value: no such directory" ;;
	file) [[ -f $value ]] || refuse "$name=$value: no such file" ;;
	kernel | variant | listed | flag | switch | names)
		words=$value
		# Of kernels `make victims` takes several, too.
		if [[ $(kind "$name") == names || ($name == KERNEL && " $* " == *' victims '*) ]]; then words=${value//,/ }; fi
		for word in $words; do
			[[ " $list " != *" $word "* ]] || continue
			# shellcheck disable=SC2046,SC2086
			near=$(nearest "$word" $list $(aliases "$name" "$list"))
			if ((${#list} > 90)); then list=; fi
			refuse "$name=$value: there is no $word; the nearest is ${near}${list:+ (there are $(tr ' ' '\n' <<<"$list" | join))}"
		done
		;;
	esac
}

asked() {
	local said=() goals=() pair name
	while (($#)) && [[ $1 != -- ]]; do
		said+=("$1")
		shift
	done
	shift
	goals=("$@")
	check_verbs "${goals[@]}"
	for pair in "${said[@]}"; do check_name "${pair%%=*}" "${goals[@]}"; done
	for pair in "${said[@]}"; do check_value "${pair%%=*}" "${pair#*=}" "${goals[@]}"; done
	while read -r name; do
		printf '%s\n' "${said[@]%%=*}" | grep -qxF -- "$name" || check_value "$name" "${!name:-}" "${goals[@]}"
	done < <({
		for name in "${goals[@]}"; do takes "$name"; done
		echo CONFIG_VARIANT= LINUX= | tr ' ' '\n'
	} | cut -d= -f1 | sort -u)
}

# ---------------------------------------------------------------- help

help() {
	local verb text name kind
	echo 'usage: make VERB [NAME=value]...'
	while IFS= read -r verb; do
		text=${verb#*$'\t'}
		verb=${verb%%$'\t'*}
		if [[ -z $verb ]]; then
			printf '\n%s\n' "$text"
			continue
		fi
		printf '  %-17s %s\n' "$verb" "${text%% \[*}"
		[[ $text != *\[* ]] || printf '  %-17s   %s\n' '' "$(sed 's/.*\[//;s/\]$//' <<<"$text")"
	done < <(verbs)
	printf '\nNAME= is nothing until you say it, and NAME=(A|B) one of these or nothing. All verbs take %s.\n' \
		"$(tr ' ' '\n' <<<"$EVERYWHERE" | join)"
	while read -r name kind text; do
		[[ -n $name ]] || continue
		[[ $kind != number ]] || read -r _ text <<<"$text"
		[[ $kind != listed && $kind != variant ]] || text+=": $(values "$name" | tr ' ' '\n' | join)"
		printf '  %-17s %s\n' "$name" "$text"
	done <<<"$VARIABLES"
}

case ${1:-} in
--help) help ;;
*) asked "$@" ;;
esac
