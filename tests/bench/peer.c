// SPDX-License-Identifier: GPL-2.0
/*
 * What wakewatch's handlers do, in C: the same hooks (rust/hooks.c) and tracepoints, the same
 * checks, the same window table (rust/detect/window.rs has the reasoning, and
 * tests/host the proofs), the same counters. For `make bench`, which counts what
 * either costs. It counts its findings and doesn't report them.
 * Delays and trace events are a static key each that is never on.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/debugfs.h>
#include <linux/delay.h>
#include <linux/ftrace.h>
#include <linux/hash.h>
#include <linux/jump_label.h>
#include <linux/kallsyms.h>
#include <linux/kprobes.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/pagemap.h>
#include <linux/percpu.h>
#include <linux/sched/clock.h>
#include <linux/seq_file.h>
#include <linux/stacktrace.h>
#include <linux/tracepoint.h>
#include <linux/vmalloc.h>
#include <asm/unwind.h>

#include "hooks.h"

static bool enable = true;
module_param(enable, bool, 0600);
MODULE_PARM_DESC(enable, "look at anything (default: 1)");

static bool writeback = true;
module_param(writeback, bool, 0600);
MODULE_PARM_DESC(writeback, "open windows at the end of writeback (default: 1)");

static bool always;
module_param(always, bool, 0600);
MODULE_PARM_DESC(always, "open them where nobody waits, too (default: 0)");

static DEFINE_STATIC_KEY_FALSE(delaying);
static DEFINE_STATIC_KEY_FALSE(traced);

static bool empty;
module_param(empty, bool, 0);
MODULE_PARM_DESC(empty, "hook everything and do nothing there: what the hooks cost (default: 0)");

static DEFINE_STATIC_KEY_FALSE(is_empty);

static char *hook = "direct";
module_param(hook, charp, 0);
MODULE_PARM_DESC(hook, "how functions are hooked: direct, ftrace, kprobe (default: direct)");

static unsigned int sample = 1;
module_param(sample, uint, 0);
MODULE_PARM_DESC(sample, "look at every n-th page (default: 1)");

/* A page is in the sample if its hash is at most this. */
static u32 sample_limit __read_mostly = U32_MAX;

/* ------------------------------------------------------------------ counters */

#define COUNTERS(x)							\
	x(end_writeback) x(wake) x(frozen_wake) x(sampled_out)		\
	x(zero_ref) x(tail) x(reused) x(unreferenced) x(unbalanced)	\
	x(unlocked_start) x(second_writeback) x(windows_opened)		\
	x(windows_woken) x(windows_retired) x(windows_overwritten)	\
	x(windows_dropped) x(windows_doubted) x(wakes_without_window)	\
	x(marks_freed) x(marks_allocated) x(marks_started)		\
	x(marks_dropped) x(victims) x(callers_dropped)			\
	x(wakes_past) x(unreferenced_reads)

#define COUNTER_ENUM(name) C_##name,
#define COUNTER_NAME(name) #name,

enum { COUNTERS(COUNTER_ENUM) NR_COUNTERS };

static const char * const counter_names[] = { COUNTERS(COUNTER_NAME) };

static DEFINE_PER_CPU(unsigned long, counters[NR_COUNTERS]);

#define count(name) __this_cpu_inc(counters[C_##name])
#define count_nested(name, n) this_cpu_add(counters[C_##name], n)

/* ------------------------------------------------------------------ call sites */

#define SITES		128
#define SITE_PROBES	16
#define LENGTHS		36

enum function { END_WRITEBACK, END_READ, PRIVATE_2 };

/* What one CPU knows of a call site. */
struct row {
	u64 calls;
	u64 none;
	u32 below;	/* INT_MAX, of the least */
	u32 above;	/* INT_MIN, of the most */
	u32 lengths[LENGTHS];
};

static u64 sites[SITES];
static struct row __percpu *rows;

static __always_inline unsigned int row_of(enum function function, unsigned long caller)
{
	u64 key = (u64)function << 60 | (caller & ~(0xfUL << 60));
	unsigned int first = (key * GOLDEN_RATIO_64) >> 40;
	unsigned int i;

	for (i = 0; i < SITE_PROBES; i++) {
		unsigned int row = (first + i) % SITES;
		u64 found = READ_ONCE(sites[row]);

		if (!found)
			found = cmpxchg(&sites[row], 0, key) ?: key;
		if (found == key)
			return row;
	}
	count(callers_dropped);
	return SITES;
}

static __always_inline void raise(u32 *cell, u32 value)
{
	u32 old = READ_ONCE(*cell);

	while (unlikely(old < value))
		if (try_cmpxchg(cell, &old, value))
			break;
}

static __always_inline void row_audit(unsigned int nr, int spare)
{
	struct row *row;

	if (nr >= SITES)
		return;
	row = &this_cpu_ptr(rows)[nr];
	/* An interrupt may come in the middle of a task's. */
	__this_cpu_inc(rows[nr].calls);
	if (spare <= 0)
		__this_cpu_inc(rows[nr].none);
	raise(&row->below, (u32)INT_MAX - (u32)spare);
	raise(&row->above, (u32)spare - (u32)INT_MIN);
}

static __always_inline void row_length(unsigned int nr, u64 ns)
{
	if (nr < SITES)
		__this_cpu_inc(rows[nr].lengths[min(ns ? __fls(ns) : 0, LENGTHS - 1UL)]);
}

/* ------------------------------------------------------------------ windows */

#define BUCKETS		256
#define WAYS		4
#define CONTEXTS	256
#define FREED_PAGES	8
#define TRIES		4
#define DEPTH		12

#define PFN		((1UL << 40) - 1)
#define BUSY		(1UL << 40)
#define FREED		(1UL << 41)
#define ALLOCATED	(1UL << 42)
#define STARTED		(1UL << 43)
#define MARKS		(FREED | ALLOCATED | STARTED)
#define BIT_SHIFT	44
#define WINDOW_BIT	(3UL << BIT_SHIFT)
#define BIT_WRITEBACK	(1UL << BIT_SHIFT)
#define BIT_LOCKED	(2UL << BIT_SHIFT)
#define BIT_PRIVATE_2	(3UL << BIT_SHIFT)
#define GENERATION_SHIFT 46
#define GENERATION	(~0UL << GENERATION_SHIFT)

#define WRITING		1UL
#define WRITTEN		2UL

struct note {
	unsigned long state;
	u64 when_ns;
	pid_t pid;
	u16 cpu;
	u16 context;
	char comm[TASK_COMM_LEN];
	unsigned long stack[DEPTH];
};

struct details {
	u64 context;
	u64 when_ns;
	unsigned long caller;
	unsigned long epoch;
	u32 row;
	u16 cpu;
	u8 function;
	struct note notes[3];
};

struct bucket {
	unsigned long words[WAYS];
	struct details details[WAYS];
} ____cacheline_aligned;

/* What a wake is told of its window. */
struct window {
	u64 when_ns;
	unsigned long caller;
	unsigned long epoch;
	u32 row;
	u8 function;
	bool freed;
	bool allocated;
	bool superseded;
};

static struct bucket buckets[BUCKETS];
/* The last window of a context: 30 bits of its hash, 16 of the way, 18 of the generation. */
static u64 last_windows[CONTEXTS];
/* Pages, plus one, that were freed while they had an open window. */
static u64 freed_pages[FREED_PAGES];
static atomic_t freed_next;

static __always_inline u64 mix(u64 value)
{
	return value * GOLDEN_RATIO_64;
}

static __always_inline struct bucket *bucket_of(unsigned long pfn)
{
	return &buckets[(mix(pfn) >> 40) % BUCKETS];
}

static __always_inline bool close_window(unsigned long *word, unsigned long old)
{
	return try_cmpxchg(word, &old, old & GENERATION);
}

static __always_inline bool retire(u64 last, u64 mixed)
{
	unsigned long *word, generation, old;
	unsigned int way, i;

	if (!last || (last ^ mixed) >> 34)
		return false;
	way = (last >> 18) & 0xffff;
	generation = last << GENERATION_SHIFT;
	word = &buckets[way / WAYS % BUCKETS].words[way % WAYS];
	for (i = 0; i < TRIES; i++) {
		old = READ_ONCE(*word);
		if ((old & GENERATION) != generation || old & BUSY || !(old & WINDOW_BIT))
			return false;
		if (close_window(word, old))
			return true;
	}
	return false;
}

static __always_inline bool mine(unsigned long word, unsigned long key)
{
	return (word & (PFN | WINDOW_BIT | BUSY)) == key;
}

static noinline unsigned int oldest_way(struct bucket *b, u64 now, unsigned long *word)
{
	unsigned int way, oldest = WAYS;
	u64 age = 0;

	for (way = 0; way < WAYS; way++) {
		unsigned long old = smp_load_acquire(&b->words[way]);
		u64 then = READ_ONCE(b->details[way].when_ns);
		/* The clocks of two CPUs may differ a little. */
		u64 since = now > then ? now - then : 0;

		if (!(old & BUSY) && (oldest == WAYS || since > age)) {
			oldest = way;
			*word = old;
			age = since;
		}
	}
	return oldest;
}

/*
 * A way for a new window: that of an older one of the same context, page and
 * bit (a wake must not find two), an empty one, or the oldest; WAYS if all are
 * busy. The word that made it the choice comes along.
 */
static __always_inline unsigned int place(struct bucket *b, unsigned long key, u64 context,
					  u64 now, unsigned long *word, bool *same)
{
	unsigned int way = WAYS, empty = WAYS;

	while (way--) {
		unsigned long old = smp_load_acquire(&b->words[way]);

		if (!(old & (WINDOW_BIT | BUSY))) {
			empty = way;
			*word = old;
		} else if (mine(old, key) && READ_ONCE(b->details[way].context) == context) {
			*word = old;
			*same = true;
			return way;
		}
	}
	if (likely(empty != WAYS))
		return empty;
	return oldest_way(b, now, word);
}

static __always_inline u64 context_id(void)
{
	unsigned int context = in_nmi() ? 3 : in_hardirq() ? 2 : in_serving_softirq() ? 1 : 0;

	return context ? (u64)raw_smp_processor_id() << 2 | context : (unsigned long)current;
}

static __always_inline void window_open(unsigned long pfn, unsigned long bit,
					enum function function, unsigned long caller,
					unsigned int row, unsigned long epoch)
{
	struct bucket *b = bucket_of(pfn);
	unsigned long key = (pfn & PFN) | bit;
	u64 context = context_id(), now = local_clock(), mixed = mix(context);
	u64 *last = &last_windows[(mixed >> 40) % CONTEXTS];
	unsigned int i;

	/* Its own first: the place may be the one that is wanted. */
	if (retire(READ_ONCE(*last), mixed))
		count(windows_retired);
	for (i = 0; i < TRIES; i++) {
		unsigned long old, generation;
		bool same = false;
		unsigned int way = place(b, key, context, now, &old, &same);
		struct details *d;

		if (way == WAYS)
			break;
		generation = (old & GENERATION) + (1UL << GENERATION_SHIFT);
		if (cmpxchg(&b->words[way], old, generation | BUSY) != old)
			continue;
		d = &b->details[way];
		WRITE_ONCE(d->context, context);
		WRITE_ONCE(d->when_ns, now);
		WRITE_ONCE(d->caller, caller);
		WRITE_ONCE(d->epoch, epoch);
		WRITE_ONCE(d->row, row);
		WRITE_ONCE(d->function, function);
		WRITE_ONCE(d->cpu, raw_smp_processor_id());
		smp_store_release(&b->words[way], generation | key);
		WRITE_ONCE(*last, mixed >> 34 << 34 |
			   (u64)((b - buckets) * WAYS + way) << 18 |
			   generation >> GENERATION_SHIFT);
		count(windows_opened);
		if (same)
			count(windows_retired);
		else if (old & WINDOW_BIT)
			count(windows_overwritten);
		return;
	}
	count(windows_dropped);
}

/* Nobody is woken: the context's last window is over all the same. */
static __always_inline void window_none(void)
{
	u64 context = context_id(), mixed = mix(context);
	u64 *last = &last_windows[(mixed >> 40) % CONTEXTS];
	u64 left = READ_ONCE(*last);

	if (left) {
		if (retire(left, mixed))
			count(windows_retired);
		if (!((left ^ mixed) >> 34))
			WRITE_ONCE(*last, 0);
	}
}

/* Was a window of the same page and bit opened since? */
static noinline bool superseded(struct bucket *b, unsigned long key, u64 since)
{
	unsigned int way;

	for (way = 0; way < WAYS; way++) {
		unsigned long then = smp_load_acquire(&b->words[way]);
		bool later;

		if (!mine(then, key))
			continue;
		later = READ_ONCE(b->details[way].when_ns) > since;
		smp_rmb(); /* Closed or marked meanwhile, it is the same window. */
		if (later && !((READ_ONCE(b->words[way]) ^ then) & GENERATION))
			return true;
	}
	return false;
}

static __always_inline bool window_wake(unsigned long pfn, unsigned long bit, struct window *w)
{
	struct bucket *b = bucket_of(pfn);
	unsigned long key = (pfn & PFN) | bit;
	u64 context = context_id();
	unsigned int way, i;

	for (i = 0; i < TRIES; i++) {
		struct details *d;
		unsigned long old;

		for (way = 0; way < WAYS; way++) {
			old = smp_load_acquire(&b->words[way]);
			if (mine(old, key) && READ_ONCE(b->details[way].context) == context)
				break;
		}
		if (way == WAYS)
			return false;
		d = &b->details[way];
		w->when_ns = READ_ONCE(d->when_ns);
		w->caller = READ_ONCE(d->caller);
		w->epoch = READ_ONCE(d->epoch);
		w->row = READ_ONCE(d->row);
		w->function = READ_ONCE(d->function);
		/* The notes stay where they are: nothing is reported. */
		w->freed = old & FREED;
		w->allocated = old & ALLOCATED;
		if (!close_window(&b->words[way], old))
			continue;
		w->superseded = false;
		for (way = 0; way < WAYS; way++)
			if (unlikely(mine(smp_load_acquire(&b->words[way]), key)))
				w->superseded = superseded(b, key, w->when_ns);
		return true;
	}
	return false;
}

static __always_inline bool fits(unsigned long word, unsigned long pfn, unsigned long mark)
{
	return !((word ^ pfn) & PFN) && !(word & (BUSY | mark)) && word & WINDOW_BIT &&
	       (mark == FREED || word & FREED);
}

static bool note_write(struct note *note, unsigned long generation, const struct note *event)
{
	unsigned long state = READ_ONCE(note->state);

	if (state & WRITING || cmpxchg(&note->state, state, generation | WRITING) != state)
		return false;
	note->when_ns = event->when_ns;
	note->pid = event->pid;
	note->cpu = event->cpu;
	note->context = event->context;
	memcpy(note->comm, event->comm, sizeof(note->comm));
	memcpy(note->stack, event->stack, sizeof(note->stack));
	smp_store_release(&note->state, generation | WRITTEN);
	return true;
}

static noinline void event_now(struct note *event)
{
	memset(event->stack, 0, sizeof(event->stack));
	stack_trace_save(event->stack, DEPTH, 1);
	event->when_ns = local_clock();
	event->pid = current->pid;
	event->cpu = raw_smp_processor_id();
	event->context = in_nmi() ? 3 : in_hardirq() ? 2 : in_serving_softirq() ? 1 : 0;
	memcpy(event->comm, current->comm, sizeof(event->comm));
}

/* Returns how many windows have got the mark. */
static noinline unsigned int mark_bucket(struct bucket *b, unsigned long pfn, unsigned long mark)
{
	unsigned long generations[WAYS] = { 0, };
	unsigned int way, i, marked = 0, dropped = 0;
	bool got[WAYS] = { false, };
	struct note event;

	for (way = 0; way < WAYS; way++) {
		unsigned long old = READ_ONCE(b->words[way]);

		for (i = 0; fits(old, pfn, mark); i++) {
			if (i == TRIES) {
				dropped++;
				break;
			}
			if (try_cmpxchg(&b->words[way], &old, old | mark)) {
				generations[way] = old & GENERATION;
				got[way] = true;
				marked++;
				break;
			}
		}
	}
	if (marked) {
		if (mark == FREED)
			WRITE_ONCE(freed_pages[(unsigned int)atomic_fetch_inc(&freed_next) % FREED_PAGES],
				   (pfn & PFN) + 1);
		event_now(&event);
		for (way = 0; way < WAYS; way++)
			if (got[way] &&
			    !note_write(&b->details[way].notes[ilog2(mark) - ilog2(FREED)],
					generations[way], &event))
				dropped++;
	}
	if (mark == FREED)
		count_nested(marks_freed, marked);
	else if (mark == ALLOCATED)
		count_nested(marks_allocated, marked);
	else
		count_nested(marks_started, marked);
	count_nested(marks_dropped, dropped);
	return marked + dropped;
}

static __always_inline unsigned int window_mark(unsigned long pfn, unsigned long mark)
{
	struct bucket *b = bucket_of(pfn);
	unsigned int way;

	for (way = 0; way < WAYS; way++)
		if (unlikely(fits(READ_ONCE(b->words[way]), pfn, mark)))
			return mark_bucket(b, pfn, mark);
	return 0;
}

static noinline void mark_block(unsigned long pfn, unsigned int order)
{
	unsigned int i;

	for (i = 0; i < FREED_PAGES; i++) {
		u64 page = READ_ONCE(freed_pages[i]);

		if (!page || (page - 1 - pfn) >> order)
			continue;
		/* One is enough for the story. */
		if (window_mark(page - 1, ALLOCATED))
			return;
		cmpxchg(&freed_pages[i], page, 0);
	}
}

/* ------------------------------------------------------------------ the page */

static __always_inline int spare_references_once(struct folio *folio)
{
	unsigned long flags = READ_ONCE(folio->flags);
	unsigned long mapping = (unsigned long)READ_ONCE(folio->mapping);
	bool in_cache = mapping && !(mapping & PAGE_MAPPING_FLAGS);
	bool in_swap_cache = flags & BIT(PG_swapbacked) && flags & BIT(PG_swapcache);
	bool large = flags & BIT(PG_head);
	int before = large ? folio_mapcount(folio) : atomic_read(&folio->_mapcount) + 1;
	int references = folio_ref_count(folio);
	int after = large ? folio_mapcount(folio) : atomic_read(&folio->_mapcount) + 1;
	int pages = large ? folio_nr_pages(folio) : 1;

	return references - min(before, after) - !!(flags & BIT(PG_private)) -
	       pages * (in_cache + in_swap_cache);
}

static int spare_references(struct folio *folio)
{
	int spare = 0, i;

	/* Refcount and mapcount are two words: only a deficit that persists is one. */
	for (i = 0; i < 4; i++) {
		spare = spare_references_once(folio);
		if (spare > 0)
			break;
	}
	return spare;
}

static __always_inline bool looks_at(unsigned long pfn)
{
	if (!READ_ONCE(enable))
		return false;
	if ((u32)pfn * GOLDEN_RATIO_32 > READ_ONCE(sample_limit)) {
		count(sampled_out);
		return false;
	}
	return true;
}

/* ------------------------------------------------------------------ who calls */

/* Where the return address of folio_end_writeback() is, and for which call that is so. */
static u64 learned;

static noinline unsigned long learn_caller(const struct ww_entry *at, u32 low)
{
	struct pt_regs regs = {
		.ip = *(unsigned long *)at->sp,
		.sp = at->sp + sizeof(long),
		.bp = at->bp,
		.cs = __KERNEL_CS,
	};
	struct unwind_state state;
	unsigned long offset;

	/* Starts at the caller, whose frame begins above the address wanted. */
	unwind_start(&state, current, &regs, NULL);
	if (unwind_done(&state))
		return *(unsigned long *)at->sp;
	offset = state.sp - sizeof(long) - at->sp;
	WRITE_ONCE(learned, (u64)low << 32 | (u32)offset);
	return *(unsigned long *)(at->sp + (u32)offset);
}

static __always_inline unsigned long caller_of_caller(const struct ww_entry *at)
{
	u32 low = *(unsigned long *)at->sp;
	u64 known = READ_ONCE(learned);

	if (likely(known >> 32 == low))
		return *(unsigned long *)(at->sp + (u32)known);
	return learn_caller(at, low);
}

/* ------------------------------------------------------------------ handlers */

/*
 * What hooks.c calls. Where nothing is to be done nothing is: what is measured
 * then are the hooks.
 */
#define HANDLER(name)									\
static noinline notrace void handle_##name(const struct ww_entry *at);			\
notrace void ww_on_##name(const void *handler, const struct ww_entry *at,		\
			  unsigned int context)						\
{											\
	if (!static_branch_unlikely(&is_empty))						\
		handle_##name(at);							\
}											\
static noinline notrace void handle_##name(const struct ww_entry *at)

/* ------------------------------------------------------------------ victims */

/* The leaked wake that this CPU is in: its context, or 0. */
struct expected {
	u64 context;
	struct folio *folio;
	unsigned long bit_nr;
};

static DEFINE_PER_CPU(struct expected, expected);

HANDLER(victim)
{
	struct wait_queue_entry *wait = (void *)at->arg[0];
	struct wait_page_queue *waiter = container_of(wait, struct wait_page_queue, wait);
	struct expected *e = this_cpu_ptr(&expected);

	if (likely(!e->context) || e->context != context_id())
		return;
	if (waiter->folio == e->folio && waiter->bit_nr == e->bit_nr &&
	    !(wait->flags & WQ_FLAG_EXCLUSIVE && test_bit(e->bit_nr, &e->folio->flags)))
		count(victims);
}

/*
 * folio_unlock() wakes for PG_locked too, and its wake must not take a window that
 * an end of read has left behind. Both jump to folio_wake_bit() as the last thing
 * they do, so it returns to their caller, which the window has; or they call it.
 */
static noinline bool inside_end_read(unsigned long return_to)
{
	static unsigned long known;
	char symbol[KSYM_SYMBOL_LEN];

	if (READ_ONCE(known) == return_to)
		return true;
	sprint_symbol_no_offset(symbol, return_to);
	if (strcmp(symbol, "folio_end_read"))
		return false;
	WRITE_ONCE(known, return_to);
	return true;
}

static __always_inline bool woken_by_opener(struct window *w, const struct ww_entry *at)
{
	unsigned long return_to;

	if (w->function != END_READ)
		return true;
	return_to = *(unsigned long *)at->sp;
	return likely(return_to == w->caller) || inside_end_read(return_to);
}

static noinline void leaked(struct folio *folio, unsigned long bit_nr)
{
	struct expected *e = this_cpu_ptr(&expected);

	e->folio = folio;
	e->bit_nr = bit_nr;
	e->context = context_id();
}

/* ------------------------------------------------------------------ the probes */

static bool late_waiters;

/* Who waits now did not when writeback ended. */
static noinline void late_waiter(void)
{
	count(wakes_without_window);
	WRITE_ONCE(late_waiters, true);
}

/* How many events each hook has missed, by enum function. */
static const unsigned long *missed[3];

HANDLER(end_writeback)
{
	struct folio *folio = (struct folio *)at->arg[0];
	unsigned long pfn = folio_pfn(folio), caller, flags;
	unsigned int row;

	if (!looks_at(pfn))
		return;
	count(end_writeback);
	caller = caller_of_caller(at);
	row = row_of(END_WRITEBACK, caller);
	flags = READ_ONCE(folio->flags);
	if (likely(flags & BIT(PG_writeback))) {
		int spare = spare_references(folio);

		row_audit(row, spare);
		if (unlikely(spare <= 0))
			count(unreferenced);
	} else {
		count(unbalanced);
	}
	if (!READ_ONCE(writeback))
		return;
	if (flags & BIT(PG_waiters) || READ_ONCE(always) || READ_ONCE(late_waiters))
		window_open(pfn, BIT_WRITEBACK, END_WRITEBACK, caller, row,
			    READ_ONCE(*missed[END_WRITEBACK]));
	else
		window_none();
}

static __always_inline void end_of_bit(const struct ww_entry *at, enum function function, unsigned long bit, unsigned long flag)
{
	struct folio *folio = (struct folio *)at->arg[0];
	unsigned long pfn = folio_pfn(folio), caller;
	unsigned int row;

	if (!looks_at(pfn))
		return;
	caller = *(unsigned long *)at->sp;
	row = row_of(function, caller);
	if (function == END_READ) {
		int spare = spare_references_once(folio);

		row_audit(row, spare);
		if (spare <= 0)
			count(unreferenced_reads);
	}
	if (unlikely(!(READ_ONCE(folio->flags) & BIT(flag))))
		count(unbalanced);
	window_open(pfn, bit, function, caller, row, READ_ONCE(*missed[function]));
}

HANDLER(end_read)
{
	end_of_bit(at, END_READ, BIT_LOCKED, PG_locked);
}

HANDLER(private_2)
{
	end_of_bit(at, PRIVATE_2, BIT_PRIVATE_2, PG_private_2);
}

/* wakewatch doesn't hook it by default. */
notrace void ww_on_unlock(const void *handler, const struct ww_entry *at, unsigned int context)
{
}

HANDLER(start)
{
	struct folio *folio = (struct folio *)at->arg[0];
	unsigned long pfn = folio_pfn(folio);

	if (!looks_at(pfn))
		return;
	if (unlikely(!(READ_ONCE(folio->flags) & BIT(PG_locked))))
		count(unlocked_start);
	window_mark(pfn, STARTED);
}

HANDLER(wake)
{
	struct folio *folio = (struct folio *)at->arg[0];
	struct page *page = &folio->page;
	unsigned long pfn = page_to_pfn(page), bit = 0;
	struct window w = { 0, };
	bool tail, free = false, frozen = false;
	struct expected *e;

	if (static_branch_unlikely(&delaying))
		udelay(1);
	if (!looks_at(pfn))
		return;
	count(wake);
	e = this_cpu_ptr(&expected);
	if (e->context)
		e->context = 0;

	/* A page that is freed between these reads is seen as freed. */
	tail = READ_ONCE(page->compound_head) & 1;
	if (!tail && unlikely(!page_ref_count(page))) {
		frozen = READ_ONCE(page->flags) & PAGE_FLAGS_CHECK_AT_PREP && !PageBuddy(page);
		free = !frozen;
	}

	switch (at->arg[1]) {
	case PG_writeback:
		bit = BIT_WRITEBACK;
		break;
	case PG_locked:
		bit = BIT_LOCKED;
		break;
	case PG_private_2:
		bit = BIT_PRIVATE_2;
		break;
	}
	if (bit && window_wake(pfn, bit, &w) && woken_by_opener(&w, at)) {
		if (unlikely(w.epoch != READ_ONCE(*missed[w.function]))) {
			count(windows_doubted);
			w.freed = w.allocated = false;
		} else {
			count(windows_woken);
			row_length(w.row, local_clock() - w.when_ns);
			if (static_branch_unlikely(&traced))
				pr_info("window of %pS\n", (void *)w.caller);
			if (w.superseded && !w.freed)
				count(second_writeback);
		}
	} else {
		w.freed = w.allocated = false;
		if (bit == BIT_WRITEBACK && READ_ONCE(writeback))
			late_waiter();
	}

	if (unlikely(tail))
		count(tail);
	else if (unlikely(w.allocated || (w.freed && !free)))
		count(reused);
	else if (unlikely(free))
		count(zero_ref);
	else if (unlikely(frozen))
		count(frozen_wake);
	if (unlikely(tail || free || w.freed))
		leaked(folio, at->arg[1]);
}

/* Where folio_wake_bit() is. */
static unsigned long wake_start, wake_size;

/* Of other queues than those of pages as well. */
HANDLER(past)
{
	if (likely(*(unsigned long *)at->sp - wake_start < wake_size))
		return;
	count(wakes_past);
}

/* A kprobe's handler has registers. */
#define KPROBE_HANDLER(name, args)							\
static int __maybe_unused kprobe_##name(struct kprobe *p, struct pt_regs *regs)		\
{											\
	const struct ww_entry at = {							\
		.arg = { regs->di, regs->si, regs->dx, regs->cx },			\
		.sp = regs->sp,								\
		.bp = regs->bp,								\
		.ip = regs->ip,								\
	};										\
											\
	ww_on_##name(NULL, &at, 0);							\
	return 0;									\
}
WW_HOOKS(KPROBE_HANDLER)

static int no_handler(struct kprobe *p, struct pt_regs *regs)
{
	return 0;
}

struct target {
	struct kprobe probe;
	struct ftrace_ops ops;
	struct ww_hook *hook;
	void (*direct)(void);
	ftrace_func_t ftrace;
};

#define TARGET(symbol, name) {								\
	.probe = { .symbol_name = symbol, .pre_handler = kprobe_##name },		\
	.hook = &ww_hook_##name,							\
	.direct = ww_direct_##name,							\
	.ftrace = ww_ftrace_##name,							\
}

/* Of folio_wake_bit(). */
#define WAKE 4

/* In the order of enum function, then the others. */
static struct target targets[] = {
	TARGET("__folio_end_writeback", end_writeback),
	TARGET("folio_end_read", end_read),
	TARGET("folio_end_private_2", private_2),
	TARGET("__folio_start_writeback", start),
	[WAKE] = TARGET("folio_wake_bit", wake),
	TARGET("wake_page_function", victim),
	TARGET("__wake_up_locked_key", past),
};

/* Its address first, in every way of hooking. */
static int hook_one(struct target *target)
{
	struct kprobe *probe = &target->probe;
	unsigned long address;
	int err;

	if (empty)
		probe->pre_handler = no_handler;
	err = register_kprobe(probe);
	if (err || !strcmp(hook, "kprobe"))
		return err;
	address = (unsigned long)probe->addr;
	unregister_kprobe(probe);
	err = ftrace_set_filter_ip(&target->ops, address, 0, 0);
	if (err)
		return err;
	if (!strcmp(hook, "direct"))
		return register_ftrace_direct(&target->ops, (unsigned long)target->direct);
	target->ops.func = target->ftrace;
	return register_ftrace_function(&target->ops);
}

static void unhook_one(struct target *target)
{
	if (!strcmp(hook, "kprobe")) {
		unregister_kprobe(&target->probe);
	} else if (!strcmp(hook, "direct")) {
		unregister_ftrace_direct(&target->ops, (unsigned long)target->direct, true);
	} else {
		unregister_ftrace_function(&target->ops);
		ftrace_free_filter(&target->ops);
	}
}

static void no_page_free(void *unused, struct page *page, unsigned int order)
{
}

static void no_page_alloc(void *unused, struct page *page, unsigned int order, gfp_t gfp,
			  int migratetype)
{
}

static void page_free(void *unused, struct page *page, unsigned int order)
{
	window_mark(page_to_pfn(page), FREED);
}

static void page_alloc(void *unused, struct page *page, unsigned int order, gfp_t gfp, int migratetype)
{
	if (!page)
		return;
	if (!order)
		window_mark(page_to_pfn(page), ALLOCATED);
	else
		mark_block(page_to_pfn(page), order);
}

static struct tracepoint *free_point, *alloc_point;
static void *free_probe = page_free, *alloc_probe = page_alloc;

static void find_tracepoint(struct tracepoint *tp, void *unused)
{
	if (!strcmp(tp->name, "mm_page_free"))
		free_point = tp;
	else if (!strcmp(tp->name, "mm_page_alloc"))
		alloc_point = tp;
}

/* ------------------------------------------------------------------ the module */

static struct dentry *dir;

static int stats_show(struct seq_file *m, void *unused)
{
	unsigned int i, cpu;

	for (i = 0; i < NR_COUNTERS; i++) {
		unsigned long sum = 0;

		for_each_possible_cpu(cpu)
			sum += per_cpu(counters[i], cpu);
		seq_printf(m, "%s: %lu\n", counter_names[i], sum);
	}
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(stats);

static void unhook(unsigned int registered)
{
	while (registered--)
		unhook_one(&targets[registered]);
	free_percpu(rows);
}

static int __init ww_peer_init(void)
{
	char symbol[KSYM_SYMBOL_LEN];
	unsigned int i;
	int err;

	if (!sample || (strcmp(hook, "direct") && strcmp(hook, "ftrace") && strcmp(hook, "kprobe")))
		return -EINVAL;
	if (empty)
		static_branch_enable(&is_empty);
	sample_limit = U32_MAX / sample;
	rows = __alloc_percpu(sizeof(struct row) * SITES, __alignof__(struct row));
	if (!rows)
		return -ENOMEM;
	for_each_kernel_tracepoint(find_tracepoint, NULL);
	if (!free_point || !alloc_point) {
		unhook(0);
		return -ENOENT;
	}
	if (empty) {
		free_probe = no_page_free;
		alloc_probe = no_page_alloc;
	}
	for (i = 0; i < ARRAY_SIZE(missed); i++)
		missed[i] = strcmp(hook, "kprobe") ? &targets[i].hook->missed :
						     &targets[i].probe.nmissed;
	for (i = 0; i < ARRAY_SIZE(targets); i++) {
		err = hook_one(&targets[i]);
		if (err) {
			pr_err("cannot hook %s: %d\n", targets[i].probe.symbol_name, err);
			unhook(i);
			return err;
		}
	}
	wake_start = (unsigned long)targets[WAKE].probe.addr;
	sprint_symbol(symbol, wake_start);
	/* As in "folio_wake_bit+0x0/0xe0"; the size is what counts. */
	if (sscanf(symbol, "folio_wake_bit+%*x/%lx", &wake_size) != 1)
		pr_warn("no size of folio_wake_bit() in %s\n", symbol);
	err = tracepoint_probe_register(free_point, free_probe, NULL);
	if (!err) {
		err = tracepoint_probe_register(alloc_point, alloc_probe, NULL);
		if (err)
			tracepoint_probe_unregister(free_point, free_probe, NULL);
	}
	if (err) {
		tracepoint_synchronize_unregister();
		unhook(ARRAY_SIZE(targets));
		return err;
	}
	dir = debugfs_create_dir("ww_peer", NULL);
	debugfs_create_file("stats", 0400, dir, NULL, &stats_fops);
	return 0;
}

static void __exit ww_peer_exit(void)
{
	debugfs_remove(dir);
	tracepoint_probe_unregister(free_point, free_probe, NULL);
	tracepoint_probe_unregister(alloc_point, alloc_probe, NULL);
	tracepoint_synchronize_unregister();
	unhook(ARRAY_SIZE(targets));
}

module_init(ww_peer_init);
module_exit(ww_peer_exit);
MODULE_DESCRIPTION("What wakewatch does, in C, to compare costs");
MODULE_LICENSE("GPL");
