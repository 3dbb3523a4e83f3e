// SPDX-License-Identifier: GPL-2.0
/*
 * For a test: a kprobe that is an int3, since it is not at a function's entry,
 * hit in a task and in a hardirq. Its handler is an NMI; ww_context() has to
 * tell what it is in.
 */
#include <linux/irq_work.h>
#include <linux/kprobes.h>
#include <linux/objtool.h>

#include "bindings_helper.h"

static unsigned int seen, nmis;

static int hit(struct kprobe *probe, struct pt_regs *regs)
{
	seen = ww_context();
	nmis += !!in_nmi();
	return 0;
}

static noinline void target(struct irq_work *work)
{
	asm volatile(ANNOTATE_NOENDBR
		     "\n.globl ww_int3_here\nww_int3_here: nop\n" ::: "memory");
}

extern char ww_int3_here[];

/* 0 if it is told right in both; the number of hits that were NMIs in @in_nmi. */
int ww_int3_contexts(unsigned int *in_nmi)
{
	struct kprobe probe = { .addr = (kprobe_opcode_t *)ww_int3_here, .pre_handler = hit };
	struct irq_work work;
	int err = register_kprobe(&probe);

	if (err)
		return err;
	seen = nmis = 0;
	target(NULL);
	if (seen != WW_CONTEXT_TASK)
		err = -EINVAL;
	init_irq_work(&work, target);
	irq_work_queue(&work);
	irq_work_sync(&work);
	if (seen != WW_CONTEXT_HARDIRQ)
		err = -ERANGE;
	unregister_kprobe(&probe);
	*in_nmi = nmis;
	return err;
}
