// SPDX-License-Identifier: GPL-2.0
/*
 * For a test: has folio_end_read() replaced as a live patch does
 * (klp_patch_func(), kernel/livepatch/patch.c, 6.12), by a function that does
 * the same. Kernels without CONFIG_LIVEPATCH can have it, too.
 */
#include <linux/ftrace.h>
#include <linux/kprobes.h>
#include <linux/module.h>
#include <linux/page-flags.h>

/* Calls of the replacement. */
static int hits;
module_param(hits, int, 0400);
MODULE_PARM_DESC(hits, "how often the replacement was called");

static void (*wake_bit)(struct folio *folio, int bit_nr);

/*
 * folio_end_read() of mm/filemap.c, 6.12 and 7.3, but for its assertions. A
 * static function has nothing at its entry that CONFIG_CFI_CLANG could check.
 */
static void __nocfi end_read(struct folio *folio, bool success)
{
	unsigned long mask = 1 << PG_locked;

	/* Rare enough: it is asked whether there were any. */
	WRITE_ONCE(hits, READ_ONCE(hits) + 1);
	if (likely(success))
		mask |= 1 << PG_uptodate;
	if (folio_xor_flags_has_waiters(folio, mask))
		wake_bit(folio, PG_locked);
}

static void notrace go_there(unsigned long ip, unsigned long parent, struct ftrace_ops *ops,
			     struct ftrace_regs *fregs)
{
	ftrace_regs_set_instruction_pointer(fregs, (unsigned long)end_read);
}

static struct ftrace_ops ops = {
	.func = go_there,
	.flags = FTRACE_OPS_FL_IPMODIFY | FTRACE_OPS_FL_DYNAMIC,
};

/* 0 if it can't be told. */
static unsigned long address_of(const char *function)
{
	struct kprobe probe = { .symbol_name = function };
	unsigned long address;

	if (register_kprobe(&probe))
		return 0;
	address = (unsigned long)probe.addr;
	unregister_kprobe(&probe);
	return address;
}

static int __init livepatch_init(void)
{
	unsigned long address = address_of("folio_end_read");
	int err;

	wake_bit = (void *)address_of("folio_wake_bit");
	if (!wake_bit || !address)
		return -ENOENT;
	err = ftrace_set_filter_ip(&ops, address, 0, 0);
	if (!err)
		err = register_ftrace_function(&ops);
	if (err)
		ftrace_free_filter(&ops);
	return err;
}
module_init(livepatch_init);

static void __exit livepatch_exit(void)
{
	unregister_ftrace_function(&ops);
	/* Whoever is in the replacement may have been preempted there. */
	synchronize_rcu_tasks();
	ftrace_free_filter(&ops);
}
module_exit(livepatch_exit);

MODULE_DESCRIPTION("Replaces folio_end_read() as a live patch does, for a test");
MODULE_LICENSE("GPL");
