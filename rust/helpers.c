// SPDX-License-Identifier: GPL-2.0
/*
 * The kernel's inline functions and macros that Rust cannot call. Short: what
 * differs between versions is decided here, and nothing else.
 */
#include <linux/debugfs.h>
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/percpu.h>
#include <linux/preempt.h>
#include <linux/sched.h>
#include <linux/sched/clock.h>
#include <linux/version.h>

#include "bindings_helper.h"

static_assert(WW_WQ_FLAG_EXCLUSIVE == WQ_FLAG_EXCLUSIVE);
static_assert(WW_WQ_FLAG_CUSTOM == WQ_FLAG_CUSTOM);

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 12, 0)
#error "wakewatch needs Linux 6.12 or later: earlier Rust bindings lack what it builds on"
#endif

/*
 * folio_mapcount() of a large folio. That one asserts that it is one, and a page
 * that nobody holds may have become something else.
 */
int ww_folio_large_mapcount(const struct folio *folio)
{
	return atomic_read(&folio->_large_mapcount) + 1;
}

/* What free_pages_prepare() clears. */
bool ww_flags_left(unsigned long flags)
{
	return flags & PAGE_FLAGS_CHECK_AT_PREP;
}

bool ww_page_buddy(const struct page *page)
{
	return PageBuddy(page);
}

unsigned long ww_page_to_pfn(const struct page *page)
{
	return page_to_pfn(page);
}

unsigned int ww_smp_processor_id(void)
{
	return raw_smp_processor_id();
}

/*
 * Per-CPU pointers are of an address space of their own where gcc built the
 * kernel, and no cast leads there but by a number.
 */
void *ww_alloc_percpu(size_t size, size_t align)
{
	return (void *)(__force unsigned long)__alloc_percpu(size, align);
}

void *ww_this_cpu_ptr(void *percpu)
{
	return this_cpu_ptr((void __percpu *)(__force unsigned long)percpu);
}

void *ww_per_cpu_ptr(void *percpu, unsigned int cpu)
{
	return per_cpu_ptr((void __percpu *)(__force unsigned long)percpu, cpu);
}

bool ww_cpu_possible(unsigned int cpu)
{
	return cpu_possible(cpu);
}

void ww_init_irq_work(struct irq_work *work, void (*func)(struct irq_work *))
{
	init_irq_work(work, func);
}

void ww_init_delayed_work(struct delayed_work *work, void (*func)(struct work_struct *))
{
	INIT_DELAYED_WORK(work, func);
}

void ww_schedule_delayed_work(struct delayed_work *work, unsigned int ms)
{
	schedule_delayed_work(work, msecs_to_jiffies(ms));
}

/* As a warning does, so that who looks for those finds this. */
void ww_taint(void)
{
	add_taint(TAINT_WARN, LOCKDEP_STILL_OK);
}

/* A waiter of a page bit, as wake_page_function() (mm/filemap.c, 6.12) is given it. */
struct folio *ww_waiter_folio(struct wait_queue_entry *wait, int *bit_nr)
{
	struct wait_page_queue *waiter = container_of(wait, struct wait_page_queue, wait);

	*bit_nr = waiter->bit_nr;
	return waiter->folio;
}

/* What folio_wake_bit() (mm/filemap.c, 6.12) has its waiters woken with. */
struct folio *ww_key_folio(const void *wait_page_key, int *bit_nr)
{
	const struct wait_page_key *key = wait_page_key;

	*bit_nr = key->bit_nr;
	return key->folio;
}

/* A place of one's own for a kprobe. */
noinline void ww_nobody_calls(void)
{
}

/* -EOPNOTSUPP if this kernel has none. */
int ww_register_fprobe(struct fprobe *fprobe, const char *symbol)
{
	const char *symbols[] = { symbol };

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 14, 0)
	/* Of calls that are inside the function: a task may be preempted there, and others come. */
	fprobe->nr_maxactive = 16 * num_possible_cpus();
#endif
	return register_fprobe_syms(fprobe, symbols, 1);
}

/* May sleep. Handlers run with preemption disabled, those of returns outside of what ftrace waits for. */
void ww_unregister_fprobe(struct fprobe *fprobe)
{
	unregister_fprobe(fprobe);
	synchronize_rcu();
}

/* A macro since 6.14. */
struct dentry *ww_debugfs_create_file(const char *name, umode_t mode, struct dentry *parent,
				      void *data, const struct file_operations *fops)
{
	return debugfs_create_file(name, mode, parent, data, fops);
}

/* For handlers of tracepoints, which can be preempted since 7.0. */
void ww_preempt_disable(void)
{
	preempt_disable_notrace();
}

void ww_preempt_enable(void)
{
	preempt_enable_notrace();
}

void ww_tracepoint_synchronize_unregister(void)
{
	tracepoint_synchronize_unregister();
}
