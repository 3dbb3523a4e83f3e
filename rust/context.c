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

/*
 * One flow of execution: a task wherever it runs, or softirq or hardirq of a
 * CPU. Addresses of tasks are aligned, so the two kinds do not meet.
 */
u64 ww_context_id(void)
{
	unsigned int context = ww_context();

	return context == WW_CONTEXT_TASK ? (unsigned long)current :
	       (u64)raw_smp_processor_id() << 2 | context;
}
