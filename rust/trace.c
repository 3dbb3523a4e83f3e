// SPDX-License-Identifier: GPL-2.0
/* The trace events, and calls of them for Rust. */
#include "bindings_helper.h"

#define CREATE_TRACE_POINTS
#include "trace.h"

void ww_trace_wake_leak(unsigned int verdict, unsigned long pfn, unsigned int bit,
			int refcount, u64 since_clear_ns, unsigned long caller)
{
	trace_wake_leak(verdict, pfn, bit, refcount, since_clear_ns, caller);
}

void ww_trace_end_unreferenced(unsigned long pfn, int refcount, int spare,
			       unsigned long caller)
{
	trace_end_unreferenced(pfn, refcount, spare, caller);
}

void ww_trace_window(unsigned long pfn, unsigned int bit, u64 length_ns,
		     unsigned long caller)
{
	trace_window(pfn, bit, length_ns, caller);
}
