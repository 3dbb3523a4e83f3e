// SPDX-License-Identifier: GPL-2.0
/*
 * For the tests: pages of each kind, and calls of static functions of the kernel's
 * by their addresses. Not with the prototypes that CONFIG_CFI_CLANG checks, which
 * are not the same on all kernels of patches/, and of which a caller that takes no
 * result needs nothing.
 */
#include <linux/compiler.h>
#include <linux/gfp.h>

#include "bindings_helper.h"

/* folio_wake_bit() */
void __nocfi ww_call_wake(void *function, struct page *page, int bit_nr)
{
	void (*wake)(struct page *, int) = function;

	wake(page, bit_nr);
}

/* __folio_end_writeback() */
void __nocfi ww_call_end(void *function, struct page *page)
{
	void (*end)(struct page *) = function;

	end(page);
}

/* __folio_start_writeback() */
void __nocfi ww_call_start(void *function, struct page *page)
{
	void (*start)(struct page *, bool) = function;

	start(page, false);
}

/*
 * A page of one of the kinds that free pages are kept apart by (`enum migratetype`,
 * include/linux/mmzone.h): `kind` counts them round. NULL without memory. May sleep.
 */
struct page *ww_alloc_page_of(unsigned int kind)
{
	static const gfp_t kinds[] = { 0, __GFP_MOVABLE, __GFP_RECLAIMABLE };

	return alloc_page(GFP_KERNEL | kinds[kind % ARRAY_SIZE(kinds)]);
}

void ww_free_page(struct page *page)
{
	__free_page(page);
}
