// SPDX-License-Identifier: GPL-2.0
/*
 * Whom does this kernel's wake_page_function() (mm/filemap.c, 6.12) wake? It is
 * asked, with a waiter that nobody is. In C because a control-flow integrity
 * checker knows the type of what is called here.
 */
#include <linux/gfp.h>
#include <linux/pagemap.h>
#include <linux/sched.h>
#include <linux/wait.h>

#include "bindings_helper.h"

/*
 * Does it leave in the queue who only waits for a bit to be clear, if that is
 * set? 1 if so, 0 if it wakes them, or an error number. May sleep.
 */
int ww_leaves_shared(unsigned long wake_page_function)
{
	struct page *page = alloc_page(GFP_KERNEL);
	struct wait_page_queue waiter = {
		.bit_nr = PG_locked,
		.wait = {
			.private = current,
			.func = (wait_queue_func_t)wake_page_function,
		},
	};
	struct wait_page_key key = { .bit_nr = PG_locked };
	unsigned long *flags;

	if (!page)
		return -ENOMEM;
	/* A page of our own, and no folio_lock(), whose assertions would be this module's. */
	flags = (unsigned long *)&page->flags;
	waiter.folio = key.folio = (struct folio *)page;
	INIT_LIST_HEAD(&waiter.wait.entry);
	set_bit(PG_locked, flags);
	/* Nobody sleeps in state 0, so no task is woken by that. */
	waiter.wait.func(&waiter.wait, 0, 0, &key);
	clear_bit(PG_locked, flags);
	__free_page(page);
	return !(waiter.wait.flags & WQ_FLAG_WOKEN);
}
