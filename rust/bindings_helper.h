/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What bindgen turns into Rust for wakewatch, and the prototypes of its C files. The names that get through are listed in Kbuild.
 */
#ifndef WAKEWATCH_BINDINGS_HELPER_H
#define WAKEWATCH_BINDINGS_HELPER_H

#include <linux/sched/clock.h>
#include <linux/debugfs.h>
#include <linux/fprobe.h>
#include <linux/fs.h>
#include <linux/ftrace.h>
#include <linux/irq_work.h>
#include <linux/kprobes.h>
#include <linux/mm.h>
#include <linux/page-flags.h>
#include <linux/pagemap.h>
#include <linux/panic_notifier.h>
#include <linux/preempt.h>
#include <linux/seq_file.h>
#include <linux/stacktrace.h>
#include <linux/tracepoint.h>
#include <linux/tracepoint-defs.h>
#include <linux/version.h>
#include <linux/wait.h>
#include <linux/workqueue.h>

#include "hooks.h"

/* trace.c */
DECLARE_TRACEPOINT(window);

/*
 * Where compat.rs finds words of a struct page. `lru` shares its first word with
 * what tells a tail from a head: `compound_head`, since 7.0 `compound_info`.
 */
enum {
	WW_AT_FLAGS	= offsetof(struct page, flags),
	WW_AT_HEAD	= offsetof(struct page, lru),
	WW_AT_MAPCOUNT	= offsetof(struct page, _mapcount),
	WW_AT_MAPPING	= offsetof(struct folio, mapping),
	WW_AT_INDEX	= offsetof(struct folio, index),
};

#if defined(CONFIG_X86_64) && defined(CONFIG_SMP)
/*
 * What percpu.rs reads `current` and the number of the CPU from, too short to be
 * called (arch/x86/include/asm/current.h, smp.h): since 6.15 variables of their own.
 */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 15, 0)
extern const char ww_hot_current __asm__("pcpu_hot");
extern const char ww_hot_cpu __asm__("pcpu_hot");
enum {
	WW_AT_CURRENT	= offsetof(struct pcpu_hot, current_task),
	WW_AT_CPU	= offsetof(struct pcpu_hot, cpu_number),
};
#else
extern const char ww_hot_current __asm__("current_task");
extern const char ww_hot_cpu __asm__("cpu_number");
enum { WW_AT_CURRENT = 0, WW_AT_CPU = 0 };
#endif
#endif

/* helpers.c */
int ww_folio_large_mapcount(const struct folio *folio);
bool ww_flags_left(unsigned long flags);
bool ww_page_buddy(const struct page *page);
unsigned long ww_page_to_pfn(const struct page *page);
unsigned int ww_smp_processor_id(void);
unsigned int ww_context(void);
unsigned int ww_context_bits(void);
void *ww_alloc_percpu(size_t size, size_t align);
void *ww_this_cpu_ptr(void *percpu);
void *ww_per_cpu_ptr(void *percpu, unsigned int cpu);
bool ww_cpu_possible(unsigned int cpu);
void ww_init_irq_work(struct irq_work *work, void (*func)(struct irq_work *));
void ww_init_delayed_work(struct delayed_work *work, void (*func)(struct work_struct *));
void ww_schedule_delayed_work(struct delayed_work *work, unsigned int ms);
void ww_taint(void);
struct folio *ww_waiter_folio(struct wait_queue_entry *wait, int *bit_nr);
struct folio *ww_key_folio(const void *wait_page_key, int *bit_nr);
void ww_nobody_calls(void);
int ww_register_fprobe(struct fprobe *fprobe, const char *symbol);
void ww_unregister_fprobe(struct fprobe *fprobe);
struct dentry *ww_debugfs_create_file(const char *name, umode_t mode, struct dentry *parent,
				      void *data, const struct file_operations *fops);
void ww_preempt_disable(void);
void ww_preempt_enable(void);
void ww_tracepoint_synchronize_unregister(void);

enum { WW_LINUX_VERSION = LINUX_VERSION_CODE };

/* Of what ww_context_bits() says. */
enum { WW_HARDIRQ_BITS = NMI_MASK | HARDIRQ_MASK };

#define WW_CONTEXT_TASK		0
#define WW_CONTEXT_SOFTIRQ	1
#define WW_CONTEXT_HARDIRQ	2

#define WW_WQ_FLAG_EXCLUSIVE	0x01	/* WQ_FLAG_EXCLUSIVE; helpers.c holds it to that */
#define WW_WQ_FLAG_CUSTOM	0x04	/* WQ_FLAG_CUSTOM, likewise */

/* waits.c */
int ww_leaves_shared(unsigned long wake_page_function);

/* call.c */
void ww_call_wake(void *function, struct page *page, int bit_nr);
void ww_call_end(void *function, struct page *page);
void ww_call_start(void *function, struct page *page);
struct page *ww_alloc_page_of(unsigned int kind);
void ww_free_page(struct page *page);

/* int3.c */
int ww_int3_contexts(unsigned int *in_nmi);

/* unwind.c */
unsigned long ww_return_address(unsigned long slot, unsigned long rethook, unsigned long graph);
unsigned int ww_return_slots(const struct ww_entry *entry, unsigned long ip,
			     unsigned long *slots, unsigned int n);

/* trace.c */
void ww_trace_wake_leak(unsigned int verdict, unsigned long pfn, unsigned int bit,
			int refcount, u64 since_clear_ns, unsigned long caller);
void ww_trace_end_unreferenced(unsigned long pfn, int refcount, int spare,
			       unsigned long caller);
void ww_trace_window(unsigned long pfn, unsigned int bit, u64 length_ns,
		     unsigned long caller);

/* params.c */
extern bool ww_param_enable;
extern char *ww_param_hook;
extern char *ww_param_amplify;
extern char *ww_param_end_symbol;
extern char *ww_param_wake_symbol;

#endif
