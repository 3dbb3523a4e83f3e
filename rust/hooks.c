// SPDX-License-Identifier: GPL-2.0
/*
 * How the handlers of functions' entries are called, but for kprobes. In C
 * because all of it is inline functions and macros: what an entry is made of
 * depends on the kernel's configuration (call depths, return thunks, preemption).
 *
 * A direct call: ftrace has the nop at a function's entry made a call of a
 * trampoline of ours (register_ftrace_direct(), kernel/trace/ftrace.c, 6.12). No
 * lock-out: an interrupt in the middle of a handler comes to its own handler.
 */
#include <linux/ftrace.h>
#include <linux/linkage.h>
#include <linux/objtool.h>
#include <linux/percpu.h>
#include <linux/preempt.h>
#include <linux/version.h>
#include <asm/nospec-branch.h>

#include "hooks.h"

/*
 * In which contexts of this CPU a handler is at work: of the innermost one, the
 * part of preempt_count() that tells contexts apart, and 1. One comes in the
 * middle of another only with more bits set, and takes its own away again.
 */
static DEFINE_PER_CPU(unsigned int, ww_inside);

/* 0: a handler of this context is at work, and must not be entered. */
static __always_inline unsigned int ww_enter(unsigned int *outer)
{
	unsigned int here = (preempt_count() & (NMI_MASK | HARDIRQ_MASK | SOFTIRQ_OFFSET)) | 1;

	*outer = __this_cpu_read(ww_inside);
	if (unlikely(*outer == here))
		return 0;
	__this_cpu_write(ww_inside, here);
	return here;
}

static __always_inline void ww_leave(unsigned int outer)
{
	__this_cpu_write(ww_inside, outer);
}

#define WW_HOOK_HANDLE(name, args)							\
struct ww_hook ww_hook_##name;								\
											\
/* Called by the trampoline alone, which objtool can't see. */				\
__visible notrace noinline void ww_handle_##name(const struct ww_entry *entry);		\
__visible notrace noinline void ww_handle_##name(const struct ww_entry *entry)		\
{											\
	unsigned int outer, context;							\
											\
	preempt_disable_notrace();							\
	context = ww_enter(&outer);							\
	if (likely(context)) {								\
		ww_on_##name(ww_hook_##name.handler, entry, context);			\
		ww_leave(outer);							\
	} else {									\
		/* Rare: a lost count is better than a locked one. */			\
		WRITE_ONCE(ww_hook_##name.missed, ww_hook_##name.missed + 1);		\
	}										\
	preempt_enable_notrace();							\
}
WW_HOOKS(WW_HOOK_HANDLE)

#if defined(CONFIG_X86_64) && defined(CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS)
#define HAVE_DIRECT true
/*
 * As samples/ftrace/ftrace-direct.c has it. At a function's entry, no register
 * but those of its arguments has to be kept: -pg keeps gcc from knowing what
 * callees leave alone (-fipa-ra). Aligned: to 7.3 an odd address is a trampoline
 * that is jumped to, one byte before (ftrace_is_jmp(), include/linux/ftrace.h).
 */
#define WW_KEEP_1	"	movq	-40(%rbp), %rdi\n"
#define WW_KEEP_2	WW_KEEP_1 "	movq	-32(%rbp), %rsi\n"
#define WW_KEEP_3	WW_KEEP_2 "	movq	-24(%rbp), %rdx\n"
#define WW_KEEP_4	WW_KEEP_3 "	movq	-16(%rbp), %rcx\n"

#define WW_HOOK_DIRECT(name, args)							\
asm (											\
"	.pushsection	.text, \"ax\", @progbits\n"					\
	"	" ASM_FUNC_ALIGN "\n"							\
"	.type		ww_direct_" #name ", @function\n"				\
"	.globl		ww_direct_" #name "\n"						\
"ww_direct_" #name ":\n"								\
	ANNOTATE_NOENDBR								\
"	pushq	%rbp\n"									\
"	movq	%rsp, %rbp\n"								\
	CALL_DEPTH_ACCOUNT								\
"	leaq	16(%rbp), %rax\n"							\
"	pushq	%rax\n"									\
"	pushq	%rcx\n"									\
"	pushq	%rdx\n"									\
"	pushq	%rsi\n"									\
"	pushq	%rdi\n"									\
"	movq	%rsp, %rdi\n"								\
"	call	ww_handle_" #name "\n"							\
	WW_KEEP_##args									\
"	leave\n"									\
	ASM_RET										\
"	.size		ww_direct_" #name ", .-ww_direct_" #name "\n"			\
"	.popsection\n"									\
);
WW_HOOKS(WW_HOOK_DIRECT)
#else
#define HAVE_DIRECT false
#define WW_HOOK_DIRECT(name, args) void ww_direct_##name(void) {}
WW_HOOKS(WW_HOOK_DIRECT)
#endif

/*
 * Asked before a live patch comes in where there is a direct call, and before a
 * direct call where there is a live patch: without it, who comes second is refused
 * (prepare_direct_functions_for_ipmodify() and __ftrace_hash_update_ipmodify(),
 * kernel/trace/ftrace.c, 6.12). Our trampolines return to where ftrace has it that
 * the function goes on, which is then the patch: 0, they share. The kernel is given
 * the one of the two that has its prototype.
 */
static int __maybe_unused ww_shares_at(struct ftrace_ops *ops, unsigned long ip, enum ftrace_ops_cmd cmd)
{
	return 0;
}

static int __maybe_unused ww_shares_all(struct ftrace_ops *ops, enum ftrace_ops_cmd cmd)
{
	return 0;
}

const ftrace_ops_func_t ww_shares =
	__builtin_choose_expr(__builtin_types_compatible_p(ftrace_ops_func_t,
							   typeof(&ww_shares_at)),
			      ww_shares_at, ww_shares_all);

/* Whether this kernel has direct calls, and this file trampolines for them. */
bool ww_have_direct(void)
{
	return HAVE_DIRECT;
}

#ifdef CONFIG_DYNAMIC_FTRACE_WITH_ARGS
#define HAVE_FTRACE true
/* The first 6.12.y have no accessor for it. */
#ifndef ftrace_regs_get_frame_pointer
#define ftrace_regs_get_frame_pointer(fregs) ((fregs)->regs.bp)
#endif

static __always_inline struct ww_entry ww_ftrace_entry(struct ftrace_regs *fregs)
{
	return (struct ww_entry){
		.arg = {
			ftrace_regs_get_argument(fregs, 0),
			ftrace_regs_get_argument(fregs, 1),
			ftrace_regs_get_argument(fregs, 2),
			ftrace_regs_get_argument(fregs, 3),
		},
		.sp = ftrace_regs_get_stack_pointer(fregs),
		.bp = ftrace_regs_get_frame_pointer(fregs),
		.ip = ftrace_regs_get_instruction_pointer(fregs),
	};
}

#define WW_HOOK_FTRACE(name, args)							\
void notrace ww_ftrace_##name(unsigned long ip, unsigned long parent,			\
			      struct ftrace_ops *ops, struct ftrace_regs *fregs)	\
{											\
	const struct ww_entry entry = ww_ftrace_entry(fregs);				\
											\
	ww_handle_##name(&entry);							\
}
WW_HOOKS(WW_HOOK_FTRACE)
#else
#define HAVE_FTRACE false
#define WW_HOOK_FTRACE(name, args)							\
void ww_ftrace_##name(unsigned long ip, unsigned long parent,				\
		      struct ftrace_ops *ops, struct ftrace_regs *fregs) {}
WW_HOOKS(WW_HOOK_FTRACE)
#endif

/* Of what an fprobe's handler is given at a function's entry. */
void ww_fprobe_entry(void *regs, struct ww_entry *entry)
{
#if !defined(CONFIG_FPROBE)
	/* Nobody calls it. */
#elif LINUX_VERSION_CODE < KERNEL_VERSION(6, 14, 0)
	const struct pt_regs *all = regs;

	*entry = (struct ww_entry){
		.arg = { all->di, all->si, all->dx, all->cx },
		.sp = all->sp,
		.bp = all->bp,
		.ip = all->ip,
	};
#else
	*entry = ww_ftrace_entry(regs);
#endif
}

/* Whether a function's arguments come with ftrace's calls. */
bool ww_have_ftrace(void)
{
	return HAVE_FTRACE;
}
