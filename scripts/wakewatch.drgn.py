#!/usr/bin/env drgn
# SPDX-License-Identifier: GPL-2.0
"""
What wakewatch knows, from a memory dump or a live kernel:

    drgn -c VMCORE -s VMLINUX -s WAKEWATCH.KO wakewatch.drgn.py [FILE...]
    drgn -s VMLINUX -s WAKEWATCH.KO wakewatch.drgn.py [FILE...]

FILE is one of the module's files in debugfs, `stats', `reports', `callers' or `windows', and says
what that would; or `open', the windows that are open. Without one, all of them.
"""

# drgn (0.3) has no Rust. But paths and generics of Rust read like those of C++, so types are looked
# up in that language, and their members are then found like any others. Not so for enums with
# values: of those that are needed here, the module fixes the representation (`Trace', `Site'), or it
# has none (`Maybe' in place of `Option').

import argparse
import bisect
import itertools
import re
import sys

import drgn
from drgn import FaultError, Language, Object, TypeKind, cast, sizeof
from drgn.helpers.linux.cpumask import for_each_possible_cpu
from drgn.helpers.linux.kallsyms import load_vmlinux_kallsyms, module_kallsyms
from drgn.helpers.linux.mm import pfn_to_page
from drgn.helpers.linux.module import for_each_module
from drgn.helpers.linux.percpu import per_cpu_ptr
from drgn.helpers.linux.pid import for_each_task

prog = drgn.get_default_prog()

# ---------------------------------------------------------------- Rust


def rust(path):
    """A type of the module's, by its path in the crate."""
    before = prog.language
    prog.language = Language.CPP
    try:
        return prog.type(f"wakewatch_main::{path}")
    finally:
        prog.language = before


def size(member):
    try:
        return sizeof(member.type)
    except ValueError:  # Rust's (), an integer of no bits
        return 0


def peel(obj):
    """What is in Rust's wrappers: atomics, cells, NonNull, Pin, and other structs of one member."""
    while obj.type_.kind in (TypeKind.STRUCT, TypeKind.UNION):
        members = [member for member in obj.type_.members if size(member)]
        if len(members) != 1:
            break
        obj = obj.member_(members[0].name)
    return obj


def num(obj):
    """The number in an atomic, for instance."""
    return peel(obj).value_()


def arc(obj):
    """What an Arc points at."""
    return peel(obj).data


def at(path, address):
    return Object(prog, rust(path), address=address)


def maybe(obj):
    """The value of a Maybe, or None."""
    return obj.value if obj.there.value_() else None


def snake(name):
    """EndWriteback, the name of a variant, as end_writeback."""
    return re.sub(r"(?<=[a-z])(?=[A-Z0-9])", "_", name).lower()


def variants(path):
    """The names of an enum's variants by discriminant."""
    return {value: name for name, value in rust(path).enumerators}


# ---------------------------------------------------------------- how the kernel prints


class Symbols:
    """The kernel's own table: %pS and %ps say how far it is to the next symbol, not ELF's sizes."""

    def __init__(self):
        names = {}
        for symbol in load_vmlinux_kallsyms(prog)(prog, None, None, False):
            # Of several at one address, the first of the table.
            names.setdefault(symbol.address, symbol.name)
        self.kernel = sorted(names.items())
        self.bounds = [prog.symbol(name).address for name in ("_stext", "_end")]
        # (start, length, module) of the memory of each.
        self.memory = [
            (mem.base.value_(), mem.size.value_(), module)
            for module in for_each_module(prog)
            for mem in module.mem
        ]
        self.modules = {}

    def lookup(self, addr):
        """(name, offset, size, module) or None."""
        if self.bounds[0] <= addr < self.bounds[1]:
            return self._find(self.kernel, addr, self.bounds[1], "")
        for start, length, module in self.memory:
            if start <= addr < start + length:
                table = self._table(module, start, length)
                return self._find(table, addr, start + length, module.name.string_().decode())
        return None

    def _table(self, module, start, length):
        if start not in self.modules:
            names = {}  # by address
            for symbol in module_kallsyms(module):
                # As is_mapping_symbol() of include/linux/module_symbol.h has it.
                mapping = symbol.name.startswith((".L", "L0", "$"))
                if start <= symbol.address < start + length and not mapping:
                    names.setdefault(symbol.address, symbol.name)
            self.modules[start] = sorted(names.items())
        return self.modules[start]

    @staticmethod
    def _find(table, addr, end, module):
        next_one = bisect.bisect_right(table, (addr, "\U0010ffff"))
        if next_one == 0:
            return None
        start, name = table[next_one - 1]
        if next_one < len(table):
            end = table[next_one][0]
        return name, addr - start, end - start, module

    def name(self, addr, offset=False):
        """%ps, or with the offset %pS."""
        found = self.lookup(addr)
        if found is None:
            return f"{addr:#x}"
        name, distance, size, module = found
        if offset:
            name += f"+{distance:#x}/{size:#x}"
        return f"{name} [{module}]" if module else name


def hashed(addr):
    """%p: lib/vsprintf.c and include/linux/siphash.h of 6.12."""
    mask = (1 << 64) - 1
    if prog["no_hash_pointers"]:
        return f"{addr:016x}"

    def rotl(value, bits):
        return (value << bits | value >> (64 - bits)) & mask

    key = prog["ptr_key"].key
    key0, key1 = key[0].value_(), key[1].value_()
    v = [
        0x736F6D6570736575 ^ key0,
        0x646F72616E646F6D ^ key1,
        0x6C7967656E657261 ^ key0,
        0x7465646279746573 ^ key1,
    ]

    def rounds(count):
        for _ in range(count):
            v[0] = (v[0] + v[1]) & mask
            v[1] = rotl(v[1], 13) ^ v[0]
            v[0] = rotl(v[0], 32)
            v[2] = (v[2] + v[3]) & mask
            v[3] = rotl(v[3], 16) ^ v[2]
            v[0] = (v[0] + v[3]) & mask
            v[3] = rotl(v[3], 21) ^ v[0]
            v[2] = (v[2] + v[1]) & mask
            v[1] = rotl(v[1], 17) ^ v[2]
            v[2] = rotl(v[2], 32)

    for word in (addr, 8 << 56):
        v[3] ^= word
        rounds(2)
        v[0] ^= word
    v[2] ^= 0xFF
    rounds(4)
    return f"{(v[0] ^ v[1] ^ v[2] ^ v[3]) & 0xffffffff:016x}"


def page_flags(flags):
    """%pGp: format_page_flags() of lib/vsprintf.c, 6.12."""
    words = []
    left = flags & ((1 << prog["__NR_PAGEFLAGS"].value_()) - 1)
    for flag in prog["pageflag_names"]:
        mask = flag.mask.value_()
        if mask and left & mask == mask:
            words.append(flag.name.string_().decode())
            left &= ~mask
    if left:
        words.append(f"{left:#x}")
    for field in prog["pff"]:
        if field.width:
            value = flags >> field.shift.value_() & field.mask.value_()
            shown = value if field.spec.base == 10 else f"{value:#x}"
            words.append(f"{field.name.string_().decode()}={shown}")
    return f"{flags:#x}({'|'.join(words)})"


def flag_name(flag):
    for name in ("PG_locked", "PG_writeback", "PG_private_2"):
        if flag == prog.constant(name).value_():
            return name
    return f"flag {flag}"


def text(comm):
    """A task's name, out of an array of bytes."""
    name = bytes(comm.value_()).split(b"\0")[0]
    try:
        return name.decode()
    except UnicodeDecodeError:
        return "?"


def milliseconds(when_ns, from_ns):
    us = abs(when_ns - from_ns) // 1000
    return f"{'-' if when_ns < from_ns else '+'}{us // 1000}.{us % 1000:03} ms"


def seconds(when_ns):
    return f"{when_ns // 1000000000}.{when_ns // 1000 % 1000000:06}"


def context_name(context):
    return {0: "task", 1: "softirq"}.get(context, "hardirq")


# ---------------------------------------------------------------- reports, as rust/story.rs has them

RULE = "=" * 66
# Bytes of a line (rust/text.rs), without the NUL.
LINE = 639
ENTRY_BYTES = 32
STORY_DEPTH = 5
# States of a slot (rust/ring.rs).
BUSY, READY, SHOWING, KEPT, LAST = 1, 2, 3, 4, 5
# Discriminants of Site (rust/report.rs) and Trace (rust/detect/note.rs).
END_OF_WRITEBACK, AFTER_CLEAR, WAKE, START, END = range(5)
NONE, UNKNOWN, KNOWN = range(3)
# In the order of Mark, with what story.rs calls them in the story and in the line for machines.
MARKS = [("freed", "freed"), ("allocated", "allocated"), ("writeback started", "started")]
# Who ends writeback or wakes for others: as in rust/story.rs, which a test holds this to.
PLUMBING = {
    "__wake_up_locked_key",
    "__folio_end_writeback",
    "__folio_start_writeback",
    "folio_end_writeback",
    "folio_end_writeback_no_dropbehind",
    "folio_wake_bit",
    "folio_unlock",
    "folio_end_read",
    "folio_end_private_2",
    "unlock_page",
    "folio_unlock_io",
    "folio_clear_locked_and_wake",
}
# How a compiler calls its clones of them that have the same arguments (rust/detect/symbol.rs).
CLONE = re.compile(r"(\.(llvm|__uniq|lto_priv)\.\d+)+$")
# What calls wakewatch's handlers.
HANDLER_PLUMBING = {
    "kprobe_ftrace_handler",
    "ftrace_ops_list_func",
    "arch_ftrace_ops_list_func",
    "ftrace_regs_call",
    "ftrace_regs_caller",
}


class Event:
    """Who did something, and when: Event of rust/detect/note.rs."""

    def __init__(self, when_ns, cpu, context, comm, pid, stack=()):
        self.when_ns = when_ns
        self.cpu = cpu
        self.context = context
        self.comm = comm
        self.pid = pid
        self.stack = stack

    def line(self, from_ns, what):
        return (
            f" {milliseconds(self.when_ns, from_ns)} {what} on CPU {self.cpu}"
            f" in {context_name(self.context)}, task {self.comm} pid {self.pid}"
        )


class Holders:
    """Who is known to hold a folio: Holders of rust/detect/holders.rs."""

    def __init__(self, holders):
        self.refcount = holders.refcount.value_()
        self.flags = holders.flags.value_()
        self.pages = holders.pages.value_()
        self.cache = self.pages * (int(holders.page_cache.value_()) + int(holders.swap_cache.value_()))
        self.mapcount = holders.mapcount.value_()
        self.private = int(holders.private.value_())
        self.spare = self.refcount - self.cache - self.mapcount - self.private

    def line(self):
        return (
            f"references {self.refcount}: cache {self.cache}, mappings {self.mapcount},"
            f" private {self.private}, spare {self.spare}"
        )


class Files:
    """The module's files."""

    def __init__(self, control, addresses):
        self.control = control
        self.addresses = addresses
        self.shared = arc(control.shared)
        self.functions = [snake(name) for _, name in sorted(variants("detect::callers::Function").items())]
        self._symbols = None

    @property
    def symbols(self):
        if self._symbols is None:
            self._symbols = Symbols()
        return self._symbols

    # ------------------------------------------------ stats

    def stats(self):
        names = sorted(variants("stats::Counter").items())
        array = prog.array_type(prog.type("u64"), len(names))
        percpu = prog.pointer_type(array)
        stats = arc(self.shared.stats)
        percpu = cast(percpu, peel(stats.percpu))
        cpus = [per_cpu_ptr(percpu, cpu)[0].read_() for cpu in for_each_possible_cpu(prog)]
        for index, name in names:
            total = sum(cpu[index].value_() for cpu in cpus) - num(stats.since[index])
            yield f"{snake(name)}: {total % (1 << 64)}"
        knobs = self.shared.knobs
        yield f"windows_always: {int(num(knobs.now) & (1 << 3 | 1 << 4) != 0)}"
        probes = self.control.probes.data.value
        hooks = {"end_writeback": probes.end}
        for name in ("wake", "past", "end_read", "private_2", "unlock", "start", "victim"):
            hooks[name] = self._hook(probes.member_(name))
        missed = {}
        by_kprobe = False
        for name, hook in hooks.items():
            way = None if hook is None else prog.read_u8(hook.way.address_)
            yield f"hook_{name}: {['direct', 'ftrace', 'kprobe', 'off'][3 if way is None else way]}"
            by_kprobe |= way == 2
            missed[name] = 0
            if hook is not None:
                missed[name] = peel(peel(hook.kprobe).object).nmissed.value_() + peel(hook.hook).hook.missed.value_()
        missed["return"] = 0
        for place, handler in ("around_clear", "AroundClear"), ("after_wake", "AfterWake"):
            returns = probes.member_(place)
            missed["return"] += returns.missed.value_()
            # A pointer that can't be null, so that None is.
            address = Object(prog, "void *", address=returns.registration.address_).value_()
            if address:
                path = f"hook::registered::Registered<wakewatch_main::hook::return_probe::Probe, wakewatch_main::probes::delays::{handler}>"
                probe = peel(at(path, address).object)
                missed["return"] += probe.fprobe.nmissed.value_()
        for name, count in missed.items():
            yield f"missed_{name}: {count}"
        yield f"kprobes_off: {int(by_kprobe and prog['kprobes_all_disarmed'].value_())}"

    @staticmethod
    def _hook(optional):
        handler = re.fullmatch(r"Optional<(.*)>", optional.type_.tag).group(1)
        hook = at(f"hook::entry::Registration<{handler}>", optional.address_)
        if sizeof(hook) != sizeof(optional):
            raise LookupError(f"{optional.type_.tag} has a discriminant of its own")
        # None has a value that one of the fields can't have: no pointer that is null, three ways and none.
        odd = prog.read_u8(hook.first.address_) > 2 or prog.read_u8(hook.way.address_) > 3
        null = any(
            Object(prog, "void *", address=pointer.address_).value_() == 0
            for pointer in (hook.kprobe, hook.hook, hook.symbol)
        )
        return None if odd or null else hook

    # ------------------------------------------------ callers, windows

    def _call_sites(self):
        """(function, caller, rows of the CPUs) of each call site there is."""
        callers = self.shared.callers
        keys = callers.sites.keys.read_()
        rows = prog.array_type(rust("detect::callers::Row"), len(keys))
        percpu = cast(prog.pointer_type(rows), peel(callers.rows))
        cpus = [per_cpu_ptr(percpu, cpu)[0].read_() for cpu in for_each_possible_cpu(prog)]
        for index, key in enumerate(keys):
            key = num(key)
            if key != 0 and key >> 60 < len(self.functions):
                yield self.functions[key >> 60], key | 0xF << 60, [cpu[index] for cpu in cpus]

    def callers(self):
        for function, caller, rows in self._call_sites():
            used = [row for row in rows if num(row.calls)]
            if used:
                none = sum(num(row.none) for row in rows)
                yield (
                    f"site={function} calls={sum(num(row.calls) for row in rows)}"
                    f" none={none}"
                    f" spare_min={(1 << 31) - 1 - max(num(row.below) for row in used)}"
                    f" spare_max={max(num(row.above) for row in used) - (1 << 31)}"
                    f" verdict={'unreferenced' if none else 'held'}"
                    f" caller={self.symbols.name(caller, True)}"
                )

    def windows(self):
        for function, caller, rows in self._call_sites():
            lengths = [sum(counts) for counts in zip(*([num(n) for n in row.lengths] for row in rows))]
            if any(lengths):
                line = f"site={function} caller={self.symbols.name(caller, True)} n={sum(lengths)}"
                yield line + "".join(f" {log}:{n}" for log, n in enumerate(lengths) if n)
        words = [word for _, word, _ in self._words()]
        found = [word for word in words if word >> 44 & 3]
        freed = [word for word in found if word >> 41 & 1]
        yield f"table open={len(found)} freed={len(freed)} room={len(words)}"

    def _words(self):
        """(word's address, word, details) of each place in the window table."""
        buckets = arc(self.shared.windows).table.buckets.member_("__0")
        count = buckets.len.value_()
        first = peel(buckets.ptr)
        table = prog.array_type(first.type_.type, count)
        # In one read: it is a table of 200 KB, and reads of a live kernel are slow.
        table = Object(prog, table, address=first.value_())
        copy = table.read_()
        for index in range(count):
            for way, word in enumerate(copy[index].words):
                yield table[index].words[way], num(word), copy[index].details[way]

    def open(self):
        flags = {value: f"PG_{snake(name)}" for value, name in variants("detect::word::Bit").items()}
        tasks = {task.value_() for task in for_each_task(prog)}
        windows = []
        for place, word, details in self._words():
            bit = word >> 44 & 3
            # A live kernel goes on: what is not the same any more is half of one, half of another.
            if bit and not word >> 40 & 1 and num(place) == word:
                windows.append((num(details.when_ns), word, flags[bit], details))
        # The table's keys are pages' addresses divided by their size: Page::key() in rust/page.rs.
        page = pfn_to_page(prog, 0)
        base = page.value_() // sizeof(page[0])
        for when_ns, word, flag, details in sorted(windows, key=lambda window: window[:2]):
            place, context = num(details.place), num(details.context)
            function = self.functions[place >> 16 & 0xFF]
            if context in tasks:
                task = Object(prog, "struct task_struct *", context)
                who = f"in task, task {text(task.comm)} pid {task.pid.value_()}"
            elif context >> 32:
                who = "in task, which is gone"
            else:
                who = f"in {context_name(context & 3)}"
            yield (
                f"window of {flag} pfn {word - base & (1 << 40) - 1:#x} site {function} at {seconds(when_ns)}"
                f" on CPU {place & 0xffff} {who}, by {self.symbols.name(num(details.caller), True)}"
            )
            for mark, (name, _) in enumerate(MARKS):
                if word >> (41 + mark) & 1:
                    event = self._note(details.notes[mark], word)
                    yield from self._trace(UNKNOWN if event is None else KNOWN, event, when_ns, name)

    @staticmethod
    def _note(note, word):
        if num(note.state) != word & ~((1 << 46) - 1) | 2:
            return None
        who = num(note.who)
        comm = b"".join(num(part).to_bytes(8, "little") for part in note.comm)
        comm = Object(prog, prog.array_type(prog.type("u8"), 16), value=list(comm))
        return Event(num(note.when_ns), who >> 16 & 0xFFFF, who & 0xFFFF, text(comm), who >> 32, [num(addr) for addr in note.stack])

    # ------------------------------------------------ reports

    def reports(self):
        slots = self.shared.reporter
        slots = arc(slots).ring.slots
        first = peel(slots.ptr)
        found = []
        for index in range(slots.len.value_()):
            slot = first[index]
            copy = slot.read_()
            state, number = num(copy.state), num(copy.number)
            if state == BUSY:
                print("wakewatch.drgn.py: a report is being written or read, and left out", file=sys.stderr)
            if state in (READY, SHOWING, KEPT, LAST) and num(slot.number) == number and num(slot.state) != BUSY:
                found.append((number, slot, copy))
        for number, slot, copy in sorted(found, key=lambda report: report[0]):
            yield from self._report(number, peel(slot.value), peel(copy.value))

    def _report(self, number, there, record):
        """`there` is where `record` has been copied from."""
        window, page_id, now = maybe(record.window), maybe(record.id), Holders(record.holders)
        flags, judged = record.judged.flags.value_(), maybe(record.judged.holders)
        holders = now if judged is None else Holders(judged)
        refcount = maybe(record.judged.refcount)
        refcount = now.refcount if refcount is None else refcount.value_()
        if window is not None:
            marks = self._marks(there.window.value.marks)
        when_ns = record.when_ns.value_()
        verdict = self._verdict(record)
        page = Object(prog, "struct page *", num(record.page))
        pfn = record.pfn.value_()
        context, comm, pid = record.context.value_(), text(record.comm), record.pid.value_()
        victims = [maybe(victim) for victim in record.victim]
        victims = [victim for victim in victims if victim is not None]
        stack = self._callers(record)
        site = Object(prog, "u32", address=there.site.address_).value_()
        waking = None
        if site in (WAKE, END):
            variant = "Wake" if site == WAKE else "End"
            waking = flag_name(at(f"report::Site::{variant}", there.site.address_).member_("__0").value_())

        yield RULE
        what = {
            END_OF_WRITEBACK: "end of writeback",
            AFTER_CLEAR: "wake of PG_writeback",
            WAKE: f"wake of {waking}",
            START: "start of writeback",
            END: f"end of {waking}",
        }[site]
        yield f"BUG: wakewatch: {verdict} {what} in {self.symbols.name(self._blamed(stack))}"
        yield ""
        addr = page.value_()
        shown = f"{addr:016x}" if self.addresses else hashed(addr)
        yield f"page {shown} pfn {pfn:#x} pages {holders.pages} refcount {refcount} mapcount {holders.mapcount}"
        yield f"flags {page_flags(flags)}"
        if verdict in ("unreferenced", "unbalanced"):
            yield holders.line()
        if judged is not None and holders.spare != now.spare:
            yield "a moment later " + now.line()
        elif refcount != now.refcount:
            yield f"a moment later refcount {now.refcount}"
        if flags != now.flags:
            yield f"a moment later flags {page_flags(now.flags)}"
        if page_id is not None:
            dev = page_id.dev.value_()
            yield (
                f"file dev {dev >> 20}:{dev & 0xfffff} ino {page_id.ino.value_()}"
                f" index {page_id.index.value_()}"
            )
        yield (
            f"report {number} at {seconds(when_ns)} on CPU {record.cpu.value_()}"
            f" in {context_name(context)}, task {comm} pid {pid}"
        )

        from_ns = when_ns
        if window is not None:
            opened = window.opened
            from_ns = opened.when_ns.value_()
            caller = self.symbols.name(opened.caller.value_(), True)
            yield "story:"
            clear = Event(from_ns, opened.cpu.value_(), context, comm, pid)
            yield clear.line(from_ns, "clear") + f", by {caller}"
            for (name, _), (state, event) in zip(MARKS, marks):
                yield from self._trace(state, event, from_ns, name)
            if verdict == "zero-ref" and record.judged.flags_left.value_() and marks[0][0] != NONE:
                yield (
                    "            not given back at the wake:"
                    " the allocator was still at it, or refuses the page as bad"
                )
            yield Event(when_ns, record.cpu.value_(), context, comm, pid).line(from_ns, "wake")
        for victim in victims:
            yield (
                f"victim task {text(victim.comm)} pid {victim.pid.value_()}"
                f" waits for {flag_name(victim.flag.value_())}"
            )
        count = record.victims.value_()
        if count > len(record.victim):
            yield f"victims {count}"
        yield "stack:"
        for frame in stack:
            yield f" {self.symbols.name(frame, True)}"

        line = (
            f"wakewatch: story verdict={verdict} pfn={pfn:#x} refcount={refcount}"
            f" at_ns={when_ns} cpu={record.cpu.value_()} pid={pid}"
        )
        if waking is not None:
            line += f" bit={waking}"
        if window is not None:
            line += f" clear_ns={from_ns} caller={caller}"
            for (_, key), (state, event) in zip(MARKS, marks):
                if state == UNKNOWN:
                    line += f" {key}=?"
                elif state == KNOWN:
                    since = max(event.when_ns - from_ns, 0)
                    line += f" {key}={since} {key}_cpu={event.cpu} {key}_pid={event.pid}"
            line += f" wake={max(when_ns - from_ns, 0)}"
        line += f" victims={count}"
        if window is not None:
            line += "".join(f" victim_pid={victim.pid.value_()}" for victim in victims)
        yield line[:LINE]
        yield RULE

    @staticmethod
    def _verdict(record):
        names = variants("detect::verdict::Verdict")
        return snake(names[record.verdict.value_()]).replace("_", "-")

    @staticmethod
    def _marks(traces):
        marks = []
        for trace in traces:
            state = Object(prog, "u32", address=trace.address_).value_()
            event = None
            if state == KNOWN:
                known = at("detect::note::Trace::Known", trace.address_).member_("__0")
                event = Event(
                    known.when_ns.value_(),
                    known.cpu.value_(),
                    known.context.value_(),
                    text(known.comm),
                    known.pid.value_(),
                    known.stack.value_(),
                )
            marks.append((state, event))
        return marks

    def _trace(self, state, event, from_ns, name):
        if state == UNKNOWN:
            yield f"            {name}, and who did it is not known"
        elif state == KNOWN:
            yield event.line(from_ns, name)
            for frame in self._stack(event.stack):
                yield f"      {self.symbols.name(frame, True)}"

    def _stack(self, addresses):
        """A stack from where the kernel calls the tracepoint or probe."""
        frames = list(itertools.takewhile(bool, addresses))
        while frames:
            name = self.symbols.name(frames[0])
            own = name.endswith("[wakewatch]") or name.startswith(("__traceiter_", "0x"))
            if not own and name not in HANDLER_PLUMBING:
                break
            frames.pop(0)
        return frames[:STORY_DEPTH]

    @staticmethod
    def _callers(record):
        """The stack without the probe's own part."""
        stack = [frame.value_() for frame in record.stack][: record.depth.value_()]
        probe_ip = record.probe_ip.value_()
        for first, frame in enumerate(stack):
            if 0 <= frame - probe_ip < ENTRY_BYTES:
                return stack[first:]
        return stack

    def _blamed(self, stack):
        for frame in stack:
            if CLONE.sub("", self.symbols.name(frame)) not in PLUMBING:
                return frame
        return stack[0] if stack else 0


# ---------------------------------------------------------------- what is asked for


def find_control():
    try:
        pointer = prog.symbol("WW_CONTROL").address
    except LookupError:
        sys.exit("wakewatch.drgn.py: wakewatch is not loaded, or its symbols are not (-s wakewatch.ko)")
    try:
        control = rust("control::Control")
    except LookupError:
        sys.exit("wakewatch.drgn.py: no debugging information for wakewatch (-s wakewatch.ko, unstripped)")
    address = prog.read_u64(pointer)
    if address == 0:
        sys.exit("wakewatch.drgn.py: wakewatch is being loaded or unloaded")
    return Object(prog, control, address=address)


def main():
    names = ["stats", "reports", "callers", "windows", "open"]
    parser = argparse.ArgumentParser(description="Prints what wakewatch knows.")
    parser.add_argument("--addresses", action="store_true", help="pages by their address, not hashed")
    parser.add_argument("file", nargs="*", metavar="FILE", help=", ".join(names) + "; all by default")
    args = parser.parse_args()
    for name in args.file:
        if name not in names:
            parser.error(f"no file `{name}': there are {', '.join(names)}")
    files = Files(find_control(), args.addresses)
    wanted = args.file or names
    for name in wanted:
        if len(wanted) > 1:
            print(f"==> {name} <==")
        try:
            for line in getattr(files, name)():
                print(line)
        except FaultError as err:
            sys.exit(f"wakewatch.drgn.py: {name}: {err} (not in the dump, or changed just now)")


main()
