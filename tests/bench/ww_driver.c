// SPDX-License-Identifier: GPL-2.0
/*
 * Calls what wakewatch hooks, again and again, and reads the time stamp counter
 * before and after each call. Under QEMU's -icount that counter counts guest
 * instructions, and exactly so: the guest has one CPU, rdtsc ends a translation
 * block, and one instruction is one nanosecond is one tick.
 *
 * The page is one of a real file's (path=), so that what the hooked functions
 * do, and what a detector finds on the page, is what it is in real life: a
 * mapping, private data, the statistics of a device. Every call is one of the
 * kernel's own exported functions, not of the hooked one where that is static.
 *
 * With reads=1 the cases are about the end of a read, and about a file read cold,
 * and no others are measured.
 *
 * /sys/kernel/debug/ww_driver: a write to `run` measures, a read of it shows what
 * was measured: one line a case, values sorted, in ticks.
 */
#include <linux/completion.h>
#include <linux/debugfs.h>
#include <linux/file.h>
#include <linux/kdebug.h>
#include <linux/fs.h>
#include <linux/kthread.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/pagemap.h>
#include <linux/sched.h>
#include <linux/seq_file.h>
#include <linux/sort.h>
#include <asm/debugreg.h>
#include <asm/msr.h>
#include <asm/processor-flags.h>

static char *path;
module_param(path, charp, 0);
MODULE_PARM_DESC(path, "a file with at least one page, on the file system under test");

static unsigned int calls = 500;
module_param(calls, uint, 0);
MODULE_PARM_DESC(calls, "how often each case is measured (default: 500)");

static unsigned int mb = 16;
module_param(mb, uint, 0);
MODULE_PARM_DESC(mb, "megabytes of the write that is measured as a whole (default: 16)");

static bool reads;
module_param(reads, bool, 0);
MODULE_PARM_DESC(reads, "measure ends of reads, and files read cold, instead of the rest");

/* How often it is. */
#define WRITES 9

/* Of the file that is read page by page, in megabytes. */
#define RANDOM_MB 4

/* Not counted: what is allocated on first use, per-CPU lists that fill up. */
#define WARM_UP 64

enum ww_case {
	WW_NOTHING,
	WW_NOPS_100,
	WW_LOOP_1000,
	WW_START,
	WW_END,
	WW_END_WAKE,
	WW_END_WAITER,
	WW_WAKE,
	WW_END_READ,
	WW_END_READ_WAKE,
	WW_END_READ_WAITER,
	WW_UNLOCK,
	WW_ALLOC,
	WW_FREE,
	WW_ALLOC_BLOCK,
	WW_FREE_BLOCK,
	WW_FREE_AFTER,
	WW_CASES,
};

static const char *const names[WW_CASES] = {
	[WW_NOTHING] = "nothing",
	[WW_NOPS_100] = "nops_100",
	[WW_LOOP_1000] = "loop_1000",
	[WW_START] = "start_writeback",
	[WW_END] = "end_writeback",
	[WW_END_WAKE] = "end_writeback_wake",
	[WW_END_WAITER] = "end_writeback_waiter",
	[WW_WAKE] = "wake",
	[WW_END_READ] = "end_read",
	[WW_END_READ_WAKE] = "end_read_wake",
	[WW_END_READ_WAITER] = "end_read_waiter",
	[WW_UNLOCK] = "unlock",
	[WW_ALLOC] = "alloc",
	[WW_FREE] = "free",
	[WW_ALLOC_BLOCK] = "alloc_block",
	[WW_FREE_BLOCK] = "free_block",
	[WW_FREE_AFTER] = "free_after_writeback",
};

/* A huge page's worth: what a detector does for a free may depend on the order. */
#define BLOCK_ORDER 9

static u32 *samples[WW_CASES];
/* Which of them are measured, by reads=. */
static bool is_measured(unsigned int which)
{
	switch (which) {
	case WW_NOTHING:
	case WW_NOPS_100:
	case WW_LOOP_1000:
	case WW_END_READ:
	case WW_END_READ_WAKE:
		return true;
	case WW_END_READ_WAITER:
	case WW_UNLOCK:
		return reads;
	default:
		return !reads;
	}
}

static u64 writes[WRITES];
static u64 cold[WRITES];
static u64 cold_random[WRITES];
static struct file *file;
static struct folio *folio;
static DEFINE_MUTEX(lock);
static bool measured;
/* The task that waits for writeback, or for a read, where somebody must. */
static struct task_struct *waiter;
static DECLARE_COMPLETION(go);
static DECLARE_COMPLETION(done);
static struct dentry *dir;

#define MEASURE(which, n, call)						\
	do {								\
		u64 begin, end;						\
									\
		barrier();						\
		begin = rdtsc();					\
		call;							\
		end = rdtsc();						\
		barrier();						\
		if ((n) >= WARM_UP)					\
			samples[which][(n) - WARM_UP] = end - begin;	\
	} while (0)

/* Writeback begins as it must: with the folio locked. */
static void start_writeback(struct folio *f)
{
	folio_lock(f);
	folio_start_writeback(f);
	folio_unlock(f);
}

static void run_writeback(unsigned int n)
{
	folio_lock(folio);
	MEASURE(WW_START, n, folio_start_writeback(folio));
	folio_unlock(folio);
	MEASURE(WW_END, n, folio_end_writeback(folio));

	/* A stale PG_waiters: the wake finds nobody. */
	start_writeback(folio);
	folio_set_waiters(folio);
	MEASURE(WW_END_WAKE, n, folio_end_writeback(folio));

	/* With one CPU the waiter is off it, and waits, when its flag can be seen. */
	start_writeback(folio);
	complete(&go);
	while (!folio_test_waiters(folio))
		schedule_timeout_uninterruptible(1);
	MEASURE(WW_END_WAITER, n, folio_end_writeback(folio));
	wait_for_completion(&done);
}

static int wait_again_and_again(void *unused)
{
	for (;;) {
		wait_for_completion_interruptible(&go);
		if (kthread_should_stop())
			return 0;
		if (reads)
			folio_wait_locked(folio);
		else
			folio_wait_writeback(folio);
		complete(&done);
	}
}

/*
 * A wake for a bit whose clearing nobody watches by default: what the hook on
 * folio_wake_bit() costs by itself.
 */
static void run_wake(unsigned int n)
{
	folio_lock(folio);
	folio_set_waiters(folio);
	MEASURE(WW_WAKE, n, folio_unlock(folio));
}

static void run_read(unsigned int n)
{
	folio_lock(folio);
	folio_clear_uptodate(folio);
	MEASURE(WW_END_READ, n, folio_end_read(folio, true));

	folio_lock(folio);
	folio_clear_uptodate(folio);
	folio_set_waiters(folio);
	MEASURE(WW_END_READ_WAKE, n, folio_end_read(folio, true));

	if (!reads)
		return;
	folio_lock(folio);
	folio_clear_uptodate(folio);
	complete(&go);
	while (!folio_test_waiters(folio))
		schedule_timeout_uninterruptible(1);
	MEASURE(WW_END_READ_WAITER, n, folio_end_read(folio, true));
	wait_for_completion(&done);

	folio_lock(folio);
	MEASURE(WW_UNLOCK, n, folio_unlock(folio));
}

static int run_alloc(unsigned int n)
{
	struct page *page;

	MEASURE(WW_ALLOC, n, page = alloc_pages(GFP_KERNEL, 0));
	if (!page)
		return -ENOMEM;
	MEASURE(WW_FREE, n, __free_pages(page, 0));

	MEASURE(WW_ALLOC_BLOCK, n, page = alloc_pages(GFP_KERNEL, BLOCK_ORDER));
	if (!page)
		return -ENOMEM;
	MEASURE(WW_FREE_BLOCK, n, __free_pages(page, BLOCK_ORDER));

	/* What a detector still remembers is a page freed right after its writeback. */
	page = alloc_pages(GFP_KERNEL, 0);
	if (!page)
		return -ENOMEM;
	start_writeback(page_folio(page));
	folio_end_writeback(page_folio(page));
	MEASURE(WW_FREE_AFTER, n, __free_pages(page, 0));
	return 0;
}

/* Calibration: instruction counts that everybody can check. */
static void run_known(unsigned int n)
{
	unsigned long count = 1000;

	MEASURE(WW_NOTHING, n, barrier());
	MEASURE(WW_NOPS_100, n, asm volatile(".rept 100; nop; .endr"));
	/* 2000 instructions: a decrement and a jump, a thousand times. */
	MEASURE(WW_LOOP_1000, n,
		asm volatile("1: dec %0; jnz 1b" : "+r" (count) : : "cc"));
}

/*
 * The writer's view: what it costs to write a file and have it on the disk, by
 * whatever tasks. The disk is memory and there is one CPU, so that hardly a tick
 * goes by that is no instruction.
 */
static int run_write(unsigned int n)
{
	const size_t chunk = 1 << 20;
	/* Behind the page that the other cases are about. */
	loff_t pos = chunk;
	u64 begin, end;
	unsigned int i;
	ssize_t ret;
	void *data;

	data = kvzalloc(chunk, GFP_KERNEL);
	if (!data)
		return -ENOMEM;
	begin = rdtsc();
	for (i = 0; i < mb; i++) {
		ret = kernel_write(file, data, chunk, &pos);
		if (ret != chunk) {
			kvfree(data);
			return ret < 0 ? ret : -ENOSPC;
		}
	}
	ret = vfs_fsync(file, 0);
	end = rdtsc();
	kvfree(data);
	/* The first one allocates blocks and page cache. */
	if (n)
		writes[n - 1] = end - begin;
	return ret;
}

/*
 * The reader's view: what it costs to read a file that is not in the page cache,
 * by whatever tasks. With readahead, or page by page, where the reader has to
 * wait for each.
 */
static int run_cold(unsigned int size, bool random, u64 *ticks)
{
	const size_t chunk = random ? PAGE_SIZE : 1 << 20;
	const loff_t start = 1 << 20, end_pos = start + ((loff_t)size << 20);
	loff_t pos = start;
	u64 begin, end;
	ssize_t ret;
	void *data;

	data = kvzalloc(chunk, GFP_KERNEL);
	if (!data)
		return -ENOMEM;
	invalidate_mapping_pages(file->f_mapping, start >> PAGE_SHIFT, (end_pos - 1) >> PAGE_SHIFT);
	spin_lock(&file->f_lock);
	if (random)
		file->f_mode |= FMODE_RANDOM;
	else
		file->f_mode &= ~FMODE_RANDOM;
	spin_unlock(&file->f_lock);
	begin = rdtsc();
	while (pos < end_pos) {
		ret = kernel_read(file, data, chunk, &pos);
		if (ret != chunk) {
			kvfree(data);
			pr_err("ww_driver: read %zd bytes at %lld\n", ret, pos);
			return ret < 0 ? ret : -EIO;
		}
	}
	end = rdtsc();
	kvfree(data);
	*ticks = end - begin;
	return 0;
}

/*
 * How many locked instructions a call executes, by taking it step by step. With
 * interrupts off: what is stepped through is the call and nothing else.
 */
static bool stepping;
static u32 locked[WW_CASES];
static u32 locked_now;

static bool is_locked(const u8 *insn)
{
	/* With one CPU the kernel has made DS of its LOCK prefixes. Before a jump that is NOTRACK. */
	if (insn[0] == 0xf0 || (insn[0] == 0x3e && (insn[1] != 0xff || (insn[2] & 0x38) < 0x10)))
		return true;
	/* xchg is locked by itself, if it is for memory. */
	if ((insn[0] & 0xf0) == 0x40)
		insn++;
	return (insn[0] == 0x86 || insn[0] == 0x87) && insn[1] < 0xc0;
}

static int step(struct notifier_block *unused, unsigned long what, void *data)
{
	struct die_args *args = data;
	unsigned long *dr6 = ERR_PTR(args->err);

	if (what != DIE_DEBUG || !stepping || !(*dr6 & DR_STEP))
		return NOTIFY_DONE;
	if (is_locked((const u8 *)args->regs->ip))
		locked_now++;
	*dr6 &= ~DR_STEP;
	return NOTIFY_STOP;
}

static struct notifier_block steps = {
	.notifier_call = step,
};

#define COUNT_LOCKED(which, call)					\
	do {								\
		unsigned long irqs;					\
									\
		local_irq_save(irqs);					\
		locked_now = 0;						\
		stepping = true;					\
		/* The first trap is behind the next instruction. */	\
		asm volatile("pushf; orq %0, (%%rsp); popf; nop"	\
			     : : "i" (X86_EFLAGS_TF) : "memory", "cc");	\
		call;							\
		asm volatile("pushf; andq %0, (%%rsp); popf"		\
			     : : "i" (~X86_EFLAGS_TF) : "memory", "cc");	\
		stepping = false;					\
		locked[which] = locked_now;				\
		local_irq_restore(irqs);				\
	} while (0)

static int count_locked(void)
{
	atomic_t known = ATOMIC_INIT(0);
	int err;

	err = register_die_notifier(&steps);
	if (err)
		return err;
	COUNT_LOCKED(WW_NOTHING, barrier());
	COUNT_LOCKED(WW_LOOP_1000, (atomic_inc(&known), atomic_xchg(&known, 1)));

	folio_lock(folio);
	folio_clear_uptodate(folio);
	COUNT_LOCKED(WW_END_READ, folio_end_read(folio, true));

	folio_lock(folio);
	folio_clear_uptodate(folio);
	folio_set_waiters(folio);
	COUNT_LOCKED(WW_END_READ_WAKE, folio_end_read(folio, true));

	folio_lock(folio);
	folio_clear_uptodate(folio);
	complete(&go);
	while (!folio_test_waiters(folio))
		schedule_timeout_uninterruptible(1);
	COUNT_LOCKED(WW_END_READ_WAITER, folio_end_read(folio, true));
	wait_for_completion(&done);

	folio_lock(folio);
	COUNT_LOCKED(WW_UNLOCK, folio_unlock(folio));
	unregister_die_notifier(&steps);
	/* An increment and an exchange are two. */
	if (locked[WW_NOTHING] == 0 && locked[WW_LOOP_1000] == 2)
		return 0;
	pr_err("ww_driver: %u locked instructions in nothing, %u in two\n",
	       locked[WW_NOTHING], locked[WW_LOOP_1000]);
	return -EIO;
}

static int measure_reads(void)
{
	unsigned int n;
	int err;

	/* There is something to be read. */
	err = run_write(0);
	for (n = 0; !err && n < WRITES; n++) {
		err = run_cold(mb, false, &cold[n]);
		if (!err)
			err = run_cold(RANDOM_MB, true, &cold_random[n]);
	}
	for (n = 0; !err && n < WARM_UP + calls; n++) {
		run_known(n);
		run_read(n);
		if (n % 64 == 0)
			cond_resched();
	}
	return err ?: count_locked();
}

static int compare_u64(const void *a, const void *b)
{
	u64 x = *(const u64 *)a, y = *(const u64 *)b;

	return x < y ? -1 : x > y;
}

static int compare(const void *a, const void *b)
{
	u32 x = *(const u32 *)a, y = *(const u32 *)b;

	return x < y ? -1 : x > y;
}

static int measure_writes(void)
{
	unsigned int n;
	int err;

	/* The kernel's bookkeeping of a device's bandwidth is in full swing after it. */
	err = run_write(0);
	if (err)
		return err;
	for (n = 0; n < WARM_UP + calls; n++) {
		run_known(n);
		run_writeback(n);
		run_wake(n);
		run_read(n);
		err = run_alloc(n);
		if (err)
			return err;
		if (n % 64 == 0)
			cond_resched();
	}
	for (n = 1; n <= WRITES; n++) {
		err = run_write(n);
		if (err)
			return err;
	}
	return 0;
}

static int measure(void)
{
	unsigned int i;
	int err;

	err = reads ? measure_reads() : measure_writes();
	if (err)
		return err;
	for (i = 0; i < WW_CASES; i++)
		sort(samples[i], calls, sizeof(u32), compare, NULL);
	sort(writes, WRITES, sizeof(u64), compare_u64, NULL);
	sort(cold, WRITES, sizeof(u64), compare_u64, NULL);
	sort(cold_random, WRITES, sizeof(u64), compare_u64, NULL);
	return 0;
}

static ssize_t run_store(struct file *unused, const char __user *buf, size_t len, loff_t *pos)
{
	int err;

	err = mutex_lock_interruptible(&lock);
	if (err)
		return err;
	err = measure();
	measured = !err;
	mutex_unlock(&lock);
	return err ?: len;
}

static void show_whole(struct seq_file *m, const char *what, unsigned int size, const u64 *w)
{
	seq_printf(m, "%s_%u_mb min=%llu p10=%llu median=%llu p90=%llu max=%llu calls=%u\n",
		   what, size, w[0], w[WRITES / 10], w[WRITES / 2],
		   w[WRITES - 1 - WRITES / 10], w[WRITES - 1], WRITES);
}

static int run_show(struct seq_file *m, void *unused)
{
	unsigned int i;

	mutex_lock(&lock);
	if (measured) {
		for (i = 0; i < WW_CASES; i++) {
			const u32 *s = samples[i];

			if (!is_measured(i))
				continue;
			seq_printf(m, "%s min=%u p10=%u median=%u p90=%u max=%u calls=%u\n",
				   names[i], s[0], s[calls / 10], s[calls / 2],
				   s[calls - 1 - calls / 10], s[calls - 1], calls);
		}
		if (reads) {
			for (i = 0; i < WW_CASES; i++) {
				if (is_measured(i) && i != WW_NOPS_100)
					seq_printf(m, "locked_%s min=%u p10=%u median=%u p90=%u max=%u calls=1\n",
						   names[i], locked[i], locked[i], locked[i],
						   locked[i], locked[i]);
			}
			show_whole(m, "read", mb, cold);
			show_whole(m, "read_random", RANDOM_MB, cold_random);
		} else {
			show_whole(m, "write", mb, writes);
		}
	}
	mutex_unlock(&lock);
	return 0;
}

static int run_open(struct inode *inode, struct file *file)
{
	return single_open(file, run_show, NULL);
}

static const struct file_operations run_fops = {
	.owner = THIS_MODULE,
	.open = run_open,
	.read = seq_read,
	.write = run_store,
	.llseek = seq_lseek,
	.release = single_release,
};

static void free_samples(void)
{
	unsigned int i;

	for (i = 0; i < WW_CASES; i++)
		kvfree(samples[i]);
}

static int __init ww_driver_init(void)
{
	unsigned int i;

	if (!path || !calls || calls > 1000000) {
		pr_err("ww_driver: path=FILE is wanted, and calls=1..1000000\n");
		return -EINVAL;
	}
	for (i = 0; i < WW_CASES; i++) {
		samples[i] = kvcalloc(calls, sizeof(u32), GFP_KERNEL);
		if (!samples[i]) {
			free_samples();
			return -ENOMEM;
		}
	}
	file = filp_open(path, O_RDWR | O_LARGEFILE, 0);
	if (IS_ERR(file)) {
		free_samples();
		return PTR_ERR(file);
	}
	folio = read_mapping_folio(file->f_mapping, 0, file);
	if (IS_ERR(folio)) {
		fput(file);
		free_samples();
		return PTR_ERR(folio);
	}
	/* The file may have been written just now. */
	folio_wait_writeback(folio);
	waiter = kthread_run(wait_again_and_again, NULL, "ww_waiter");
	if (IS_ERR(waiter)) {
		folio_put(folio);
		fput(file);
		free_samples();
		return PTR_ERR(waiter);
	}
	dir = debugfs_create_dir("ww_driver", NULL);
	debugfs_create_file("run", 0600, dir, NULL, &run_fops);
	/* What ww_bench.bt is to be given: bpftrace has no page_to_pfn(). */
	pr_info("ww_driver: bpftrace %lu %zu\n", (unsigned long)vmemmap / sizeof(struct page),
		sizeof(struct page));
	return 0;
}

static void __exit ww_driver_exit(void)
{
	debugfs_remove(dir);
	kthread_stop(waiter);
	folio_put(folio);
	fput(file);
	free_samples();
}

module_init(ww_driver_init);
module_exit(ww_driver_exit);
MODULE_DESCRIPTION("Calls what wakewatch hooks and counts what that costs");
MODULE_LICENSE("GPL");
