/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The functions that are hooked at their entry. hooks.c makes what calls the
 * handlers, probes.rs has the handlers.
 */
#ifndef WAKEWATCH_HOOKS_H
#define WAKEWATCH_HOOKS_H

#include <linux/ftrace.h>
#include <linux/types.h>

/* HOOK(name, arguments that the function has) */
#define WW_HOOKS(HOOK)		\
	HOOK(end_writeback, 1)	\
	HOOK(wake, 2)		\
	HOOK(past, 3)		\
	HOOK(start, 2)		\
	HOOK(end_read, 2)	\
	HOOK(private_2, 1)	\
	HOOK(unlock, 1)		\
	HOOK(victim, 4)

/*
 * A function at its entry. On the stack of the trampoline, which pushes it from
 * the last member to the first.
 */
struct ww_entry {
	unsigned long arg[4];	/* those that the function has, and whatever is in the other registers */
	unsigned long sp;	/* where the return address is */
	unsigned long bp;
	unsigned long ip;	/* where the function goes on */
};

struct ww_hook {
	const void *handler;	/* there before anything is hooked, and until nothing is */
	unsigned long missed;	/* entered inside of any of our handlers, in the same context, and stopped */
};

/* By what the kernel calls them at a function's entry. */
#define WW_HOOK_DECLARE(name, args)							\
	extern struct ww_hook ww_hook_##name;						\
	void ww_direct_##name(void);							\
	void ww_ftrace_##name(unsigned long ip, unsigned long parent,			\
			      struct ftrace_ops *ops, struct ftrace_regs *fregs);	\
	/* probes.rs; preemption is off, and it is not entered again in its context: see ww_enter(). */	\
	void ww_on_##name(const void *handler, const struct ww_entry *entry, unsigned int context);
WW_HOOKS(WW_HOOK_DECLARE)

/* For the ops of direct calls: live patches are welcome. */
extern const ftrace_ops_func_t ww_shares;

void ww_fprobe_entry(void *regs, struct ww_entry *entry);
bool ww_have_direct(void);
bool ww_have_ftrace(void);

#endif
