// SPDX-License-Identifier: GPL-2.0
/* On CPU 0, wake-ups for PG_locked of one file's pages come 20 ms late. */
#include <linux/delay.h>
#include <linux/kprobes.h>
#include <linux/module.h>
#include <linux/pagemap.h>

static unsigned long ino;
module_param(ino, ulong, 0);

static int late(struct kprobe *p, struct pt_regs *regs)
{
	struct address_space *m = folio_mapping((struct folio *)regs->di);

	if (regs->si == PG_locked && m && m->host->i_ino == ino && !smp_processor_id())
		mdelay(20);
	return 0;
}

static struct kprobe probe = { .symbol_name = "folio_wake_bit", .pre_handler = late };

static int __init delay_init(void)
{
	return register_kprobe(&probe);
}

static void __exit delay_exit(void)
{
	unregister_kprobe(&probe);
}

module_init(delay_init);
module_exit(delay_exit);
MODULE_LICENSE("GPL");
