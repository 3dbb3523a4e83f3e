// SPDX-License-Identifier: GPL-2.0
/*
 * Return addresses on the current stack, by the kernel's own unwinder. In C
 * because its state and half of its functions are inline.
 *
 * A return probe (a kretprobe, or an fprobe before 6.14: both are rethooks) and
 * the function graph tracer replace a return address on the stack by that of a
 * trampoline, and keep what they have found there in a list of the task's. The
 * unwinder knows both lists. What it does not follow is a place that was
 * replaced by the graph tracer first and by a rethook then: a function that
 * jumps to the next one as its last act leaves it the same place on the stack,
 * and either may be traced by either.
 */
#include <linux/sched.h>
#include <asm/unwind.h>

#include "bindings_helper.h"

#ifdef CONFIG_UNWINDER_ORC
/* A place is replaced at most twice for each function of a chain of jumps. */
#define MOST_LAYERS	32

/*
 * The return address at @slot of the current stack, whatever tracers have put
 * there; @rethook and @graph are their trampolines. 0 if it can't be told.
 *
 * The unwinder is told that a function begins with its return address there,
 * which it looks up then. As long as the answer is a trampoline, it is asked
 * what was under that: for as long as it looks, the place has to hold the
 * question. Nobody returns by it meanwhile, since this is the stack of what
 * runs here, and preemption is off; an interrupt that looks at the stack finds
 * one or the other, and both lead to the same address.
 */
unsigned long ww_return_address(unsigned long slot, unsigned long rethook, unsigned long graph)
{
	struct pt_regs regs = {
		.ip = (unsigned long)ww_return_address,
		.sp = slot,
		.cs = __KERNEL_CS,
	};
	unsigned long there = READ_ONCE(*(unsigned long *)slot);
	struct unwind_state state;
	int layers;

	unwind_start(&state, current, &regs, NULL);
	for (layers = 0; layers < MOST_LAYERS && !unwind_done(&state); layers++) {
		if (state.ip != rethook && state.ip != graph)
			break;
		WRITE_ONCE(*(unsigned long *)slot, state.ip);
		/* Its places in the two lists stay where they are: on with what is older. */
		state.ip = regs.ip;
		state.sp = slot;
		state.signal = true;
		unwind_next_frame(&state);
	}
	WRITE_ONCE(*(unsigned long *)slot, there);
	if (unwind_done(&state) || state.ip == rethook || state.ip == graph)
		return 0;
	return state.ip;
}

/*
 * Where the return addresses of the next @n frames are, for a function at
 * its entry that returns to @ip: first that of the function which @ip
 * is in. Returns how many there are.
 */
unsigned int ww_return_slots(const struct ww_entry *entry, unsigned long ip,
			     unsigned long *slots, unsigned int n)
{
	/* As if it had returned. */
	struct pt_regs regs = {
		.ip = ip,
		.sp = entry->sp + sizeof(long),
		.bp = entry->bp,
		.cs = __KERNEL_CS,
	};
	struct unwind_state state;
	unsigned int i;

	unwind_start(&state, current, &regs, NULL);
	for (i = 0; i < n && !unwind_done(&state); i++) {
		slots[i] = state.sp - sizeof(long);
		unwind_next_frame(&state);
	}
	return i;
}
#else
unsigned long ww_return_address(unsigned long slot, unsigned long rethook, unsigned long graph)
{
	unsigned long there = READ_ONCE(*(unsigned long *)slot);

	return there == rethook || there == graph ? 0 : there;
}

unsigned int ww_return_slots(const struct ww_entry *entry, unsigned long ip,
			     unsigned long *slots, unsigned int n)
{
	return 0;
}
#endif
