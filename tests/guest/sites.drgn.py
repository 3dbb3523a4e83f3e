# SPDX-License-Identifier: GPL-2.0
"""
What is at the places that wakewatch hooks, on the running kernel: `drgn -s VMLINUX sites.drgn.py`.

A function's entry is a nop of five bytes, or a call (arch/x86/kernel/ftrace.c, 6.12). A tracepoint costs a nop
as long as its static key is off. Writes to `enable`, and leaves it on.
"""

import sys

ENABLE = "/sys/kernel/debug/wakewatch/enable"
# And what the kernel makes of it where nobody calls indirectly (gen_endbr_poison(), arch/x86/include/asm/ibt.h).
ENDBR64 = bytes.fromhex("f30f1efa")
SEALED = bytes.fromhex("660f1f00")
NOP = bytes.fromhex("0f1f440000")
CALL = 0xE8
FUNCTIONS = [
    "__folio_end_writeback",
    "__folio_start_writeback",
    "__wake_up_locked_key",
    "folio_end_private_2",
    "folio_end_read",
    "folio_wake_bit",
    "wake_page_function",
]
TRACEPOINTS = ["mm_page_alloc", "mm_page_free"]


def entry(name):
    code = prog.read(prog.symbol(name).address, len(ENDBR64) + len(NOP))
    return code.removeprefix(ENDBR64).removeprefix(SEALED)[: len(NOP)]


def users(name):
    key = prog[f"__tracepoint_{name}"].key
    # A struct static_key_false since 6.15.
    return getattr(key, "key", key).enabled.counter.value_()


def switch(on):
    with open(ENABLE, "w") as file:
        file.write("1" if on else "0")


def look():
    return [entry(name) for name in FUNCTIONS], [users(name) for name in TRACEPOINTS]


switch(True)
calls, on = look()
switch(False)
nops, off = look()
switch(True)

right = True
for name, call, nop in zip(FUNCTIONS, calls, nops):
    print(f"{name}: on {call.hex(' ')}, off {nop.hex(' ')}")
    right &= call[0] == CALL and nop == NOP
for name, some, none in zip(TRACEPOINTS, on, off):
    print(f"tracepoint {name}: on {some}, off {none}")
    right &= some > 0 and none == 0
sys.exit(not right)
