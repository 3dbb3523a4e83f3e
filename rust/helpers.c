// SPDX-License-Identifier: GPL-2.0
/*
 * The kernel's inline functions and macros that Rust cannot call. One line
 * each: whoever finds a decision here has found a bug.
 */
#include <linux/mm.h>
#include <linux/percpu.h>
#include <linux/sched/clock.h>
#include <linux/version.h>

#include "bindings_helper.h"

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 12, 0)
#error "wakewatch needs Linux 6.12 or later: earlier Rust bindings lack what it builds on"
#endif

unsigned int ww_folio_nr_pages(const struct folio *folio)
{
	return folio_nr_pages(folio);
}

int ww_folio_mapcount(const struct folio *folio)
{
	return folio_mapcount(folio);
}

bool ww_folio_test_swapcache(const struct folio *folio)
{
	return folio_test_swapcache(folio);
}

/* What free_pages_prepare() clears. */
bool ww_page_flags_left(const struct page *page)
{
	return READ_ONCE(page->flags) & PAGE_FLAGS_CHECK_AT_PREP;
}

bool ww_page_buddy(const struct page *page)
{
	return PageBuddy(page);
}

unsigned long ww_page_to_pfn(const struct page *page)
{
	return page_to_pfn(page);
}

/* The clock of printk's time stamps, so that reports and oopses can be ordered. */
u64 ww_local_clock(void)
{
	return local_clock();
}

unsigned int ww_smp_processor_id(void)
{
	return raw_smp_processor_id();
}

unsigned int ww_context(void)
{
	return in_nmi() ? WW_CONTEXT_NMI :
	       in_hardirq() ? WW_CONTEXT_HARDIRQ :
	       in_serving_softirq() ? WW_CONTEXT_SOFTIRQ : WW_CONTEXT_TASK;
}

void *ww_alloc_percpu(size_t size, size_t align)
{
	return (__force void *)__alloc_percpu(size, align);
}

void *ww_this_cpu_ptr(void *percpu)
{
	return this_cpu_ptr((void __percpu *)percpu);
}

void *ww_per_cpu_ptr(void *percpu, unsigned int cpu)
{
	return per_cpu_ptr((void __percpu *)percpu, cpu);
}

bool ww_cpu_possible(unsigned int cpu)
{
	return cpu_possible(cpu);
}

void ww_init_irq_work(struct irq_work *work, void (*func)(struct irq_work *))
{
	init_irq_work(work, func);
}

void ww_init_work(struct work_struct *work, void (*func)(struct work_struct *))
{
	INIT_WORK(work, func);
}

void ww_schedule_work(struct work_struct *work)
{
	schedule_work(work);
}

struct kretprobe *ww_get_kretprobe(struct kretprobe_instance *instance)
{
	return get_kretprobe(instance);
}

void ww_tracepoint_synchronize_unregister(void)
{
	tracepoint_synchronize_unregister();
}
