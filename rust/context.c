// SPDX-License-Identifier: GPL-2.0
/* Which flow of execution this is. Linked into a test as well. */
#include <linux/preempt.h>
#include <linux/sched.h>
#include <linux/smp.h>

#include "bindings_helper.h"

/*
 * An int3 is an NMI to the kernel, and so is the handler of a kprobe that is
 * made by one (where there is no ftrace for it, and before it is optimised).
 * What counts is what the int3 has come into; nothing of what is probed runs in
 * an NMI. irqentry_nmi_enter() counts a hardirq with each.
 */
unsigned int ww_context(void)
{
	unsigned int int3s = nmi_count() / NMI_OFFSET;

	return hardirq_count() > int3s * HARDIRQ_OFFSET ? WW_CONTEXT_HARDIRQ :
	       in_serving_softirq() ? WW_CONTEXT_SOFTIRQ : WW_CONTEXT_TASK;
}

/* The same, as hooks.c has it: what it is in bits of preempt_count(), and 1. */
unsigned int ww_context_bits(void)
{
	switch (ww_context()) {
	case WW_CONTEXT_HARDIRQ:
		return HARDIRQ_OFFSET | 1;
	case WW_CONTEXT_SOFTIRQ:
		return SOFTIRQ_OFFSET | 1;
	default:
		return 1;
	}
}
