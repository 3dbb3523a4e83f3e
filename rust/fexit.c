// SPDX-License-Identifier: GPL-2.0
/*
 * For a test: traces a function as an fexit program of BPF does, with a
 * trampoline that calls the function's body and returns to the function's
 * caller. insmod wakewatch_fexit.ko function=NAME
 */
#include <linux/ftrace.h>
#include <linux/kprobes.h>
#include <linux/linkage.h>
#include <linux/module.h>
#include <linux/objtool.h>
#include <linux/rcupdate.h>
#include <asm/nospec-branch.h>

static char *function = "folio_end_read";
module_param(function, charp, 0);
MODULE_PARM_DESC(function, "what to trace");

/* Calls that were traced. Written by the trampoline. */
int ww_fexit_hits;
module_param_named(hits, ww_fexit_hits, int, 0400);
MODULE_PARM_DESC(hits, "how often that was called");

extern void ww_fexit_trampoline(void *);

/*
 * As BPF's (arch/x86/net/bpf_jit_comp.c): ftrace calls it at the function's
 * entry, so that it finds the function's body above its frame, and the caller
 * above that.
 */
asm (
"	.pushsection	.text, \"ax\", @progbits\n"
"	" ASM_FUNC_ALIGN "\n"
"	.type		ww_fexit_trampoline, @function\n"
"	.globl		ww_fexit_trampoline\n"
"ww_fexit_trampoline:\n"
	ANNOTATE_NOENDBR
"	pushq	%rbp\n"
"	movq	%rsp, %rbp\n"
"	subq	$32, %rsp\n"
"	lock incl ww_fexit_hits(%rip)\n"
	ANNOTATE_RETPOLINE_SAFE
"	call	*8(%rbp)\n"
"	leave\n"
"	addq	$8, %rsp\n"
	UNWIND_HINT_FUNC
	ASM_RET
"	.size		ww_fexit_trampoline, .-ww_fexit_trampoline\n"
"	.popsection\n"
);

static struct ftrace_ops direct;

static int __init fexit_init(void)
{
	struct kprobe probe = { .symbol_name = function };
	unsigned long address;
	int err = register_kprobe(&probe);

	if (err)
		return err;
	address = (unsigned long)probe.addr;
	unregister_kprobe(&probe);
	err = ftrace_set_filter_ip(&direct, address, 0, 0);
	if (!err)
		err = register_ftrace_direct(&direct, (unsigned long)ww_fexit_trampoline);
	if (err)
		ftrace_free_filter(&direct);
	return err;
}
module_init(fexit_init);

static void __exit fexit_exit(void)
{
	unregister_ftrace_direct(&direct, (unsigned long)ww_fexit_trampoline, true);
	/* Whoever is in the trampoline may have been preempted there. */
	synchronize_rcu_tasks();
}
module_exit(fexit_exit);

MODULE_DESCRIPTION("Traces a function as an fexit program does, for a test");
MODULE_LICENSE("GPL");
