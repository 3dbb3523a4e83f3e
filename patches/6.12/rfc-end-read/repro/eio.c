// SPDX-License-Identifier: GPL-2.0
/*
 * eio delay.ko, in a folder on ext4 with blocks of 1 KB: reads a healthy file, and counts the
 * reads that fail. The end of another file's reads is late, by delay.ko, and what is read gets its
 * pages. I/O has to complete on CPU 0.
 */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PAGE = 4096, PAGES = 32, CALLS = 400 };
static int a, b;
static atomic_int at;

static int file(const char *name, int pages)
{
	static char data[PAGE];
	int fd = open(name, O_RDWR | O_CREAT | O_TRUNC, 0644);

	for (int n = 0; n < pages; n++)
		if (pwrite(fd, data, PAGE, (off_t)n * PAGE) != PAGE)
			err(1, "%s", name);
	fsync(fd);
	posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
	return fd;
}

static void *read_a(void *unused)
{
	static char buf[PAGE];

	for (;; at = (at + 1) % PAGES)
		if (pread(a, buf, PAGE, (off_t)at * PAGE) != PAGE)
			err(1, "a");
	return unused;
}

int main(int argc, char **argv)
{
	struct sched_param fifo = { 1 };
	static char buf[PAGE];
	char cmd[4096], *map;
	unsigned char in;
	pthread_t reader;
	struct stat st;
	int failed = 0;
	ssize_t got;
	cpu_set_t cpu;

	if (argc != 2)
		errx(1, "usage: eio delay.ko");
	a = file("a", PAGES);
	b = file("b", CALLS);
	map = mmap(NULL, PAGES * PAGE, PROT_READ, MAP_SHARED, a, 0);
	fstat(a, &st);
	snprintf(cmd, sizeof(cmd), "insmod %s ino=%lu", argv[1], (unsigned long)st.st_ino);
	if (system(cmd))
		return 1;
	CPU_ZERO(&cpu);
	CPU_SET(1, &cpu);
	sched_setaffinity(0, sizeof(cpu), &cpu);
	pthread_create(&reader, NULL, read_a, NULL);
	sched_setscheduler(0, SCHED_FIFO, &fifo);
	for (int n = 0; n < CALLS; n++) {
		do
			usleep(200);
		while (mincore(map + at * PAGE, PAGE, &in) || !(in & 1));
		posix_fadvise(a, 0, 0, POSIX_FADV_DONTNEED);
		/* One block: the page is there, unlocked, and not uptodate. In a's memory. */
		if (pwrite(b, buf, 1024, (off_t)n * PAGE) != 1024)
			err(1, "b");
		got = pread(b, buf, PAGE, (off_t)n * PAGE);
		if (got < 0 && errno == EIO)
			failed++;
		else if (got != PAGE)
			err(1, "b");
	}
	printf("%d of %d reads said EIO\n", failed, CALLS);
	/* It is healthy. */
	for (int n = 0; n < CALLS; n++)
		if (pread(b, buf, PAGE, (off_t)n * PAGE) != PAGE)
			err(1, "b, again");
	return system("rmmod delay");
}
