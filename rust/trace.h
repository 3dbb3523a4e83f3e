/* SPDX-License-Identifier: GPL-2.0 */
/*
 * wakewatch's trace events. In C because TRACE_EVENT() is the preprocessor's.
 * `bit` and `verdict` are numbers of the kernel's own and of this module; the
 * printed form has names for both. Fields are of C's own types: without BTF,
 * bpftrace knows no others.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM wakewatch

#if !defined(WAKEWATCH_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define WAKEWATCH_TRACE_H

#include <linux/page-flags.h>
#include <linux/tracepoint.h>

/* enum Verdict of detect/verdict.rs, whose tests hold these to it. */
#define WW_VERDICT_ZERO_REF		0
#define WW_VERDICT_TAIL			1
#define WW_VERDICT_REUSED		2

/* For programs that read the format: they don't know the enum. */
TRACE_DEFINE_ENUM(PG_locked);
TRACE_DEFINE_ENUM(PG_writeback);
TRACE_DEFINE_ENUM(PG_private_2);

#define ww_show_verdict(verdict)				\
	__print_symbolic(verdict,				\
		{ WW_VERDICT_ZERO_REF,	"zero-ref" },		\
		{ WW_VERDICT_TAIL,	"tail" },		\
		{ WW_VERDICT_REUSED,	"reused" })

#define ww_show_bit(bit)					\
	__print_symbolic(bit,					\
		{ PG_locked,	"locked" },			\
		{ PG_writeback,	"writeback" },			\
		{ PG_private_2,	"private_2" })

/* A wake on a page that nobody owns any more. */
TRACE_EVENT(wake_leak,

	TP_PROTO(unsigned int verdict, unsigned long pfn, unsigned int bit,
		 int refcount, unsigned long long since_clear_ns, unsigned long caller),

	TP_ARGS(verdict, pfn, bit, refcount, since_clear_ns, caller),

	TP_STRUCT__entry(
		__field(unsigned int,	verdict)
		__field(unsigned int,	bit)
		__field(unsigned long,	pfn)
		__field(int,		refcount)
		__field(unsigned long long, since_clear_ns)
		__field(unsigned long,	caller)
	),

	TP_fast_assign(
		__entry->verdict	= verdict;
		__entry->bit		= bit;
		__entry->pfn		= pfn;
		__entry->refcount	= refcount;
		__entry->since_clear_ns	= since_clear_ns;
		__entry->caller		= caller;
	),

	TP_printk("verdict=%s bit=%s pfn=0x%lx refcount=%d since_clear_ns=%llu caller=%pS",
		  ww_show_verdict(__entry->verdict), ww_show_bit(__entry->bit),
		  __entry->pfn, __entry->refcount, __entry->since_clear_ns,
		  (void *)__entry->caller)
);

/* Writeback ends and nobody but the page's known holders keeps it. */
TRACE_EVENT(end_unreferenced,

	TP_PROTO(unsigned long pfn, int refcount, int spare, unsigned long caller),

	TP_ARGS(pfn, refcount, spare, caller),

	TP_STRUCT__entry(
		__field(unsigned long,	pfn)
		__field(int,		refcount)
		__field(int,		spare)
		__field(unsigned long,	caller)
	),

	TP_fast_assign(
		__entry->pfn		= pfn;
		__entry->refcount	= refcount;
		__entry->spare		= spare;
		__entry->caller		= caller;
	),

	TP_printk("pfn=0x%lx refcount=%d spare=%d caller=%pS",
		  __entry->pfn, __entry->refcount, __entry->spare,
		  (void *)__entry->caller)
);

/* A window has ended in a wake. */
TRACE_EVENT(window,

	TP_PROTO(unsigned long pfn, unsigned int bit, unsigned long long length_ns,
		 unsigned long caller),

	TP_ARGS(pfn, bit, length_ns, caller),

	TP_STRUCT__entry(
		__field(unsigned long,	pfn)
		__field(unsigned int,	bit)
		__field(unsigned long long, length_ns)
		__field(unsigned long,	caller)
	),

	TP_fast_assign(
		__entry->pfn		= pfn;
		__entry->bit		= bit;
		__entry->length_ns	= length_ns;
		__entry->caller		= caller;
	),

	TP_printk("pfn=0x%lx bit=%s length_ns=%llu caller=%pS",
		  __entry->pfn, ww_show_bit(__entry->bit), __entry->length_ns,
		  (void *)__entry->caller)
);

#endif

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
