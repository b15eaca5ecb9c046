// SPDX-License-Identifier: Apache-2.0
/*
 * Load for the benchmarks and the loss tests: a known number of opens or execs, flat out or at a
 * set rate, under a user id of its own so that a tracer can select exactly these events
 * (--uid in a gadget that includes filter.h). Linked statically: no loader opens a library behind
 * its back. Prints one JSON object with what it produced.
 *
 *   load open|exec COUNT [RATE_PER_SECOND|0 [UID [THREADS [PATH]]]]
 *
 * PATH is the file that "open" opens, /dev/null by default.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define DEFAULT_UID 61234
#define MAX_THREADS 64
#define NSEC_PER_SEC 1000000000ULL

struct share {
	unsigned long long count;
	double rate;
	unsigned long long produced;
	int (*once)(void);
};

static unsigned long long now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * NSEC_PER_SEC + ts.tv_nsec;
}

static const char *open_path = "/dev/null";

static int open_once(void)
{
	int fd = syscall(SYS_openat, AT_FDCWD, open_path, O_RDONLY | O_CLOEXEC, 0);

	if (fd < 0)
		return -1;
	close(fd);
	return 0;
}

static char self_path[4096];

static int exec_once(void)
{
	char *const argv[] = {self_path, "nop", NULL};
	char *const envp[] = {NULL};
	int status;
	pid_t pid = vfork();

	if (pid < 0)
		return -1;
	if (pid == 0) {
		execve(self_path, argv, envp);
		_exit(127);
	}
	if (waitpid(pid, &status, 0) != pid)
		return -1;
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -1;
}

static void *work(void *arg)
{
	struct share *share = arg;
	unsigned long long start = now();

	for (unsigned long long i = 0; i < share->count; i++) {
		if (share->rate > 0) {
			unsigned long long due = start + (unsigned long long)(i / share->rate * NSEC_PER_SEC);
			unsigned long long t = now();

			if (due > t) {
				struct timespec wait = {(due - t) / NSEC_PER_SEC, (due - t) % NSEC_PER_SEC};

				nanosleep(&wait, NULL);
			}
		}
		if (share->once() == 0)
			share->produced++;
	}
	return NULL;
}

int main(int argc, char **argv)
{
	struct share shares[MAX_THREADS] = {};
	pthread_t threads[MAX_THREADS];
	unsigned long long count, begin, produced = 0;
	struct rusage usage;
	double rate = 0, seconds;
	long uid = DEFAULT_UID;
	int nthreads = 1;
	ssize_t len;

	if (argc == 2 && !strcmp(argv[1], "nop"))
		return 0;
	if (argc < 3 || (strcmp(argv[1], "open") && strcmp(argv[1], "exec"))) {
		fprintf(stderr, "usage: load open|exec COUNT [RATE|0 [UID [THREADS [PATH]]]]\n");
		return 2;
	}
	count = strtoull(argv[2], NULL, 10);
	if (argc > 3)
		rate = strtod(argv[3], NULL);
	if (argc > 4)
		uid = strtol(argv[4], NULL, 10);
	if (argc > 5)
		nthreads = atoi(argv[5]);
	if (argc > 6)
		open_path = argv[6];
	if (nthreads < 1 || nthreads > MAX_THREADS) {
		fprintf(stderr, "load: THREADS must be 1 to %d\n", MAX_THREADS);
		return 2;
	}

	len = readlink("/proc/self/exe", self_path, sizeof(self_path) - 1);
	if (len < 0) {
		perror("load: /proc/self/exe");
		return 1;
	}
	self_path[len] = 0;
	if (setresuid(uid, uid, uid)) {
		perror("load: setresuid");
		return 1;
	}

	begin = now();
	for (int i = 0; i < nthreads; i++) {
		shares[i].count = count / nthreads + (i < (int)(count % nthreads));
		shares[i].rate = rate / nthreads;
		shares[i].once = argv[1][0] == 'o' ? open_once : exec_once;
		errno = pthread_create(&threads[i], NULL, work, &shares[i]);
		if (errno) {
			perror("load: pthread_create");
			return 1;
		}
	}
	for (int i = 0; i < nthreads; i++) {
		pthread_join(threads[i], NULL);
		produced += shares[i].produced;
	}
	seconds = (now() - begin) / 1e9;
	getrusage(RUSAGE_SELF, &usage);
	printf("{\"load\":\"%s\",\"produced\":%llu,\"seconds\":%.6f,\"per_second\":%.0f,"
	       "\"cpu_seconds\":%.6f}\n",
	       argv[1], produced, seconds, produced / seconds,
	       usage.ru_utime.tv_sec + usage.ru_utime.tv_usec / 1e6 + usage.ru_stime.tv_sec +
		       usage.ru_stime.tv_usec / 1e6);
	return produced == count ? 0 : 1;
}
